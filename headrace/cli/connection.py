"""Where the API is, and the key: from flags, the environment, a configuration file, or a laptop stack nearby."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.client import Client

CONFIG = Path(".config") / "headrace" / "config.toml"
HERE = Path(".headrace")
"""Where `./run up` keeps its data unless told otherwise."""


@dataclass(frozen=True)
class Connection:
    """An API's address and key, and where they were found."""

    url: str
    api_key: str
    source: str


def find(url: str | None, api_key_file: Path | None, data: Path | None = None) -> Connection:
    """The first that has both: flags, the stack of `data`, HEADRACE_URL and HEADRACE_API_KEY, the stack of
    HEADRACE_DATA, ~/.config/headrace/config.toml, the nearest stack. A flag replaces its half of what is found.

    Raises ConfigurationError that says what was looked at.
    """
    key = _read_key(api_key_file) if api_key_file else None
    if url and key:
        return _usable(Connection(url, key, "flags"))
    found = _from_stack(data, "--data") if data else _from_environment(url, key) or _from_config() or _nearest()
    if found is None:
        raise ConfigurationError(_looked_for())
    return _usable(Connection(url or found.url, key or found.api_key, found.source))


def _usable(connection: Connection) -> Connection:
    """Raises ConfigurationError for what HTTP could not carry, without the key."""
    if not connection.url.startswith(("http://", "https://")) or not connection.url.isprintable():
        raise ConfigurationError(f"{connection.url!r} (from {connection.source}) must begin with http:// or https://")
    if not (connection.api_key.isascii() and connection.api_key.isprintable()) or " " in connection.api_key:
        raise ConfigurationError(f"the API key (from {connection.source}) holds something that no key has")
    return connection


def client(connection: Connection, **bounds: Any) -> Client:
    """A client for it, within these bounds; imported only when a command needs one."""
    from headrace.client import Client

    return Client(connection.url, connection.api_key, **bounds)


def _from_environment(flag_url: str | None, flag_key: str | None) -> Connection | None:
    url, key = flag_url or os.environ.get("HEADRACE_URL"), flag_key or os.environ.get("HEADRACE_API_KEY")
    if url and key:
        return Connection(url, key, "environment")
    if url and not flag_url:
        raise ConfigurationError("HEADRACE_URL is set, and no key for it: set HEADRACE_API_KEY, or give --api-key-file")
    data = os.environ.get("HEADRACE_DATA")
    return _from_stack(Path(data), "HEADRACE_DATA") if data else None


def home() -> Path | None:
    """The user's home; None where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _from_config() -> Connection | None:
    at_home = home()
    if at_home is None or not (file := at_home / CONFIG).is_file():
        return None
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    if "url" not in content or not ("api_key" in content or "api_key_file" in content):
        raise ConfigurationError(f"{file} needs url, and api_key or api_key_file")
    key = content.get("api_key") or _read_key(file.parent / Path(str(content["api_key_file"])).expanduser())
    return Connection(str(content["url"]), str(key), str(file))


def _nearest() -> Connection | None:
    folder = Path.cwd()
    stacks = (parent / HERE for parent in (folder, *folder.parents))
    return next((_from_stack(data, "found") for data in stacks if (data / "stack.json").is_file()), None)


def _from_stack(data: Path, named_by: str) -> Connection:
    """What `up` wrote into its data folder."""
    file = data / "stack.json"
    if not file.is_file():
        raise ConfigurationError(f"{named_by} {data}: there is no {file}; ./run up --data {data} starts a stack there")
    try:
        content = json.loads(file.read_text())
        return Connection(content["api_url"], _read_key(Path(content["api_key_file"])), str(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{file} is not what ./run up writes: {error!r}") from error


def _looked_for() -> str:
    near = f"no ~/{CONFIG} and no {HERE}/stack.json in {Path.cwd()} or above it"
    return (
        "no API is known: neither --url with --api-key-file nor --data is given, neither HEADRACE_URL with "
        f"HEADRACE_API_KEY nor HEADRACE_DATA is set, and there is {near}; "
        "./run up starts a stack, and --data names one that has its data elsewhere"
    )


def _read_key(file: Path) -> str:
    """The first line that is no comment."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        return next(line for line in lines if line and not line.startswith("#"))
    except (OSError, ValueError, StopIteration) as error:
        raise ConfigurationError(f"{file} has no API key in it") from error
