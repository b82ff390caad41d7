"""`headrace triggers` and `headrace dead-letters`. What a rule makes of an event is told here, by the same pure code as
in the consumer: a test of a rule's file needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from headrace.cli import completion, options, output
from headrace.cli.exits import FAILURE
from headrace.cli.output import Format, age, field
from headrace.errors import InvalidRequest

TRIGGERS = (
    *(field("name"), field("topic"), field("operation"), field("when"), field("key", is_wide=True)),
    *(field("revision"), age("updated_at")),
)
LETTERS = (
    *(field("id"), age("at"), field("topic"), field("partition"), field("offset"), field("triggers")),
    *(field("size_bytes", is_wide=True), field("sha256", is_wide=True), field("reason")),
)
REPLAYED = (field("id"), field("outcome"), field("operations"), field("reason"))
DONE = ("ACCEPTED", "KNOWN", "PASSED_BY")

rule_file = click.Path(path_type=Path, allow_dash=True)
trigger_name = click.argument("name", shell_complete=completion.trigger_names)


@click.group("triggers")
def triggers_app() -> None:
    """Rules that turn Kafka events into operations."""


@triggers_app.command("apply")
@click.argument("file", type=rule_file)
@options.every_output
def apply(file: Path, form: Format) -> None:
    """Keeps a trigger, in the place of the one of its name.

    FILE is its YAML; - is stdin. The consumer follows it within 15 seconds.
    """
    _show(options.client().put_trigger(_read(file, "trigger")), form)


@triggers_app.command("list")
@options.every_output
def list_triggers(form: Format) -> None:
    """Lists the triggers."""
    found = options.client().triggers()
    if not found and form.is_table:
        output.say("no triggers yet: headrace triggers apply examples/triggers/uploads.yaml makes one")
        return
    _show(found, form)


@triggers_app.command("show")
@trigger_name
@options.output_as(*Format, default=Format.YAML)
def show(name: str, form: Format) -> None:
    """Shows a trigger."""
    _show(options.client().trigger(name), form)


@triggers_app.command("delete")
@trigger_name
def delete(name: str) -> None:
    """Removes a trigger; what it asked for stays."""
    options.client().delete_trigger(name)
    output.say(f"trigger {name} is removed: its topic's events ask for nothing by it any more")


@triggers_app.command("test")
@click.argument("name", required=False, shell_complete=completion.trigger_names)
@click.option("--file", type=rule_file, help="A trigger's YAML, instead of the name of one that is kept.")
@click.option("--event", type=rule_file, required=True, help="What a record holds; - is stdin.")
@click.option("-H", "--header", multiple=True, metavar="NAME=VALUE", help="A header of the record, as ce_type=x.")
@options.output_as(Format.YAML, Format.JSON, default=Format.YAML)
def test(name: str | None, file: Path | None, event: Path, header: tuple[str, ...], form: Format) -> None:
    """Prints what a trigger would ask for on an event, or why nothing.

    Nothing is sent to Kafka and nothing is written. It exits with 1 where the rule cannot be evaluated.
    """
    from headrace.domain.triggers import Asked, outcome, parse_trigger

    if (name is None) == (file is None):
        raise click.UsageError("give the name of a trigger, or --file with its YAML")
    body = _read(file, "trigger") if file is not None else options.client().trigger(str(name))
    trigger = parse_trigger({each: value for each, value in body.items() if each not in ("revision", "updated_at")})
    try:
        asked = outcome(trigger, _event(event, header, trigger.topic))
    except InvalidRequest as error:
        output.say(f"trigger {trigger.name} cannot be evaluated on this event, which would be a dead letter: {error}")
        raise click.exceptions.Exit(FAILURE) from error
    if not isinstance(asked, Asked):
        output.say(f"trigger {trigger.name} asks for nothing on this event: {asked.reason}")
        return
    about = {"job_id": asked.job_id} if asked.job_id is not None else {}
    output.show({"operation": str(asked.kind), **about, **asked.arguments}, form, ())


@click.group("dead-letters")
def dead_letters_app() -> None:
    """Kafka records that could not be used."""


@dead_letters_app.command("list")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="So many of the newest.")
@options.every_output
def list_letters(limit: int, form: Format) -> None:
    """Lists the dead letters, newest last.

    A letter says where its record stands, and has none of its values but harmless ones.
    """
    found = options.client().dead_letters(limit)
    if not found and form.is_table:
        output.say("no dead letters: each record could be used")
        return
    output.show(_joined(found, "triggers") if form.is_table else found, form, LETTERS, "id")


@dead_letters_app.command("replay")
@click.argument("letter_ids", nargs=-1, metavar="[LETTER]...")
@click.option("--all", "every", is_flag=True, help="The newest 500 of them, the oldest of these first.")
@options.every_output
def replay(letter_ids: tuple[str, ...], every: bool, form: Format) -> None:
    """Handles the records of dead letters again.

    Each record is read from where it stands, so only while its topic keeps it. However often: a record is one operation
    at most. It exits with 1 where one was refused again or cannot be read.
    """
    if bool(letter_ids) == every:
        raise click.UsageError("give ids of dead letters, or --all")
    client = options.client()
    ids = [letter["id"] for letter in client.dead_letters(500)] if every else letter_ids
    if not ids:
        output.say("no dead letters: there is nothing to replay")
        return
    found = [client.replay(letter_id) for letter_id in ids]
    output.show(_joined(found, "operations") if form.is_table else found, form, REPLAYED, "id")
    if any(each["outcome"] not in DONE for each in found):
        raise click.exceptions.Exit(FAILURE)


def _show(found: Any, form: Format) -> None:
    rows = found if isinstance(found, list) else [found]
    if form.is_table:
        found = [{**row, "operation": row["action"]["operation"]} for row in rows]
    output.show(found, form, TRIGGERS, "name")


def _joined(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{**row, name: ", ".join(row[name])} for row in rows]


def _read(file: Path, what: str) -> dict[str, Any]:
    from headrace.cli import files
    from headrace.domain.inputs import json_or_yaml_object

    return json_or_yaml_object(files.content_of(file, what), "stdin" if file == files.STDIN else str(file))


def _event(file: Path, headers: tuple[str, ...], topic: str) -> Any:
    from headrace.cli import files
    from headrace.domain.incoming_events import Arrived, Origin, read_event

    pairs = [each.partition("=") for each in headers]
    if any(not separator for _, separator, _ in pairs):
        raise click.UsageError("a --header is NAME=VALUE")
    record = Arrived(
        files.content_of(file, "event"),
        Origin(topic, topic, 0, 0),
        [(name, value.encode(errors="surrogateescape")) for name, _, value in pairs],
    )
    return read_event(record)
