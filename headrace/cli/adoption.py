"""`headrace adopt --all`: what of a namespace can be adopted, why the rest cannot, and the adopting one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headrace.cli import exits, output
from headrace.cli.output import Format, field
from headrace.errors import Conflict, NotFound

if TYPE_CHECKING:
    from headrace.client import Client

ADOPTABLE = (
    *(field("name"), field("state"), field("adopt")),
    *(field("why_not", heading="WHY NOT"), field("told", heading="KNOW")),
)

Json = dict[str, Any]


def check(deployment: str | None, job_id: str | None, is_all: bool, namespace: str | None, is_dry: bool) -> None:
    """Raises UsageError for what does not go together."""
    if (deployment is None) != is_all:
        raise click.UsageError("give either a FlinkDeployment's name or --all")
    if is_all and job_id is not None:
        raise click.UsageError("--as names one job: with --all each has its deployment's name")
    if not is_all and (namespace is not None or is_dry):
        raise click.UsageError("--namespace and --dry-run go with --all")


def of_all(client: Client, namespace: str | None, form: Format, *, is_dry: bool) -> int:
    """Lists them all with what became of each; with `is_dry` nothing is asked for. Returns the exit code."""
    rows = [_judged(each) for each in client.adoptable(namespace)]
    if not is_dry:
        rows = [_asked(client, row) for row in rows]
    if not rows and form.is_table:
        output.say("every FlinkDeployment of the namespace is a job already, or there is none")
    output.show(rows, form, ADOPTABLE, "name")
    return exits.CONFLICT if any(row["adopt"] == "refused" for row in rows) else exits.DONE


def _judged(found: Json) -> Json:
    return {**found, "adopt": "no" if found["why_not"] else "yes"}


def _asked(client: Client, row: Json) -> Json:
    """One ADOPT, where it can be; what has changed since the list was made is that deployment's alone."""
    if row["adopt"] == "no":
        return row
    try:
        answer = client.adopt(str(row.get("job_id") or row["name"]), row["name"])
    except (Conflict, NotFound) as error:
        return {**row, "adopt": "refused", "why_not": str(error)}
    return {**row, "adopt": "accepted", "operation": answer["operation"]["id"]}
