"""Where the API is, and the key: from flags, the environment, a configuration file, or a laptop stack nearby."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.client import Client

HOW = "give --url and --api-key-file, set HEADRACE_URL and HEADRACE_API_KEY, or start a local stack with ./run up"


@dataclass(frozen=True)
class Connection:
    """An API's address and key, and where they were found."""

    url: str
    api_key: str
    source: str


def find(url: str | None, api_key_file: Path | None) -> Connection:
    """The first of flags, environment, ~/.config/headrace/config.toml and the nearest stack.json that has both.

    Raises ConfigurationError that says what was looked at.
    """
    if url and api_key_file:
        return Connection(url, _read_key(api_key_file), "flags")
    environment = os.environ.get("HEADRACE_URL"), os.environ.get("HEADRACE_API_KEY")
    if environment[0] and environment[1]:
        return Connection(url or environment[0], environment[1], "environment")
    found = _from_config(Path.home() / ".config" / "headrace" / "config.toml") or _from_stack(Path.cwd())
    if found is None:
        raise ConfigurationError(f"no address of an API is known: {HOW}")
    return Connection(url or found.url, _read_key(api_key_file) if api_key_file else found.api_key, found.source)


def client(connection: Connection) -> Client:
    """A client for it; imported only when a command needs one."""
    from headrace.client import Client

    return Client(connection.url, connection.api_key)


def _from_config(file: Path) -> Connection | None:
    if not file.is_file():
        return None
    content = tomllib.loads(file.read_text())
    if "url" not in content or not ("api_key" in content or "api_key_file" in content):
        raise ConfigurationError(f"{file} needs url, and api_key or api_key_file")
    key = content.get("api_key") or _read_key(Path(content["api_key_file"]))
    return Connection(str(content["url"]), str(key), str(file))


def _from_stack(folder: Path) -> Connection | None:
    for parent in (folder, *folder.parents):
        file = parent / ".headrace" / "stack.json"
        if file.is_file():
            content = json.loads(file.read_text())
            return Connection(content["api_url"], _read_key(Path(content["api_key_file"])), str(file))
    return None


def _read_key(file: Path) -> str:
    try:
        return next(line.strip() for line in file.read_text().splitlines() if line.strip())
    except (OSError, StopIteration) as error:
        raise ConfigurationError(f"{file} has no API key in it") from error
