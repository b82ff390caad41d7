"""`headrace`: the commands. They translate, print and choose exit codes, and nothing else.

Exit codes: 0 done, 1 failure, 2 usage, 3 the job or its operation failed, 4 not found, 5 conflict, 124 time-out,
130 Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import connection, files, output
from headrace.cli.output import Format
from headrace.errors import Conflict, HeadraceError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from headrace.client import Client

FAILURE, USAGE, JOB_FAILED, NOT_FOUND, CONFLICT, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 5, 124, 130
POLL_SECONDS = 1.0
FAILED_PHASES = ("FAILED", "REJECTED")
DESCRIBED = (
    *(
        "job_id",
        "status",
        "reason",
        "next_step",
        "error",
        "desired",
        "observation",
        "observed_at",
        "run",
        "parallelism",
    ),
    *("flink_job_id", "namespace", "deployment_name", "template_id", "savepoint_path", "logs"),
)
EVENT_COLUMNS = ("at", "type", "reason", "object", "count", "message")
EXCEPTION_COLUMNS = ("at", "exception_name", "task_name", "endpoint", "task_manager_id")
OPERATION_COLUMNS = ("sequence", "kind", "state", "step", "accepted_at", "ended_at", "reason")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
templates_app = typer.Typer(no_args_is_help=True, help="What jobs are made from.")
app.add_typer(templates_app, name="templates")

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the operation's end.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait at most.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="Makes a repeated command one request.")]
JobId = Annotated[str, typer.Argument(help="The job's id.")]


class _Chosen:
    """The global flags, kept for the command that runs."""

    url: str | None = None
    api_key_file: Path | None = None
    data: Path | None = None


@app.callback()
def choose(
    url: Annotated[str | None, typer.Option(help="The API's address.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file with the API key.")] = None,
    data: Annotated[Path | None, typer.Option(help="The data folder of a local stack; HEADRACE_DATA too.")] = None,
) -> None:
    """Submit, scale and stop Flink jobs without losing their state."""
    _Chosen.url, _Chosen.api_key_file, _Chosen.data = url, api_key_file, data


Source = Annotated[
    str | None, typer.Argument(help="A Python or SQL file or a folder from your disk, or the URL of a script or jar.")
]
TemplateId = Annotated[str | None, typer.Option("--template", help="A registered template's id.")]
TemplateVersion = Annotated[int | None, typer.Option(help="A version of the template; the newest if not given.")]
Name = Annotated[str | None, typer.Option("--name", help="The job's id; made from the template's if not given.")]
Parallelism = Annotated[int | None, typer.Option(help="How many subtasks.")]
Args = Annotated[list[str] | None, typer.Option("--arg", help="An argument of the program; repeatable.")]
Env = Annotated[list[str] | None, typer.Option("--env", help="KEY=VALUE; repeatable.")]
Params = Annotated[list[str] | None, typer.Option("--param", help="A template's parameter, NAME=VALUE; repeatable.")]
Files = Annotated[list[Path] | None, typer.Option("--file", help="One more file beside the script; repeatable.")]
Main = Annotated[str | None, typer.Option("--main", help="The file of a folder that is run; main.py if not given.")]
MainClass = Annotated[str | None, typer.Option(help="The main class of a jar.")]
JarFiles = Annotated[list[str] | None, typer.Option("--jar-file", help="A jar's URL for the class path; repeatable.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="path=value, any field; repeatable.")]


@app.command()
def submit(
    source: Source = None,
    template: TemplateId = None,
    template_version: TemplateVersion = None,
    name: Name = None,
    parallelism: Parallelism = None,
    arg: Args = None,
    env: Env = None,
    param: Params = None,
    file: Files = None,
    main: Main = None,
    main_class: MainClass = None,
    jar_file: JarFiles = None,
    set_: Set = None,
    start_from: Annotated[str | None, typer.Option(help="`last`, or a savepoint's path.")] = None,
    wait: Wait = False,
    timeout: Timeout = 300,
    idempotency_key: Key = None,
    form: Output = Format.TABLE,
) -> None:
    """Submits a job: a program from your disk or of a URL, or a template."""
    config = _config(source, file, main, main_class, jar_file, parallelism, arg, env, set_)
    body = _submit_body(source, template, template_version, name, param, config)
    if start_from:
        body["start_from"] = start_from
    _report(_client().submit(body, idempotency_key), wait, timeout, form)


@app.command()
def render(
    source: Source = None,
    template: TemplateId = None,
    template_version: TemplateVersion = None,
    name: Name = None,
    parallelism: Parallelism = None,
    arg: Args = None,
    env: Env = None,
    param: Params = None,
    file: Files = None,
    main: Main = None,
    main_class: MainClass = None,
    jar_file: JarFiles = None,
    set_: Set = None,
) -> None:
    """Prints the FlinkDeployment that a submit would create, as YAML, and creates nothing."""
    config = _config(source, file, main, main_class, jar_file, parallelism, arg, env, set_)
    output.show_yaml(_client().render(_submit_body(source, template, template_version, name, param, config)))


@app.command("list")
def list_jobs(
    phase: Annotated[str | None, typer.Option(help="Only jobs in this phase.")] = None, form: Output = Format.TABLE
) -> None:
    """Lists the jobs."""
    found = list(_client().jobs(phase))
    if not found and form is Format.TABLE:
        output.say("no jobs yet: headrace submit ./job.py makes one")
        return
    output.show(found, form, ("job_id", "status", "run", "parallelism", "observation", "flink_job_id", "reason"))


@app.command()
def get(job_id: JobId, form: Output = Format.TABLE) -> None:
    """Shows one job."""
    columns = ("job_id", "status", "run", "parallelism", "observation", "flink_job_id", "savepoint_path")
    output.show(_client().job(job_id), form, columns)


@app.command()
def describe(job_id: JobId) -> None:
    """Shows all of a job: what it does, why, where its logs are, its operations and its history."""
    client = _client()
    job = client.job(job_id)
    for field in DESCRIBED:
        print(f"{field.replace('_', ' ') + ':':<18}{job[field] if job[field] not in (None, '') else '-'}")
    print("\noperations:")
    output.show(client.operations(job_id)[-10:], Format.TABLE, OPERATION_COLUMNS)
    print("\nhistory:")
    output.show(client.transitions(job_id)[-15:], Format.TABLE, ("at", "run", "from", "to", "gap", "reason"))


@app.command()
def wait(
    job_id: JobId,
    for_: Annotated[str, typer.Option("--for", help="The phase to wait for.")] = "RUNNING",
    timeout: Timeout = 300,
) -> None:
    """Waits until a job is in a phase; 3 where it failed instead, 124 where the time is over."""
    client, until = _client(), time.monotonic() + timeout
    while True:
        job = client.job(job_id)
        if job["status"] == for_.upper():
            print(job["status"])
            return
        if job["status"] in FAILED_PHASES:
            output.say(f"job {job_id} is {job['status']}: {job['reason']}")
            raise typer.Exit(JOB_FAILED)
        if time.monotonic() >= until:
            output.say(f"job {job_id} is {job['status']} after {timeout:.0f} s: {job['reason'] or 'no reason given'}")
            raise typer.Exit(TIMED_OUT)
        time.sleep(POLL_SECONDS)


@app.command()
def stop(
    job_id: JobId,
    force: Annotated[bool, typer.Option(help="End it even if its state cannot be kept.")] = False,
    wait: Wait = False,
    timeout: Timeout = 300,
    idempotency_key: Key = None,
    form: Output = Format.TABLE,
) -> None:
    """Stops a job and keeps its state."""
    _report(_client().stop(job_id, force, idempotency_key), wait, timeout, form)


@app.command()
def scale(
    job_id: JobId,
    parallelism: Annotated[int, typer.Option(help="The parallelism to have.")],
    wait: Wait = False,
    timeout: Timeout = 300,
    idempotency_key: Key = None,
    form: Output = Format.TABLE,
) -> None:
    """Scales a job: a savepoint, and a redeploy from it."""
    _report(_client().scale(job_id, parallelism, idempotency_key), wait, timeout, form)


@app.command()
def operations(job_id: JobId, form: Output = Format.TABLE) -> None:
    """Lists a job's operations."""
    output.show(_client().operations(job_id), form, OPERATION_COLUMNS)


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until its pod ends.")] = False,
    since: Annotated[str | None, typer.Option(help="Only lines of the last 90s, 5m, 2h or 1d.")] = None,
    tail: Annotated[int | None, typer.Option(help="So many lines from the end; 200 if not given.")] = None,
    component: Annotated[str | None, typer.Option(help="jobmanager, which is the default, or taskmanager.")] = None,
    pod: Annotated[str | None, typer.Option(help="One of the job's pods.")] = None,
    container: Annotated[str | None, typer.Option(help="One of its containers; Flink's own if not given.")] = None,
    previous: Annotated[bool, typer.Option("-p", "--previous", help="The container before its last restart.")] = False,
) -> None:
    """Prints what a job's pods printed; of a pod that is gone, what was kept."""
    given = {"since": since, "tail": tail, "component": component, "pod": pod, "container": container}
    query: dict[str, str | int] = {name: value for name, value in given.items() if value is not None}
    query |= {"previous": "true"} if previous else {}
    lines = _client().follow(job_id, query, output.say) if follow else _client().logs(job_id, query)
    for line in lines:
        print(line, flush=follow)


