"""`headrace`: the commands. They translate, print and choose exit codes, and nothing else.

What a command does not use is not imported: a shell that completes waits for every module.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import click

from headrace.cli import completion, connection, exits, options, output
from headrace.cli.exits import CONFLICT, FAILURE, INTERRUPTED, JOB_FAILED, NOT_FOUND, READER_LEFT, TIMED_OUT, USAGE
from headrace.cli.keys import keys_app, whoami
from headrace.cli.output import Column, Format, age, field, took
from headrace.cli.programs import Program, takes_changes, takes_program
from headrace.cli.triggers import dead_letters_app, triggers_app
from headrace.errors import Conflict, HeadraceError, InvalidRequest, NotFound, TooMany

__all__ = ["CONFLICT", "FAILURE", "INTERRUPTED", "JOB_FAILED", "NOT_FOUND", "TIMED_OUT", "USAGE", "app", "main"]

DESCRIBED = (
    *("job_id", "status", "reason", "next_step", "error", "desired", "observation", "observed_at", "created_at", "run"),
    *(
        "restarts",
        "runtime",
        "parallelism",
        "flink_job_id",
        "namespace",
        "deployment_name",
        "template_id",
        "savepoint_path",
        "records_kept_until",
        "logs",
    ),
)
JOBS = (
    *(field("job_id"), field("status"), field("run"), field("parallelism"), field("observation")),
    age("created_at"),
    field("restarts", is_wide=True),
    field("runtime", is_wide=True),
    field("flink_job_id", is_wide=True),
    field("template_id", heading="TEMPLATE", is_wide=True),
    field("deployment_name", heading="DEPLOYMENT", is_wide=True),
    field("savepoint_path", is_wide=True),
    field("reason"),
)
OPERATIONS = (
    *(field("sequence"), field("kind"), field("state"), field("step")),
    age("accepted_at"),
    took("accepted_at", "ended_at"),
    field("id", is_wide=True),
    field("savepoint_path", is_wide=True),
    field("reason"),
)
ANSWER = (
    *(field("job_id"), field("status"), field("kind"), field("state"), field("operation")),
    *(field("savepoint_path"), field("reason")),
)
HISTORY = (age("at"), field("run"), field("from"), field("to"), field("gap"), field("reason"))
EVENTS = (
    age("at", "LAST SEEN"),
    *(field("type"), field("reason"), field("object"), field("count"), field("message")),
)
EXCEPTIONS = (
    age("at"),
    *(field("exception_name"), field("task_name"), field("endpoint"), field("task_manager_id", is_wide=True)),
)
SAVEPOINTS = (
    *(field("job_id"), field("run"), field("kind")),
    age("at"),
    field("format", is_wide=True),
    field("size_bytes", heading="BYTES", is_wide=True),
    *(field("operation", is_wide=True), field("expires_at", is_wide=True), field("disposing_since", is_wide=True)),
    *(field("kept_because", is_wide=True), field("trouble", is_wide=True), field("path")),
)
TEMPLATES = (field("template_id"), field("version"), field("type"), field("parallelism"))
WITHOUT_NAMES = tuple(form for form in Format if form is not Format.NAME)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"`headrace COMMAND --help` says more of each.\n\n{exits.HELP}",
)
@click.option("--url", help="The API's address.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="A file with the API key.")
@click.option("--data", type=click.Path(path_type=Path), help="The data folder of a local stack; HEADRACE_DATA too.")
def app(**_: Any) -> None:
    """Start, stop and change Flink jobs without losing their state."""


@app.group("templates")
def templates_app() -> None:
    """What jobs are made from."""


app.add_command(triggers_app)
app.add_command(dead_letters_app)
app.add_command(keys_app)
app.add_command(whoami)


@app.command()
@takes_program
@click.option("--start-from", metavar="STATE", help="`last`, or a savepoint's path.")
@options.dry_run
@options.asks
def submit(program: Program, start_from: str | None, dry_run: bool, **asked: Any) -> None:
    """Submits a job, of a program or of a template.

    PROGRAM is a Python or SQL file or a folder from your disk, or the URL of a script or jar.
    """
    client = options.client()
    body = program.body(client.template)
    if start_from:
        body["start_from"] = start_from
    if dry_run:
        _foresee("submit", body, None, **asked)
        return
    _report(client.submit(body, asked.pop("idempotency_key")), **asked)


@app.command()
@takes_program
@options.output_as(Format.YAML, Format.JSON, default=Format.YAML)
def render(program: Program, form: Format) -> None:
    """Prints the FlinkDeployment that a submit would create.

    Nothing is created.
    """
    client = options.client()
    output.show(client.render(program.body(client.template)), form, ())


@app.command("list")
@click.option("--phase", type=options.PhaseName(), help="Only jobs in this phase.")
@options.watch
@options.every_output
def list_jobs(phase: str | None, watch: bool, form: Format) -> None:
    """Lists the jobs."""
    client = options.client()
    if watch:
        _watch(lambda: list(client.jobs(phase)), form)
    found = list(client.jobs(phase))
    if not found and form.is_table:
        output.say(f"no job is {phase}" if phase else output.NO_JOBS)
        return
    output.show(found, form, JOBS, "job_id")


@app.command()
@options.job_id
@options.watch
@options.every_output
def get(job_id: str, watch: bool, form: Format) -> None:
    """Shows one job."""
    client = options.client()
    if watch:
        _watch(lambda: [client.job(job_id)], form)
    output.show(client.job(job_id), form, JOBS, "job_id")


@app.command()
@options.job_id
def describe(job_id: str) -> None:
    """Shows all of a job.

    What it does, why, where its logs are, its operations, and its phases as a time line.
    """
    from headrace.cli import history as of_job

    client = options.client()
    job, transitions = client.job(job_id), client.transitions(job_id)
    output.show_fields(job, DESCRIBED, times=("observed_at", "created_at"))
    print("\noperations:")
    output.show(client.operations(job_id)[-10:], Format.TABLE, OPERATIONS)
    print("\nhistory:")
    print(*of_job.picture(job, transitions), sep="\n")
    output.show(transitions[-15:], Format.TABLE, HISTORY)


@app.command()
@options.job_id
@options.output_as(*WITHOUT_NAMES)
def history(job_id: str, form: Format) -> None:
    """Shows what happened to a job.

    Its phases as a time line, then its changes of phase and its operations as one list, oldest first.
    """
    from headrace.cli import history as of_job

    client = options.client()
    job = client.job(job_id)
    transitions, operations = client.transitions(job_id), client.operations(job_id)
    if not form.is_table:
        output.show({"job_id": job["job_id"], "transitions": transitions, "operations": operations}, form, ())
        return
    print(*of_job.picture(job, transitions), "", sep="\n")
    output.show(of_job.events(transitions, operations), form, of_job.EVENTS)


@app.command()
@click.option("--every", type=options.Duration(), default="2s", show_default=True, help="How often to look: 1s, 1m.")
@click.option("--once", is_flag=True, help="Print one table and end; so it does in a pipe.")
def top(every: float, once: bool) -> None:
    """Watches all jobs, trouble first; q ends it.

    Their phases and for how long, how fresh that is, what operation is open, the parallelism (PAR), and how often the
    run was seen to restart by itself.
    """
    from headrace.cli import top as of_fleet

    if every < of_fleet.LEAST_SECONDS:
        raise click.BadParameter(f"must be {of_fleet.LEAST_SECONDS:g}s at least", param_hint="--every")
    if once or not of_fleet.is_possible():
        client = options.client()
        of_fleet.once(lambda: list(client.jobs(brief=True)))
        return
    client = options.client(timeout_seconds=of_fleet.ANSWER_SECONDS, tries=1)
    of_fleet.live(lambda: list(client.jobs(brief=True)), every)


@app.command()
@options.job_id
@click.option("--for", "wanted", type=options.PhaseName(), default="RUNNING", show_default=True, help="The phase.")
@options.timeout
def wait(job_id: str, wanted: Any, timeout: float) -> None:
    """Waits until a job is in a phase.

    It ends at once where the job cannot come to it by itself. It exits with 3 where the job failed, 6 where it settled
    in another phase, 124 where the time is over.
    """
    from headrace.cli import waiting

    raise click.exceptions.Exit(waiting.for_phase(options.client(), job_id, wanted, timeout))


@app.command()
@options.job_id
@click.option("--force", is_flag=True, help="End it even if its state cannot be kept.")
@click.option("--drain", is_flag=True, help="Let it close its windows and commit first: no more input comes.")
@options.asks
def stop(job_id: str, force: bool, drain: bool, **asked: Any) -> None:
    """Stops a job and keeps its state."""
    _report(options.client().stop(job_id, force, asked.pop("idempotency_key"), drain=drain), **asked)


@app.command()
@options.job_id
@click.option("--force", is_flag=True, help="End it even if its state cannot be kept.")
@options.asks
def delete(job_id: str, force: bool, **asked: Any) -> None:
    """Stops a job, keeps its state, and removes its records after a while.

    Until then undelete brings it back; describe says when its records go.
    """
    _report(options.client().delete(job_id, force, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@options.asks
def undelete(job_id: str, **asked: Any) -> None:
    """Brings a deleted job's records back.

    Nothing runs by that: submit begins another run of it.
    """
    _report(options.client().undelete(job_id, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@click.option("--parallelism", type=int, help="The parallelism to have.")
@click.option("--task-managers", type=int, help="The TaskManagers to have, all of whose slots it uses.")
@options.dry_run
@options.asks
def scale(job_id: str, parallelism: int | None, task_managers: int | None, dry_run: bool, **asked: Any) -> None:
    """Scales a job: in place by the adaptive scheduler, else by a savepoint and a redeploy from it.

    Give either --parallelism or --task-managers.
    """
    if (parallelism is None) == (task_managers is None):
        raise click.UsageError("give either --parallelism or --task-managers")
    if dry_run:
        _foresee("scale", _scale_of(parallelism, task_managers), job_id, **asked)
        return
    key = asked.pop("idempotency_key")
    _report(options.client().scale(job_id, parallelism, key, task_managers=task_managers), **asked)


@app.command()
@options.job_id
@options.asks
def savepoint(job_id: str, **asked: Any) -> None:
    """Takes a savepoint of a job that runs; the job runs on."""
    _report(options.client().savepoint(job_id, asked.pop("idempotency_key")), **asked)


@app.command()
@click.argument("job_id", required=False, shell_complete=completion.job_ids)
@options.every_output
def savepoints(job_id: str | None, form: Format) -> None:
    """Lists the savepoints and retained checkpoints on record, the newest first.

    Of one job, or of all; --start-from of submit and resume takes each PATH, another job's too.
    """
    found = list(options.client().savepoints(job_id))
    if not found and form.is_table:
        output.say(f"none of job {job_id} is on record" if job_id else "none is on record")
        return
    output.show(found, form, SAVEPOINTS, "path")


@app.command()
@click.argument("path")
def dispose(path: str) -> None:
    """Has Flink remove the savepoint at PATH, which `headrace savepoints` shows.

    It goes once its job is RUNNING, some minutes from now at the earliest; until then the list says since when it goes.
    A job's last one stays, and one that a job has started from.
    """
    output.say(f"{options.client().dispose(path)['path']} is to go: `headrace savepoints` has it until it is gone")


@app.command()
@options.job_id
@options.asks
def suspend(job_id: str, **asked: Any) -> None:
    """Lets a job rest, its state kept, until it is resumed."""
    _report(options.client().suspend(job_id, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@click.option("--start-from", metavar="STATE", help="A savepoint's path; the state that it rests with if not given.")
@options.dry_run
@options.asks
def resume(job_id: str, start_from: str | None, dry_run: bool, **asked: Any) -> None:
    """Lets a suspended job run again."""
    if dry_run:
        _foresee("resume", {"start_from": start_from}, job_id, **asked)
        return
    _report(options.client().resume(job_id, start_from, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@options.dry_run
@options.asks
def restart(job_id: str, dry_run: bool, **asked: Any) -> None:
    """Restarts a job's JobManager and TaskManagers, its state kept."""
    if dry_run:
        _foresee("restart", {}, job_id, **asked)
        return
    _report(options.client().restart(job_id, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@takes_changes
@options.dry_run
@options.asks
def upgrade(changes: Program, job_id: str, dry_run: bool, **asked: Any) -> None:
    """Changes a job, its state kept: its program, image, settings or template version.

    What is not named stays as it is. PROGRAM is a file or a folder from your disk, or the URL of a script or jar.
    """
    client = options.client()
    body = changes.changes(lambda: client.template(client.job(job_id).get("template_id") or ""))
    if dry_run:
        _foresee("upgrade", body, job_id, **asked)
        return
    _report(client.upgrade(job_id, body, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@takes_changes
@click.option("--task-managers", type=int, help="The TaskManagers to have, all of whose slots it uses.")
@options.output_as(*WITHOUT_NAMES)
def diff(changes: Program, job_id: str, task_managers: int | None, form: Format) -> None:
    """Says what a change of a job would change, cost and cause, and whether its state is kept. Nothing is done.

    --parallelism alone, and --task-managers, are a scale; everything else is an upgrade. With nothing that changes it
    says what an upgrade of the job as it is would do to its deployment.
    """
    from headrace.cli import foresight

    client = options.client()
    if task_managers is not None and changes.said:
        raise click.UsageError("--task-managers is a scale, and nothing else goes with it")
    if task_managers is not None or changes.said == {"parallelism"}:
        body = _scale_of(changes.parallelism, task_managers)
        foresight.show(client.dry_run("scale", body, job_id), form)
        return
    body = {"job_config": {}}
    if changes.said:
        body = changes.changes(lambda: client.template(client.job(job_id).get("template_id") or ""))
    foresight.show(client.dry_run("upgrade", body, job_id), form)


@app.command()
@click.argument("deployment", required=False)
@click.option("--as", "job_id", metavar="JOB_ID", help="The job's id; the deployment's name if not given.")
@click.option("--all", "is_all", is_flag=True, help="Adopt every FlinkDeployment that can be.")
@click.option("--namespace", help="With --all: where they are; it must be the installation's own.")
@click.option("--dry-run", is_flag=True, help="With --all: only list them, and why one cannot be.")
@options.asks
def adopt(
    deployment: str | None, job_id: str | None, is_all: bool, namespace: str | None, dry_run: bool, **asked: Any
) -> None:
    """Takes a FlinkDeployment over that somebody else made, without a restart.

    Labels and annotations alone are written on it. RELEASE gives it back.
    """
    from headrace.cli import adoption

    adoption.check(deployment, job_id, is_all, namespace, dry_run)
    if deployment is None and (asked["wait"] or asked["idempotency_key"]):
        raise click.UsageError("--wait and --idempotency-key are of one job, not of --all")
    client = options.client()
    if deployment is None:
        raise click.exceptions.Exit(adoption.of_all(client, namespace, asked["form"], is_dry=dry_run))
    _report(client.adopt(job_id or deployment, deployment, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@options.asks
def release(job_id: str, **asked: Any) -> None:
    """Forgets a job; its FlinkDeployment goes on as it is."""
    _report(options.client().release(job_id, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@click.option("--to", type=int, help="A version's number; the operator's last stable spec if not given.")
@options.dry_run
@options.asks
def rollback(job_id: str, to: int | None, dry_run: bool, **asked: Any) -> None:
    """Brings a job back to what it was, its state kept.

    `headrace versions JOB` lists what it was.
    """
    if dry_run:
        _foresee("rollback", {"to": to} if to is not None else {}, job_id, **asked)
        return
    _report(options.client().rollback(job_id, to, asked.pop("idempotency_key")), **asked)


@app.command()
@options.job_id
@click.argument("version", type=int, required=False)
@options.output_as(*WITHOUT_NAMES)
def versions(job_id: str, version: int | None, form: Format) -> None:
    """Lists what a job was and is: each version, who asked for it, and what it changed.

    With a VERSION its number, all of that one, its request too.
    """
    from headrace.cli.versions import VERSIONS, version_row

    client = options.client()
    if version is not None:
        found = client.version(job_id, version)
        output.show(found, Format.YAML if form.is_table else form, ())
        return
    listed = list(client.versions(job_id))
    if form.is_table:
        output.show([version_row(each) for each in listed], form, VERSIONS)
        return
    output.show(listed, form, ())


@app.command()
@options.job_id
@options.every_output
def operations(job_id: str, form: Format) -> None:
    """Lists a job's operations."""
    output.show(options.client().operations(job_id), form, OPERATIONS, "id")


@app.command()
@options.job_id
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until its pod ends.")
@click.option("--since", metavar="DURATION", help="Only lines of the last 90s, 5m, 2h or 1d.")
@click.option("--tail", type=int, help="So many lines from the end; 200 if not given.")
@click.option("--component", help="jobmanager, which is the default, or taskmanager.")
@click.option("--pod", help="One of the job's pods.")
@click.option("-c", "--container", help="One of its containers; Flink's own if not given.")
@click.option("-p", "--previous", is_flag=True, help="The container before its last restart.")
def logs(job_id: str, follow: bool, previous: bool, **given: Any) -> None:
    """Prints what a job's pods printed.

    Of a pod that is gone, what was kept.
    """
    query: dict[str, str | int] = {name: value for name, value in given.items() if value is not None}
    query |= {"previous": "true"} if previous else {}
    client = options.client()
    for line in client.follow(job_id, query, output.say) if follow else client.logs(job_id, query):
        output.show_log_line(line, flush=follow)


@app.command()
@options.job_id
@options.output_as(*WITHOUT_NAMES)
def events(job_id: str, form: Format) -> None:
    """Lists what happened to a job's deployment and pods.

    Kubernetes keeps that for an hour.
    """
    _show_found(options.client().events(job_id), "events", form, EVENTS)


@app.command()
@options.job_id
@options.output_as(*WITHOUT_NAMES)
def exceptions(job_id: str, form: Format) -> None:
    """Lists the exceptions of a job, with their stack traces.

    Once its JobManager is gone, what was kept.
    """
    found = options.client().exceptions(job_id)
    _show_found(found, "exceptions", form, EXCEPTIONS)
    if form.is_table:
        for text in filter(None, (found["kept"], *(each["stacktrace"] for each in found["exceptions"]))):
            output.show_text(f"\n{text}")


@templates_app.command("apply")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    required=True,
    help="A template's YAML; - is stdin.",
)
@options.every_output
def apply_template(file: Path, form: Format) -> None:
    """Registers a template; a script that it names is sent along.

    What it names lies in its own folder or below, or below the folder where you run the command.
    """
    from headrace.cli import files

    body = files.template_from(file, files.working_folder())
    output.show(options.client().put_template(body), form, TEMPLATES, "template_id")


@templates_app.command("list")
@options.every_output
def list_templates(form: Format) -> None:
    """Lists the templates."""
    found = options.client().templates()
    if not found and form.is_table:
        output.say("no templates yet: headrace templates apply -f examples/templates/counting.yaml registers one")
        return
    output.show(found, form, TEMPLATES, "template_id")


@templates_app.command("get")
@click.argument("template_id", shell_complete=completion.template_ids)
@options.output_as(*Format, default=Format.YAML)
def get_template(template_id: str, form: Format) -> None:
    """Shows a template."""
    output.show(options.client().template(template_id), form, TEMPLATES, "template_id")


@app.command()
def doctor() -> None:
    """Says whether the API can be reached and do its work, and which runtimes work.

    It exits with 1 where the default runtime is known not to work.
    """
    from headrace.cli import runtimes

    found = options.found()
    print(f"ok   address {found.url} (from {found.source})")
    client = connection.client(found)
    client.is_ready()
    print("ok   the API is ready: its store answers")
    who = client.whoami()
    until = f", until {who['expires_at']}" if who["expires_at"] else ""
    print(f"ok   the key is taken: {who['name']}, with the role {who['role']}{until}")
    if not runtimes.told(client):
        raise click.exceptions.Exit(FAILURE)


@app.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
def complete(shell: str) -> None:
    """Prints the script that completes in a shell.

    It completes commands, options, job ids and template ids.

    \b
    bash  source <(headrace completion bash)      in ~/.bashrc
    zsh   source <(headrace completion zsh)       in ~/.zshrc, after compinit
    fish  headrace completion fish | source       in ~/.config/fish/config.fish
    """
    print(completion.script(app, shell))


@app.command()
def version() -> None:
    """Prints the version."""
    from importlib.metadata import version as installed_version

    print(installed_version("headrace"))


def _watch(look: Any, form: Format) -> None:
    from headrace.cli import waiting

    waiting.watch(look, form, JOBS, "job_id")


def _show_found(found: dict[str, Any], name: str, form: Format, columns: tuple[Column, ...]) -> None:
    """What was found, and apart from it the words about what was not."""
    if not form.is_table:
        output.show(found, form, columns)
        return
    if found[name]:
        output.show(found[name], form, columns)
    if found["note"]:
        output.say(found["note"])


def _scale_of(parallelism: int | None, task_managers: int | None) -> dict[str, Any]:
    return {"parallelism": parallelism} if task_managers is None else {"task_managers": task_managers}


def _foresee(kind: str, body: dict[str, Any], job_id: str | None, form: Format, **asked: Any) -> None:
    """Prints what an operation would come to; nothing is asked for, so that there is nothing to wait for."""
    from headrace.cli import foresight

    if asked["wait"] or asked["idempotency_key"]:
        raise click.UsageError("--wait and --idempotency-key go with what is done, and not with --dry-run")
    foresight.show(options.client().dry_run(kind, body, job_id), form)


def _report(answer: dict[str, Any], wait: bool, timeout: float, form: Format) -> None:
    """Prints an operation; with --wait once it has ended, with the exit code that its end has."""
    operation = answer["operation"]
    if wait:
        from headrace.cli import waiting

        output.say(f"{operation['kind']} of {answer['job_id']} is accepted; waiting for its end")
        ended = waiting.for_end(options.client(), operation["id"], timeout)
        if ended is None:
            output.say(f"operation {operation['id']} has not ended after {timeout:g} s; it goes on")
            raise click.exceptions.Exit(TIMED_OUT)
        answer, operation = ended, ended["operation"]
    row = {**operation, "status": answer["status"], "operation": operation["id"]}
    output.show(row if form.is_table or form is Format.NAME else answer, form, ANSWER, "job_id")
    if operation["state"] not in ("ACCEPTED", "RUNNING", "SUCCEEDED"):
        raise click.exceptions.Exit(JOB_FAILED if operation["state"] == "FAILED" else exits.ENDED_OTHERWISE)


def main() -> int:
    """Runs the command line and returns its exit code; every error is one line on stderr."""
    output.prepare()
    try:
        return _run(sys.argv[1:])
    except BrokenPipeError:
        output.forget_stdout()
        return READER_LEFT
    except KeyboardInterrupt:
        return INTERRUPTED
    except HeadraceError as error:
        return _fail(str(error), _code_of(error))
    except Exception as error:  # noqa: BLE001 - never a traceback
        return _fail(_unforeseen(error), FAILURE)


def _run(arguments: list[str]) -> int:
    try:
        if not completion.answered(app):
            with app.make_context(completion.PROGRAM, arguments) as context:
                app.invoke(context)
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else completion.PROGRAM
        words = " ".join(error.format_message().split()).rstrip(".")
        return _fail(f"{words[:1].lower()}{words[1:]}; see {where} --help", USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), FAILURE)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    finally:
        sys.stdout.flush()


def _code_of(error: HeadraceError) -> int:
    kinds = ((NotFound, NOT_FOUND), (Conflict, CONFLICT), (TooMany, CONFLICT), (InvalidRequest, USAGE))
    return next((code for kind, code in kinds if isinstance(error, kind)), FAILURE)


def _unforeseen(error: Exception) -> str:
    """Where it came from, without its own words: they may repeat what somebody sent."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-5:])
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} in {places}; this is a mistake of ours, please report it"


def _fail(words: str, code: int) -> int:
    output.say(f"headrace: {words}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
