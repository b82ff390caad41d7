"""What an operation would change, as a person reads it before it is sent. Knows no request and no other command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.cli import output
from headrace.cli.output import Format, field

CHANGES = (field("field", is_whole=True), field("before"), field("after"), field("cost"))
OF_STATE = {True: "kept", False: "NOT kept", None: "-"}

Row = Mapping[str, Any]


def show(found: Row, form: Format) -> None:
    """Prints it: the places that change as a table, then what that causes and what becomes of state."""
    if not form.is_table:
        output.show(found, form, (), "job_id")
        return
    for heading, name in (("asked for:", "asked_for"), ("in the deployment:", "changes")):
        if found[name]:
            print(heading)
            output.show([_row(each) for each in found[name]], form, CHANGES)
            print()
    if not found["changes"] and found["manifest"] is None:
        print("in the deployment: nothing changes\n")
    output.show_fields(_outcome(found), tuple(_outcome(found)), times=())


def _outcome(found: Row) -> dict[str, Any]:
    state = f"{OF_STATE[found['keeps_state']]}: {found['state']}"
    return {"job_id": found["job_id"], "dry run of": found["kind"], **_cost(found), "state": state}


def _cost(found: Row) -> dict[str, Any]:
    cost = {} if found["cost"] is None else {"cost": found["cost"]}
    return {**cost, "causes": found["causes"]}


def _row(change: Row) -> Row:
    return {**change, "before": _text(change["before"]), "after": _text(change["after"])}


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