@app.command()
def events(job_id: JobId, form: Output = Format.TABLE) -> None:
    """Lists what happened to a job's deployment and pods in the last hour."""
    found = _client().events(job_id)
    _show_found(found, "events", form, EVENT_COLUMNS)


@app.command()
def exceptions(job_id: JobId, form: Output = Format.TABLE) -> None:
    """Lists the exceptions of a job, with their stack traces; once its JobManager is gone, what was kept."""
    found = _client().exceptions(job_id)
    _show_found(found, "exceptions", form, EXCEPTION_COLUMNS)
    if form is Format.TABLE:
        for text in filter(None, (found["kept"], *(each["stacktrace"] for each in found["exceptions"]))):
            print(f"\n{text}")


def _show_found(found: dict[str, Any], name: str, form: Format, columns: tuple[str, ...]) -> None:
    """What was found, and apart from it the words about what was not."""
    if form is not Format.TABLE:
        output.show(found, form, columns)
        return
    if found[name]:
        output.show(found[name], form, columns)
    if found["note"]:
        output.say(found["note"])


@templates_app.command("apply")
def apply_template(
    file: Annotated[Path, typer.Option("-f", "--file", help="A template's YAML.")], form: Output = Format.TABLE
) -> None:
    """Registers a template; a script beside it is sent along."""
    output.show(_client().put_template(files.template_from(file)), form, ("template_id", "version", "type"))


