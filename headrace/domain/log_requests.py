"""Which lines of a job's logs somebody wants: read from words, with bounds. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.domain.pods import COMPONENTS, JOB_MANAGER
from headrace.errors import InvalidRequest

DEFAULT_TAIL, MAX_TAIL = 200, 10_000
MAX_SINCE_SECONDS = 30 * 86400
SECONDS_OF = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class LogRequest:
    """`pod` and `container` are chosen where they are empty; `tail` counts lines from the end."""

    component: str = JOB_MANAGER
    pod: str = ""
    container: str = ""
    tail: int = DEFAULT_TAIL
    since_seconds: int | None = None
    previous: bool = False
    follow: bool = False
    timestamps: bool = False


def parse_log_request(words: Mapping[str, str | None]) -> LogRequest:
    """Reads the parameters that were given. Raises InvalidRequest that names each wrong one and what is allowed."""
    given = {name: text for name, text in words.items() if text is not None}
    problems: dict[str, str] = {}

    def problem(name: str, allowed: str) -> None:
        problems[name] = f"{given[name]!r} is not allowed: {allowed}"

    component = given.get("component") or JOB_MANAGER
    if component not in COMPONENTS:
        problem("component", f"give {' or '.join(COMPONENTS)}")
    tail, since = _tail(given.get("tail")), _seconds(given.get("since"))
    if tail is None:
        problem("tail", f"give a number of lines from 0 to {MAX_TAIL}")
    if given.get("since") and since is None:
        problem("since", "give seconds, minutes, hours or days, as in 90s, 5m, 2h or 1d, up to 30d")
    flags = {name: _flag(given.get(name, "")) for name in ("previous", "follow", "timestamps")}
    for name in [name for name, flag in flags.items() if flag is None]:
        problem(name, "give true or false")
    if flags["previous"] and flags["follow"]:
        problem("follow", "a container before this one has ended; leave out follow or previous")
    if problems:
        raise InvalidRequest(problems)
    pod, container = given.get("pod", ""), given.get("container", "")
    chosen = {name: bool(flag) for name, flag in flags.items()}
    return LogRequest(component, pod, container, DEFAULT_TAIL if tail is None else tail, since, **chosen)


def _tail(text: str | None) -> int | None:
    """None for what is no number of lines that is allowed."""
    if not text:
        return DEFAULT_TAIL
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_TAIL))
    return int(text) if is_number and int(text) <= MAX_TAIL else None


def _seconds(text: str | None) -> int | None:
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text or "")
    if found is None:
        return None
    seconds = int(found[1]) * SECONDS_OF[found[2]]
    return seconds if 0 < seconds <= MAX_SINCE_SECONDS else None


def _flag(text: str) -> bool | None:
    word = text.lower()
    return True if word in TRUE else False if word in FALSE else None
