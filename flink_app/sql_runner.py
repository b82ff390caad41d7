"""Runs a file of SQL statements as one Flink job: `sql_runner.py FILE`, in the image through Flink's PythonDriver.

It must not know Headrace: the standard library, pyflink and the modules beside it that read scripts are all that it
may import. pyflink is imported where it is used: what refuses a script needs no Flink.

A script is statements that end with `;`, exactly one of which starts a job: an INSERT or a statement set, since an
application on Kubernetes may run one job and no more. `SET` and `RESET` change the job's settings, by the rules that
the variable HEADRACE_SQL_SETTINGS has, where it is there; a SET of 'execution.runtime-mode' stands before all else. In
strings, `${HEADRACE_OUTPUT}` is the value of that environment variable, and `${env:NAME}` that of any: a password comes
so from a Secret, and stands in no script. A value that came so is left out of what is printed. There are no other
variables.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from flink_app.flink_sql import (
    RUNTIME_MODE,
    Kind,
    ScriptError,
    SettingRules,
    Statement,
    check,
    key_to_reset,
    runtime_mode,
    setting,
    statements,
)

SETTING_RULES = "HEADRACE_SQL_SETTINGS"
UID_GENERATION = "table.exec.uid.generation"
DRIVER_PORT = "PYFLINK_GATEWAY_PORT"  # PythonDriver sets it: the JVM that it names goes on after this process
REASON_CHARACTERS = 600

USER_INFO = re.compile(r"(?<=//)[^/@\s']+@")
JAVA_EXCEPTION = re.compile(r"(?:Caused by: |: )?((?:\w+\.)+[\w$]+)(?:: (.*))?$")
JAVA_FRAME = re.compile(r"\t+(at |\.\.\. |Suppressed: |Caused by: )")
FLINKS_OWN = ("org.apache.flink.", "org.apache.calcite.")


class Runner:
    """Gives a script's statements to a table environment of pyflink, one after the other."""

    def __init__(self, table: Any, *, waits: bool) -> None:
        self._table = table
        self._waits = waits

    def run(self, script: Sequence[Statement]) -> None:
        """Up to the submission of the job, or to its end."""
        secrets = secrets_of(script)
        for statement in script:
            place = f"statement {statement.number} of {len(script)}, line {statement.line}"
            print(f"running {place}: {statement.shown()}", flush=True)
            with explained(statement, secrets):
                self._run_one(statement, secrets)

    def _run_one(self, statement: Statement, secrets: set[str]) -> None:
        if statement.kind is Kind.SET:
            self._table.get_config().set(*setting(statement))
        elif statement.kind is Kind.RESET:
            self._reset(key_to_reset(statement))
        elif statement.kind is Kind.END:
            return
        elif statement.is_statement_set:
            self._job(self._together(statement.inserts, secrets).execute())
        else:
            result = self._table.execute_sql(statement.sql())
            if statement.kind is Kind.JOB:
                self._job(result)

    def _reset(self, key: str) -> None:
        """Back to what the cluster's configuration says: pyflink's own TableConfig can only set."""
        self._table.get_config().get_configuration().remove_config(key)

    def _together(self, inserts: Sequence[Statement], secrets: set[str]) -> Any:
        """A statement set of pyflink. Each INSERT is validated when it is added, and so blamed by its own line."""
        together = self._table.create_statement_set()
        for insert in inserts:
            with explained(insert, secrets):
                together.add_insert_sql(insert.sql())
        return together

    def _job(self, result: Any) -> None:
        if self._waits:
            result.wait()


@contextmanager
def explained(statement: Statement, secrets: set[str]) -> Iterator[None]:
    """Turns what Flink raises into a ScriptError that names the statement."""
    try:
        yield
    except ScriptError:
        raise
    except Exception as error:
        trace = str(error) or type(error).__name__
        raise ScriptError(f"{statement.place}: {reason(without(secrets, trace))}") from error


def secrets_of(script: Sequence[Statement]) -> set[str]:
    return {secret for statement in script for secret in statement.secrets()}


def without(secrets: set[str], text: str) -> str:
    """The text as it may be printed. A secret may stand in it as its value, or as the script writes it."""
    written = {secret.replace("'", "''") for secret in secrets}
    for secret in sorted(secrets | written, key=len, reverse=True):
        text = text.replace(secret, "…")
    return USER_INFO.sub("…@", text)