@templates_app.command("list")
def list_templates(form: Output = Format.TABLE) -> None:
    """Lists the templates."""
    found = _client().templates()
    if not found and form is Format.TABLE:
        output.say("no templates yet: headrace templates apply -f examples/templates/counting.yaml registers one")
        return
    output.show(found, form, ("template_id", "version", "type", "parallelism"))


@templates_app.command("get")
def get_template(template_id: str, form: Output = Format.YAML) -> None:
    """Shows a template."""
    output.show(_client().template(template_id), form, ("template_id", "version", "type", "parallelism"))


@app.command()
def doctor() -> None:
    """Says whether the API can be reached and do its work, and what to do where not."""
    found = connection.find(_Chosen.url, _Chosen.api_key_file, _Chosen.data)
    print(f"ok   address {found.url} (from {found.source})")
    client = connection.client(found)
    client.is_ready()
    print("ok   the API is ready: its store answers")
    client.templates()
    print("ok   the key is taken")


@app.command()
def version() -> None:
    """Prints the version."""
    print(installed_version("headrace"))


def _client() -> Client:
    return connection.client(connection.find(_Chosen.url, _Chosen.api_key_file, _Chosen.data))


def _config(
    source: str | None,
    file: list[Path] | None,
    main: str | None,
    main_class: str | None,
    jar_file: list[str] | None,
    parallelism: int | None,
    arg: list[str] | None,
    env: list[str] | None,
    set_: list[str] | None,
) -> dict[str, Any]:
    """What the flags say, as job_config."""
    config = files.source_from(source, file or (), main) if source else {}
    for text in set_ or ():
        files.set_path(config, *files.assignment(text))
    for name, value in map(files.assignment, env or ()):
        files.set_path(config, f"env.{name}", value)
    given = {"args": arg, "main_class": main_class, "jar_files": jar_file, "parallelism": parallelism}
    return config | {field: value for field, value in given.items() if value is not None}


def _submit_body(
    source: str | None,
    template: str | None,
    template_version: int | None,
    name: str | None,
    param: list[str] | None,
    config: dict[str, Any],
) -> dict[str, Any]:
    if (source is None) == (template is None):
        raise InvalidRequest({"submit": "give either a program (a file, a folder or a URL) or --template"})
    body: dict[str, Any] = {"template_id": template, "job_config": config}
    if template_version is not None:
        body["template_version"] = template_version
    if param:
        body["parameters"] = _typed(dict(map(files.assignment, param)), template)
    return {**body, "job_id": name} if name else body


def _typed(given: dict[str, str], template: str | None) -> dict[str, Any]:
    """The values in the types that the template declares; what cannot be read as its type goes as text, to be
    refused with the declaration's words."""
    declared = _client().template(template).get("parameters", {}) if template else {}
    return {name: files.typed(value, declared.get(name, {}).get("type", "STRING")) for name, value in given.items()}


def _report(answer: dict[str, Any], wait: bool, timeout_seconds: float, form: Format) -> None:
    """Prints an operation; with --wait once it has ended, with the exit code that its end has."""
    operation = answer["operation"]
    if wait:
        output.say(f"{operation['kind']} of {answer['job_id']} is accepted; waiting for its end")
        ended = _client().await_operation(operation["id"], timeout_seconds)
        if ended is None:
            output.say(f"operation {operation['id']} has not ended after {timeout_seconds:.0f} s; it goes on")
            raise typer.Exit(TIMED_OUT)
        answer, operation = ended, ended["operation"]
    row = {**operation, "status": answer["status"], "operation": operation["id"]}
    columns = ("job_id", "status", "kind", "state", "operation", "savepoint_path", "reason")
    output.show(answer if form is not Format.TABLE else row, form, columns)
    if operation["state"] == "FAILED":
        raise typer.Exit(JOB_FAILED)


def main() -> int:
    """Runs a command and returns its exit code; every error is one line on stderr."""
    try:
        app()
    except NotFound as error:
        return _fail(error, NOT_FOUND)
    except Conflict as error:
        return _fail(error, CONFLICT)
    except InvalidRequest as error:
        return _fail(error, USAGE)
    except HeadraceError as error:
        return _fail(error, FAILURE)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _fail(error: Exception, code: int) -> int:
    print(f"headrace: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
