"""Scripts and templates from the user's disk, as the API takes them. Knows no HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headrace.domain.inputs import json_or_yaml_object, yaml_value
from headrace.errors import InvalidRequest

MAIN = "main.py"
SKIPPED = ("__pycache__", ".git", ".venv")
MOST_FILES = 500


def source_from(given: str, more: Sequence[Path] = (), main: str | None = None) -> dict[str, Any]:
    """The fields of a request that run this: a URL, a Python or SQL file, or a folder. Raises InvalidRequest."""
    if "://" in given:
        return _from_url(given)
    path = Path(given)
    fields = _from_folder(path, main) if _is_folder(path) else _from_file(path)
    files = [*fields.get("files", []), *(file_from(each, each.name) for each in more)]
    return fields | ({"files": files} if files else {})


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no file can have such a name: reading it says so
        return False


def _from_url(url: str) -> dict[str, Any]:
    path = url.partition("?")[0]
    if path.endswith(".jar"):
        return {"type": "JAR", "jar": url}
    return {"type": "SQL", "script": url} if path.endswith(".sql") else {"script": url}


def _from_file(path: Path) -> dict[str, Any]:
    if path.suffix == ".jar":
        words = "a jar is not sent along: give its https URL, or local:///… where the image has it"
        raise InvalidRequest({"jar": f"{path}: {words}"})
    found = file_from(path, path.name)
    return {"type": "SQL", "sql": found["content"]} if path.suffix == ".sql" else {"script": found}


def _from_folder(folder: Path, main: str | None) -> dict[str, Any]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not _is_skipped(p.relative_to(folder)))
    if len(paths) > MOST_FILES:
        raise InvalidRequest({"script": f"{folder} holds {len(paths)} files, and {MOST_FILES} are taken at most"})
    names = {str(path.relative_to(folder)): path for path in paths}
    chosen = main or _main_of(folder, list(names))
    if chosen not in names:
        raise InvalidRequest({"script": f"{folder} has no {chosen}: name the file to run with --main"})
    files = [file_from(path, name) for name, path in names.items() if name != chosen]
    return {"script": file_from(names[chosen], chosen), "files": files}


def _main_of(folder: Path, names: Sequence[str]) -> str:
    scripts = [name for name in names if name.endswith(".py") and "/" not in name]
    return scripts[0] if len(scripts) == 1 else MAIN


def _is_skipped(path: Path) -> bool:
    return any(part in SKIPPED or part.startswith(".") for part in path.parts)


def file_from(path: Path, name: str) -> dict[str, str]:
    """A file as {name, content, sha256}. Raises InvalidRequest where it cannot be read as text."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest({"script": f"{path} cannot be read as text: {error}"}) from error
    return {"name": name, "content": content, "sha256": hashlib.sha256(content.encode()).hexdigest()}


def template_from(file: Path) -> dict[str, Any]:
    """A template's YAML with the files beside it inlined. Raises InvalidRequest."""
    try:
        content = json_or_yaml_object(file.read_bytes(), str(file))
    except OSError as error:
        raise InvalidRequest({"template": f"{file} cannot be read: {error}"}) from error
    script, listed = content.get("script"), content.get("files") or []
    if not isinstance(listed, list):
        raise InvalidRequest({"files": "must be a list"})
    if listed:
        content["files"] = [file_from(file.parent / f, f) if isinstance(f, str) else f for f in listed]
    if isinstance(script, str) and "://" not in script:
        found = source_from(str(file.parent / script))
        content.pop("script")
        content |= found | {"files": [*found.get("files", []), *(content.get("files") or [])]}
    return content


def assignment(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises InvalidRequest."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InvalidRequest({text: "must be KEY=VALUE"})
    return key, value


def set_path(config: dict[str, Any], path: str, value: str) -> None:
    """Sets `resources.task_manager.slots=2` in a nested configuration; flink_configuration's keys keep their dots.
    Raises InvalidRequest."""
    first, _, rest = path.partition(".")
    if first in ("flink_configuration", "env", "labels") and rest:
        _inside(config, first)[rest] = value
        return
    *parents, last = path.split(".")
    at = config
    for parent in parents:
        at = _inside(at, parent)
    at[last] = yaml_value(value, path)


def _inside(config: dict[str, Any], name: str) -> dict[str, Any]:
    inner = config[name] = {} if config.get(name) is None else config[name]
    if not isinstance(inner, dict):
        raise InvalidRequest({name: "was set to a value of its own, so nothing can be set inside it"})
    return inner


def typed(text: str, kind: str) -> Any:
    """Text from a command line as a parameter's type has it; the text itself where it is none."""
    readers: dict[str, Callable[[str], Any]] = {"INTEGER": int, "NUMBER": float, "BOOLEAN": _boolean}
    try:
        return readers[kind](text) if kind in readers else text
    except ValueError:
        return text


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