def reason(trace: str) -> str:
    """A Java stack trace in one line: what failed, and the root cause where that says more."""
    chain = causes(trace) or [Cause("", trace)]
    what = next((cause.headline for cause in chain if cause.message), "")
    why = chain[-1].told
    said = what if not why or why in what else f"{what.rstrip('.')}: {why}" if what else why
    return said if len(said) <= REASON_CHARACTERS else said[: REASON_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Cause:
    """One exception of a Java stack trace."""

    name: str
    message: str

    @property
    def headline(self) -> str:
        """Its first paragraph: those that follow list a table's options."""
        text = one_line(self.message.partition("\n\n")[0])
        return re.sub(r"^(.*? failed\. )\1", r"\1", text)  # Flink says so twice

    @property
    def told(self) -> str:
        """All of it, by its class where the message alone might say little."""
        *_, simple_name = re.split(r"[.$]", self.name)
        text = one_line(self.message)
        return text if text and self.name.startswith(FLINKS_OWN) else f"{simple_name}: {text}".strip(": ")


def one_line(message: str) -> str:
    """Without what a person does not read: the parser's list of every keyword, the stack of a Python function."""
    text = message.partition("Was expecting")[0].strip()
    if "Traceback (most recent call last)" in text:
        text = text.splitlines()[-1]
    return " ".join(text.split())


def causes(trace: str) -> list[Cause]:
    """The trace's exceptions from the outermost to the root."""
    found: list[Cause] = []
    is_message = False
    for line in trace.splitlines():
        named = JAVA_EXCEPTION.match(line)
        if JAVA_FRAME.match(line):
            is_message = False
        elif named and (not found or line.startswith("Caused by: ")):
            found.append(Cause(named[1], named[2] or ""))
            is_message = True
        elif is_message:
            found[-1] = Cause(found[-1].name, f"{found[-1].message}\n{line}")
    return without_wrappers(found)


def without_wrappers(found: list[Cause]) -> list[Cause]:
    """The causes whose message is more than the next one's name and message again."""
    kept = [a for a, b in pairwise(found) if not a.message.startswith(b.name)]
    return kept + found[-1:]


def table_environment(mode: str | None) -> Any:
    """A table environment of pyflink in the mode that the script asks for, or else the cluster's configuration."""
    from pyflink.table import EnvironmentSettings, TableEnvironment

    if mode is None:  # an environment in no mode in particular shows what is configured, but does not heed it
        unsaid = TableEnvironment.create(EnvironmentSettings.new_instance().build())
        mode = unsaid.get_config().get(RUNTIME_MODE, "streaming").lower()
    settings = EnvironmentSettings.new_instance()
    settings = settings.in_batch_mode() if mode == "batch" else settings.in_streaming_mode()
    table = TableEnvironment.create(settings.build())
    give_steps_lasting_names(table.get_config())
    return table


def give_steps_lasting_names(config: Any) -> None:
    """So that a savepoint fits the same script at another parallelism: Flink's own names depend on how steps are
    chained, and that on the parallelism. Whoever configures the option has the word."""
    if not config.get(UID_GENERATION, ""):
        config.set(UID_GENERATION, "ALWAYS")


def run(file: Path) -> None:
    """Runs the script; raises ScriptError where it does not."""
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except OSError as error:
        raise ScriptError(f"script {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScriptError(f"script {file} cannot be read: it is not UTF-8 text") from None
    script = statements(text, os.environ)
    rules = os.environ.get(SETTING_RULES)
    try:
        check(script, SettingRules.from_json(rules) if rules else None)
    except ScriptError as error:
        raise ScriptError(without(secrets_of(script), str(error))) from None
    # Started by hand, Flink lives inside this process and dies with it. Under the driver it goes on by itself.
    Runner(table_environment(runtime_mode(script)), waits=DRIVER_PORT not in os.environ).run(script)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sql_runner.py", description="Runs a file of SQL statements as a Flink job.")
    parser.add_argument("file", type=Path, help="the script")
    parser.add_argument("ignored", nargs="*", help="a script takes no arguments")
    try:
        run(parser.parse_args(arguments).file)
    except ScriptError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
