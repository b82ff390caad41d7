"""Runs a file of SQL statements as one Flink job: `sql_runner.py FILE`, in the image through Flink's PythonDriver.

It must not know Headrace: the standard library and pyflink are all that it may import, so that one file is the whole
program. pyflink is imported where it is used: what reads a script needs no Flink.

A script is statements that end with `;`, exactly one of which starts a job: an INSERT or a statement set, since an
application on Kubernetes may run one job and no more. `SET` and `RESET` change the job's settings; a SET of
'execution.runtime-mode' stands before all else. In strings, `${HEADRACE_OUTPUT}` is the value of that environment
variable, and `${env:NAME}` that of any: a password comes so from a Secret, and stands in no script. Where it is printed
in a reason, a value that came so is left out. There are no other variables.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Any

OUTPUT = "HEADRACE_OUTPUT"
VARIABLE = f"${{{OUTPUT}}}"
FROM_ENVIRONMENT = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
RUNTIME_MODE = "execution.runtime-mode"
UID_GENERATION = "table.exec.uid.generation"
DRIVER_PORT = "PYFLINK_GATEWAY_PORT"  # PythonDriver sets it: the JVM that it names goes on after this process
SHOWN_CHARACTERS = 80
REASON_CHARACTERS = 600

# As Flink's parser sees them: `//` begins a comment too, and a hint (`/*+ … */`) is none: its strings are strings.
# `(?!')` keeps a string that has no end from ending at the first half of a doubled quote.
TOKEN = re.compile(
    r"""
      (?P<comment> (?:--|//)[^\n]* | /\*(?!\+).*?\*/ )
    | (?P<space>   \s+ )
    | (?P<string>  '[^']*(?:''[^']*)*'(?!') )
    | (?P<name>    `[^`]*(?:``[^`]*)*`(?!`) )
    | (?P<word>    \w+ )
    | (?P<open>    '|`|/\*(?!\+) )
    | (?P<mark>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
OPENED = {"'": "the string", "`": "the quoted name", "/*": "the comment"}
# What an option is called that holds a secret, in lower case with its words apart. The control plane, which refuses
# such options, has the same list (headrace/domain/secrets.py); a test holds the two equal.
NAMES_OF_SECRETS = (
    r"\b(?:[a-z]*passw(?:or)?ds?|[a-z]*passphrases?|passcodes?|(?:db|pg|my|mysql|user)pass|pass(?= ?[0-9]*$)|[a-z]*pwd|"
    r"pw|[a-z]{2,5}pw|[a-z]*secrets?|(?:access|api|auth|bearer|bot|id|refresh|session)?tokens?|credentials?|creds?|jaas|"
    r"authorization|bearer|jwt|cookies?|signature|sig|"
    r"(?:access|account|admin|api|auth|client|decryption|deploy|encryption|function|license|master|private|registry|"
    r"secret|service|session|shared|signing|ssh|storage|subscription|webhook) ?keys?)\b"
    r"|\b(?:webhook|sas) ur[il]$"
)
DOUBTFUL_NAMES = (
    r"(?<!primary )(?<!partition )(?<!partitioning )(?<!routing )(?<!public )(?<!sort )(?<!group )(?<!hash )"
    r"(?<!foreign )(?<!row )(?<!message )(?<!join )(?<!cache )(?<!record )(?<!event )\bkeys?$|\bhmac$|\bsas$|\bauth$|"
    r"\bdsn$|\bjdbc(?: ur[il])?$|\b(?:connection|conn) (?:str|string|ur[il])$|\bsalt$|\bpin$|\botp$|\bpem$|\bheaders?$|"
    r"\b(?:database|db|redis|mongo|mongodb|postgres|postgresql|mysql|amqp|rabbitmq|broker|sentry|webhook) ?ur[il]$"
)
HARMLESS_ENDS = (
    r"\b(?:algorithms?|arns?|audience|backoff|budget|bucket|class|classes|class name|column|counts?|days|dir|directory|"
    r"disabled?|duration|enabled?|encoding|endpoint|expiration|expires|expiry|factory|fields?|files?|format|host|hours|"
    r"index|interval|issuer|len|length|lifetime|limits?|location|manager|max|method|millis|min|minutes|mode|ms|names?|"
    r"optional|parallelism|paths?|per [a-z]+|period|policy|port|position|prefix|providers?|ratio|refs?|reference|"
    r"renewal|required|rotation|scheme|scopes?|seconds|secs|size|strategy|suffix|threshold|timeout|ttl|types?|ur[il]s?|"
    r"validity|version|window)(?: [0-9]+)?$"
)
NO_SECRETS = (
    r"\b(?:avg|average|bos|cls|completion|context|continuation|end|eos|input|mask|max|min|n|new|next|num|number of|"
    r"output|pad|page|prompt|sep|special|start|stop|total|unk) tokens?\b|\b(?:kubernetes|pull) secrets?$"
)
ADDRESSES_OF_HOOKS = r"\b(?:webhook|sas) ur[il]$"
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
USER_INFO = re.compile(r"(?<=//)[^/@\s']+@")
JAVA_EXCEPTION = re.compile(r"(?:Caused by: |: )?((?:\w+\.)+[\w$]+)(?:: (.*))?$")
JAVA_FRAME = re.compile(r"\t+(at |\.\.\. |Suppressed: |Caused by: )")
FLINKS_OWN = ("org.apache.flink.", "org.apache.calcite.")


class ScriptError(Exception):
    """Why the script does not run: one line for people, with the place in the script that it is about."""


class Kind(Enum):
    """What a statement is to this program."""

    SET = "SET"
    RESET = "RESET"
    JOB = "starts a job"
    QUERY = "returns rows"
    OTHER = "anything else"


@dataclass(frozen=True)
class Token:
    """A piece of a statement that means something; `before` is the blanks and comments that lead to it, `filled` the
    values that came into it from the environment and may be secrets."""

    kind: str
    text: str
    line: int
    column: int
    before: str
    filled: frozenset[str] = frozenset()

    @property
    def value(self) -> str:
        """What a string or a quoted name says."""
        quote = self.text[0] if self.kind in ("string", "name") else ""
        return self.text[1:-1].replace(quote * 2, quote) if quote else self.text

    @property
    def shown(self) -> str:
        return "'…'" if self.kind == "string" else self.text


@dataclass(frozen=True)
class Statement:
    """One statement. A statement set is one, with `inserts` inside: they bear its number, and lines of their own."""

    number: int
    tokens: tuple[Token, ...]
    inserts: tuple["Statement", ...] = ()

    @property
    def line(self) -> int:
        return self.tokens[0].line

    @property
    def place(self) -> str:
        return f"statement {self.number}, line {self.line}"

    @property
    def words(self) -> list[str]:
        """As keywords are compared."""
        return words(self.tokens)

    @property
    def kind(self) -> Kind:
        return kind_of(self.words)

    @property
    def is_statement_set(self) -> bool:
        """Whether it runs as one; an EXPLAIN of a statement set does not."""
        return self.words[1:3] == ["STATEMENT", "SET"] and self.words[0] in ("BEGIN", "EXECUTE")

    def sql(self) -> str:
        """What Flink gets. It stands where it stands in the script, so that Flink's lines are the script's."""
        first, *rest = self.tokens
        padding = "\n" * (first.line - 1) + " " * first.column
        return padding + first.text + "".join(token.before + token.text for token in rest)

    def shown(self) -> str:
        """Its beginning as it may be printed: without comments and strings, either of which may hold a secret."""
        if self.kind is Kind.SET:  # its value need not be quoted
            return f"SET {setting(self)[0]} = …"
        text = "".join((" " if token.before else "") + token.shown for token in self.tokens).strip()
        return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"

    def secrets(self) -> set[str]:
        """The values of options that look secret, `'password' = 'these'`, and what came from the environment."""
        triples = zip(self.tokens, self.tokens[1:], self.tokens[2:], strict=False)
        options = [(key.value, value.value) for key, equals, value in triples if equals.text == "="]
        if self.kind is Kind.SET:
            options.append(setting(self))
        named = {value for key, value in options if value and may_be_secret(key, value)}
        return named.union(*(token.filled for token in self.tokens))


def looks_secret(name: str) -> bool:
    """Whether something of this name holds a secret. headrace/domain/secrets.py has the same."""
    said = re.sub(NO_SECRETS, "", words_of(name))
    is_named = re.search(NAMES_OF_SECRETS, said) and not re.search(HARMLESS_ENDS, said)
    return bool(re.search(ADDRESSES_OF_HOOKS, said) or is_named)


def may_be_secret(name: str, value: str) -> bool:
    """The same, and by doubt: what is printed can do without a value. A very short one would blot out other words."""
    return looks_secret(name) or (len(value) > 3 and bool(re.search(DOUBTFUL_NAMES, words_of(name))))


def words_of(name: str) -> str:
    return " ".join(re.findall(r"[a-z]+|[0-9]+", HUMP.sub(" ", name[-300:]).lower()))


SEMICOLON = Token("mark", ";", 0, 0, "")


def words(tokens: Iterable[Token]) -> list[str]:
    return [token.text.upper() for token in tokens]


def tokens(script: str, output: str | None) -> Iterator[Token]:
    """What the script consists of, with the variable's value in its strings."""
    before, line, line_start = "", 1, 0
    for found in TOKEN.finditer(script):
        kind, text = str(found.lastgroup), found.group()
        if kind == "open":
            raise ScriptError(f"line {line}: {OPENED[text]} that begins here has no end")
        if kind in ("comment", "space"):
            before += text
        else:
            means = filled_in(text, output, line) if kind == "string" else text
            filled = frozenset(values_of(text, line)) if kind == "string" else frozenset()
            yield Token(kind, means, line, found.start() - line_start, before, filled)
            before = ""
        if "\n" in text:
            line += text.count("\n")
            line_start = found.start() + text.rindex("\n") + 1


def filled_in(string: str, output: str | None, line: int) -> str:
    """The variables replaced by their values, whose quotes cannot end the string."""
    if VARIABLE in string and not output:
        raise ScriptError(f"line {line}: {VARIABLE} has no value: set {OUTPUT} in the job's environment")
    filled = string.replace(VARIABLE, (output or "").replace("'", "''"))
    return FROM_ENVIRONMENT.sub(lambda found: environment(found[1], line).replace("'", "''"), filled)


def values_of(string: str, line: int) -> Iterator[str]:
    return (value for found in FROM_ENVIRONMENT.finditer(string) if (value := environment(found[1], line)))


def environment(name: str, line: int) -> str:
    if name not in os.environ:
        raise ScriptError(f"line {line}: ${{env:{name}}} has no value: set {name} in the job's env or env_from")
    return os.environ[name]


def pieces(script: Iterable[Token]) -> Iterator[list[Token]]:
    """What stands between the `;`, without those that are empty."""
    piece: list[Token] = []
    for token in script:
        if token.text != ";":
            piece.append(token)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def statements(script: str, output: str | None = None) -> list[Statement]:
    """The script's statements in their order; raises ScriptError where it cannot be told where one ends."""
    found: list[Statement] = []
    waiting = pieces(tokens(script, output))
    for piece in waiting:
        number, inside = len(found) + 1, inside_of_set(words(piece))
        if inside is None:
            found.append(Statement(number, tuple(piece)))
        else:
            found.append(statement_set(number, piece, inside, waiting))
    return found


def inside_of_set(piece: list[str]) -> int | None:
    """Where the first INSERT of a statement set may begin, if the piece opens one."""
    if piece == ["BEGIN", "STATEMENT", "SET"]:
        return len(piece)
    return next((i for i in range(3, len(piece) + 1) if piece[i - 3 : i] == ["STATEMENT", "SET", "BEGIN"]), None)


def statement_set(number: int, opening: list[Token], inside: int, following: Iterator[list[Token]]) -> Statement:
    """The set that `opening` opens, with what follows it up to its END."""
    whole, inserts = list(opening), [opening[inside:]] if opening[inside:] else []
    for piece in following:
        whole += [SEMICOLON, *piece]
        if words(piece) == ["END"]:
            return Statement(number, tuple(whole), tuple(Statement(number, tuple(insert)) for insert in inserts))
        inserts.append(piece)
    raise ScriptError(f"statement {number}, line {opening[0].line}: the statement set that begins here has no END;")


def kind_of(said: list[str]) -> Kind:
    """By its first words, as Flink's grammar has them."""
    first = said[1] if said[0] == "EXECUTE" and len(said) > 1 else said[0]
    if first in ("SET", "RESET"):
        return Kind(first)
    if first in ("SELECT", "WITH", "VALUES", "TABLE", "("):
        return Kind.QUERY
    is_job = first in ("INSERT", "UPDATE", "DELETE", "ANALYZE", "STATEMENT", "PLAN")
    is_job |= said[:3] in (["BEGIN", "STATEMENT", "SET"], ["COMPILE", "AND", "EXECUTE"])
    return Kind.JOB if is_job or creates_and_fills(said) else Kind.OTHER


def creates_and_fills(said: list[str]) -> bool:
    """Whether it is a CREATE TABLE … AS SELECT, or a REPLACE: the AS of a computed column stands in parentheses."""
    what = next(dropwhile(lambda word: word in ("CREATE", "OR", "REPLACE", "TEMPORARY"), said), "")
    return said[0] in ("CREATE", "REPLACE") and what == "TABLE" and "AS" in outside_of_parentheses(said)


def outside_of_parentheses(said: Iterable[str]) -> Iterator[str]:
    depth = 0
    for word in said:
        depth += (word == "(") - (word == ")")
        if depth == 0:
            yield word


def setting(statement: Statement) -> tuple[str, str]:
    """The key and the value of `SET 'key' = 'value'`; neither need be quoted."""
    said = statement.tokens[1:]
    equals = words(said).index("=") if "=" in words(said) else 0
    key, value = said[:equals], said[equals + 1 :]
    if not key or not value:
        raise ScriptError(f"{statement.place}: a SET reads SET 'key' = 'value'")
    return joined(key), joined(value)


def key_to_reset(statement: Statement) -> str:
    """The key of `RESET 'key'`."""
    if len(statement.tokens) == 1:
        raise ScriptError(f"{statement.place}: a RESET reads RESET 'key'")
    return joined(statement.tokens[1:])


def joined(said: Sequence[Token]) -> str:
    return said[0].value + "".join(token.before + token.value for token in said[1:])


def runtime_mode(script: Sequence[Statement]) -> str | None:
    """`batch` or `streaming`, if the script says so. Flink takes it when the environment is made, and never later."""
    is_early, mode = True, None
    for statement in script:
        is_early &= statement.kind in (Kind.SET, Kind.RESET)
        if statement.kind is Kind.SET and setting(statement)[0] == RUNTIME_MODE:
            mode = setting(statement)[1].lower()
            check_runtime_mode(statement, mode, is_early)
    return mode


def check_runtime_mode(statement: Statement, mode: str, is_early: bool) -> None:
    if not is_early:
        raise ScriptError(f"{statement.place}: '{RUNTIME_MODE}' must be SET before any other statement")
    if mode not in ("batch", "streaming"):
        raise ScriptError(f"{statement.place}: '{RUNTIME_MODE}' is 'streaming' or 'batch', got '{mode}'")


def check(script: Sequence[Statement]) -> None:
    """Raises ScriptError for what can be told before anything runs."""
    if not script:
        raise ScriptError("the script holds no statement")
    for statement in script:
        check_one(statement)
    runtime_mode(script)
    jobs = [statement for statement in script if statement.kind is Kind.JOB]
    if not jobs:
        raise ScriptError("the script starts no job: it has no INSERT and no statement set")
    if len(jobs) > 1:
        raise ScriptError(
            f"{jobs[0].place} and {jobs[1].place} start a job each, and a script may start one: "
            "put the INSERTs between EXECUTE STATEMENT SET BEGIN and END;"
        )


def check_one(statement: Statement) -> None:
    if statement.kind is Kind.QUERY:
        raise ScriptError(f"{statement.place}: nobody would see the rows of a query: write INSERT INTO a table")
    if statement.kind is Kind.SET:
        setting(statement)
    if statement.kind is Kind.RESET:
        key_to_reset(statement)
    if statement.is_statement_set:
        check_inserts(statement)


def check_inserts(statement: Statement) -> None:
    if not statement.inserts:
        raise ScriptError(f"{statement.place}: the statement set is empty")
    for insert in statement.inserts:
        if insert.words[0] != "INSERT":
            raise ScriptError(f"{insert.place}: only INSERTs may stand in a statement set")


class Runner:
    """Gives a script's statements to a table environment of pyflink, one after the other."""

    def __init__(self, table: Any, *, waits: bool) -> None:
        self._table = table
        self._waits = waits

    def run(self, script: Sequence[Statement]) -> None:
        """Up to the submission of the job, or to its end."""
        secrets = {secret for statement in script for secret in statement.secrets()}
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
    script = statements(text, os.environ.get(OUTPUT))
    check(script)
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
