"""A job's versions as people read them: a row each, what it changed in a few words. Knows no command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.cli import history
from headrace.cli.output import age, field

VERSIONS = (
    *(field("version"), field("run"), field("kind"), field("state")),
    age("at"),
    field("by"),
    field("operation", is_wide=True),
    *(field("why"), field("changes")),
)

Row = Mapping[str, Any]


def version_row(version: Row) -> Row:
    """A version as a row of the table."""
    changes = "; ".join(dict.fromkeys(map(_change, version.get("changes") or ())))
    return {**version, "by": history.who(version), "changes": changes}


def _change(change: Row) -> str:
    """`parallelism 2 -> 4`; a hash says only that the text is another."""
    if change["path"][-1] in ("sha256", "bytes"):
        return f"another {change['path'][0]}"
    return f"{change['field']} {_value(change['before'])} -> {_value(change['after'])}"


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
