"""Scripts and templates from the user's disk, as the API takes them. Knows no HTTP.

What is sent lies in the folder that was given, or was named on the command line: a link, or a path in somebody's
template, leads nowhere else.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.cli.connection import home
from headrace.domain.inputs import MOST_BYTES, json_or_yaml_object
from headrace.errors import InvalidRequest

MAIN = "main.py"
SKIPPED = ("__pycache__", ".git", ".venv")
MOST_FILES = 500
STDIN = Path("-")


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
    except (OSError, ValueError):  # no file can have such a name: reading it says so
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
    names = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if _is_sent(path, folder)}
    if len(names) > MOST_FILES:
        raise InvalidRequest({"script": f"{folder} holds {len(names)} files, and {MOST_FILES} are taken at most"})
    chosen = main or _main_of(list(names))
    if chosen not in names:
        raise InvalidRequest({"script": f"{folder} has no {chosen}: name the file to run with --main"})
    files = [file_from(path, name) for name, path in names.items() if name != chosen]
    return {"script": file_from(names[chosen], chosen), "files": files}


def _main_of(names: Sequence[str]) -> str:
    scripts = [name for name in names if name.endswith(".py") and "/" not in name]
    return scripts[0] if len(scripts) == 1 else MAIN


def _is_sent(path: Path, folder: Path) -> bool:
    """Whether a path below the folder is one of the job's files. Raises InvalidRequest for a link that leads out."""
    if _is_skipped(path.relative_to(folder)):
        return False
    if path.is_symlink():
        if path.is_dir():
            raise InvalidRequest({"script": f"{path} is a link to a folder: put its files there themselves"})
        check_inside(path, [folder], "script")
    return path.is_file()


def _is_skipped(path: Path) -> bool:
    return any(part in SKIPPED or part.startswith(".") for part in path.parts)


def check_inside(path: Path, folders: Sequence[Path], field: str) -> None:
    """Raises InvalidRequest where links or `..` lead out of these folders, or to what is hidden there."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself; a name that no file can have
        raise InvalidRequest({field: f"{path} cannot be read: {error}"}) from error
    roots = [folder.resolve() for folder in folders]
    if not any(target.is_relative_to(root) and not _is_skipped(target.relative_to(root)) for root in roots):
        shown = " or ".join(dict.fromkeys(str(folder) for folder in folders))
        raise InvalidRequest({field: f"{path} leads to a file that is hidden or outside of {shown}: it is not sent"})


def file_from(path: Path, name: str) -> dict[str, str]:
    """A file as {name, content, sha256}. Raises InvalidRequest where it cannot be read as text."""
    try:
        content = _read(path).decode()
    except (OSError, ValueError) as error:
        raise InvalidRequest({"script": f"{path} cannot be read as text: {error}"}) from error
    return {"name": name, "content": content, "sha256": hashlib.sha256(content.encode()).hexdigest()}


def _read(path: Path) -> bytes:
    """Its bytes, without asking for more than a request could hold: some files never end."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    return content


def content_of(file: Path, what: str) -> bytes:
    """A file's bytes; `-` is stdin. Raises InvalidRequest, under the field `what`."""
    try:
        return sys.stdin.buffer.read(MOST_BYTES + 1) if file == STDIN else _read(file)
    except (OSError, ValueError) as error:
        raise InvalidRequest({what: f"{file} cannot be read: {error}"}) from error


def template_from(file: Path, folder: Path | None = None) -> dict[str, Any]:
    """A template's YAML with the files that it names inlined: of its own folder and below, and of `folder`, where the
    caller works. `-` is stdin. Raises InvalidRequest."""
    text = content_of(file, "template")
    content = json_or_yaml_object(text, "stdin" if file == STDIN else str(file))
    folders = [file.parent, *([folder] if folder else [])]
    script, listed = content.get("script"), content.get("files") or []
    if not isinstance(listed, list):
        raise InvalidRequest({"files": "must be a list"})
    if listed:
        content["files"] = [_named(file.parent / f, f, folders) if isinstance(f, str) else f for f in listed]
    if isinstance(script, str) and "://" not in script:
        check_inside(file.parent / script, folders, "script")
        found = source_from(str(file.parent / script))
        content.pop("script")
        content |= found | {"files": [*found.get("files", []), *(content.get("files") or [])]}
    return content


def _named(path: Path, name: str, folders: Sequence[Path]) -> dict[str, str]:
    check_inside(path, folders, "files")
    return file_from(path, name)


def working_folder() -> Path | None:
    """Where the command runs, if somebody works there: a home, and what is above it, holds what is nobody's job."""
    here, at_home = Path.cwd(), home()
    return None if at_home is None or at_home.is_relative_to(here) else here
