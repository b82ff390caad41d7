"""Scripts and templates from the user's disk, as the API takes them. Knows no HTTP."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from headrace.errors import InvalidRequest


def script_from(file: Path) -> dict[str, str]:
    """A script as {name, content, sha256}. Raises InvalidRequest where it cannot be read as text."""
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest({"script": f"{file} cannot be read: {error}"}) from error
    return {"name": file.name, "content": content, "sha256": hashlib.sha256(content.encode()).hexdigest()}


def template_from(file: Path) -> dict[str, Any]:
    """A template's YAML with a script beside it inlined. Raises InvalidRequest."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRequest({"template": f"{file} cannot be read: {error}"}) from error
    if not isinstance(content, dict):
        raise InvalidRequest({"template": f"{file} must hold a template's fields"})
    script = content.get("script")
    if isinstance(script, str) and "://" not in script:
        content["script"] = script_from(file.parent / script)
    return content


def assignment(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises InvalidRequest."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InvalidRequest({text: "must be KEY=VALUE"})
    return key, value


def set_path(config: dict[str, Any], path: str, value: str) -> None:
    """Sets `resources.task_manager.slots=2` in a nested configuration; flink_configuration's keys keep their dots."""
    import yaml

    first, _, rest = path.partition(".")
    if first in ("flink_configuration", "env", "labels") and rest:
        config.setdefault(first, {})[rest] = value
        return
    *parents, last = path.split(".")
    at = config
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = yaml.safe_load(value)
