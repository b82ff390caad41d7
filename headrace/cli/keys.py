"""`headrace keys` and `headrace whoami`: API keys, for who has an admin's. A key is printed once, where it is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from headrace.cli import completion, options, output
from headrace.cli.output import Format, age, field
from headrace.domain.api_keys import Role
from headrace.errors import InvalidRequest, Refused

KEYS = (
    *(field("name"), field("role"), age("created_at"), field("created_by")),
    *(field("expires_at"), field("revoked_at")),
)
WHO = (field("name"), field("role"), field("expires_at"))
NEVER = "never"
DAY_SECONDS = 86_400.0


class Expiry(options.Duration):
    """A duration, or `never`."""

    name = "expiry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        return value if value == NEVER else super().convert(value, param, ctx)


@click.group("keys")
def keys_app() -> None:
    """API keys: who may ask for what."""


@keys_app.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do.")
@click.option("--expires-in", type=Expiry(), default="90d", show_default=True, help="For how long it is good; never.")
@click.option("--to", type=click.Path(path_type=Path), help="A new file for the key, which you alone may read.")
@options.output_as(Format.TABLE, Format.JSON, Format.YAML)
def create(name: str, role: str, expires_in: float | str, to: Path | None, form: Format) -> None:
    """Makes an API key and prints it, once: nobody can read it again.

    A viewer reads; an operator asks for operations too; an admin also makes keys and triggers. NAME stands on each
    operation that is asked for with it.
    """
    days = None if expires_in == NEVER else float(expires_in) / DAY_SECONDS
    client = options.client()
    file = _new_file(to) if to is not None else None
    try:
        made = client.create_key({"name": name, "role": role, "expires_in_days": days})
        if to is not None and file is not None:
            _write(file, to, name, made.pop("key"))
    except BaseException:
        if to is not None:
            to.unlink(missing_ok=True)
        raise
    finally:
        if file is not None:
            os.close(file)
    if form.is_table and to is None:
        output.say(f"the key {name} has the role {role}; this is the only time that it is shown:")
        print(made["key"])
    else:
        output.show(made, form, KEYS, "name")


def _write(file: int, to: Path, name: str, key: str) -> None:
    """Raises Refused where it cannot: the key is on record by then, and in nobody's hands."""
    try:
        os.write(file, f"{key}\n".encode())
        os.fsync(file)
    except OSError as error:
        raise Refused(
            f"the key {name} was made, and could not be written to {to}: {error.strerror}; nobody has it: "
            f"revoke it (headrace keys revoke {name}), and make one under another name"
        ) from error


@keys_app.command("list")
@options.every_output
def list_keys(form: Format) -> None:
    """Lists the keys on record, also those that are revoked or have expired."""
    found = options.client().api_keys()
    if not found and form.is_table:
        output.say("no keys on record yet: headrace keys create NAME --role operator makes one")
        return
    output.show(found, form, KEYS, "name")


@keys_app.command("revoke")
@click.argument("name", shell_complete=completion.key_names)
def revoke(name: str) -> None:
    """Takes a key back: within ten seconds it opens nothing any more."""
    revoked = options.client().revoke_key(name)
    output.say(f"the key {name} is revoked since {revoked['revoked_at']}")


@click.command("whoami")
@options.every_output
def whoami(form: Format) -> None:
    """Says whose key you use, and its role."""
    output.show(options.client().whoami(), form, WHO, "name")


def _new_file(to: Path) -> int:
    """Made before the key is: one that could not be written down would be lost."""
    try:
        return os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise InvalidRequest(
            {"--to": f"{to} cannot be made: {error.strerror}; name a file that is not there"}
        ) from error
