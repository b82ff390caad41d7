"""Pod logs, read from the files that the pod's annotation names. It knows files, not HTTP.

No container runtime stamps these lines: a line's time is the one it begins with, as Flink's log has it, in the zone of
this machine; one without has that of the line before, or of the container's start. Times never go back.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from local.kubernetes_api import statuses

LOGS_ANNOTATION = "local.headrace.io/logs"
"""JSON: for each container the path of a file, where its output starts there, and where that of the one before did."""

CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.2

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A container's output: a part of a file. `end` is None where it may still grow; `begun_at` is in seconds since
    the epoch."""

    container: str
    path: Path
    begun_at: float
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Options:
    """What of it is asked for. `oldest` is in seconds since the epoch."""

    tail_lines: int | None = None
    oldest: float | None = None
    limit_bytes: int | None = None
    timestamps: bool = False

    @property
    def needs_times(self) -> bool:
        """Whether it matters when lines were written."""
        return self.timestamps or self.oldest is not None


def source(pod: Json, container: str, *, previous: bool) -> Source:
    """BadRequest where the container is not the pod's, must be named, or has not started; or had none before it."""
    name = pod["metadata"]["name"]
    chosen = container or _only_container(pod)
    if chosen not in _containers(pod, "initContainers", "containers"):
        raise statuses.bad_request(f"container {chosen} is not valid for pod {name}")
    place = _places(pod).get(chosen)
    if place is None or not Path(place["path"]).is_file():
        raise statuses.bad_request(f'container "{chosen}" in pod "{name}" is waiting to start: {_waits_for(pod)}')
    begun_at = _begun_at(pod, chosen)
    if not previous:
        return Source(chosen, Path(place["path"]), begun_at, place["start"])
    if place["previous"] is None:
        raise statuses.bad_request(f'previous terminated container "{chosen}" in pod "{name}" not found')
    return Source(chosen, Path(place["path"]), 0.0, place["previous"], place["start"])


def is_growing(pod: Json, source: Source) -> bool:
    """Whether that container still runs: it was neither replaced nor has it ended."""
    place = _places(pod).get(source.container)
    if source.end is not None or place is None or place["start"] != source.start:
        return False
    return not {"terminated", "waiting"} & _status(pod, source.container).get("state", {}).keys()


@dataclass(frozen=True)
class Read:
    """What was read, up to where in the file, and the time of its last line."""

    text: bytes
    end: int
    last_at: float


def read(source: Source, options: Options) -> Read:
    """The lines that there are."""
    with source.path.open("rb") as file:
        file.seek(source.start)
        content = file.read(-1 if source.end is None else source.end - source.start)
    lines = _LINE.findall(content)
    times = _times(lines, source.begun_at) if options.needs_times else [source.begun_at] * len(lines)
    text = b"".join(_shown(lines, times, options))
    limited = text if options.limit_bytes is None else text[: options.limit_bytes]
    return Read(limited, source.start + len(content), times[-1] if times else source.begun_at)


def follow(source: Source, before: Read, options: Options, is_over: Callable[[], bool]) -> Iterator[bytes]:
    """What comes after what was read, until `is_over` and nothing is left; an empty chunk now and then."""
    with source.path.open("rb") as file:
        file.seek(before.end)
        stamper = _Stamper(before.last_at, at_line_start=_ends_a_line(source, before.end))
        while True:
            was_over, chunk = is_over(), file.read(CHUNK_BYTES)
            yield stamper.stamped(chunk) if options.timestamps else chunk
            if not chunk and was_over:
                return
            if not chunk:
                time.sleep(POLL_SECONDS)


class _Stamper:
    """Puts times in front of the lines of a text that comes in pieces."""

    def __init__(self, last_at: float, *, at_line_start: bool) -> None:
        self._at_line_start = at_line_start
        self._last = last_at

    def stamped(self, piece: bytes) -> bytes:
        shown = []
        for line in _LINE.findall(piece):
            self._last = max(_written_at(line), self._last)
            shown.append(_prefix(self._last) + line if self._at_line_start else line)
            self._at_line_start = line.endswith(b"\n")
        return b"".join(shown)


def _ends_a_line(source: Source, end: int) -> bool:
    if end <= source.start:
        return True
    with source.path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _shown(lines: list[bytes], times: list[float], options: Options) -> Iterator[bytes]:
    first = 0 if options.tail_lines is None else max(0, len(lines) - options.tail_lines)
    for at, line in zip(times[first:], lines[first:], strict=True):
        if options.oldest is None or at >= options.oldest:
            yield _prefix(at) + line if options.timestamps else line


def _times(lines: list[bytes], begun_at: float) -> list[float]:
    own = [_written_at(line) for line in lines]
    first = next((at for at in own if at), begun_at)
    return list(accumulate(own, max, initial=first))[1:]


def _prefix(at: float) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()


def _written_at(line: bytes) -> float:
    """The time that a line begins with; 0 where it has none."""
    for length in (23, 19):  # with milliseconds, without
        try:
            return datetime.fromisoformat(line[:length].decode("ascii")).timestamp()
        except ValueError:
            continue
    return 0.0


def _begun_at(pod: Json, container: str) -> float:
    status = _status(pod, container)
    states = [state for part in ("state", "lastState") for state in status.get(part, {}).values() if state]
    times = [state["startedAt"] for state in states if "startedAt" in state]
    return datetime.fromisoformat(times[0] if times else pod["metadata"]["creationTimestamp"]).timestamp()


def _status(pod: Json, container: str) -> Json:
    status = pod.get("status", {})
    seen = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return next((each for each in seen if each["name"] == container), {})


def _only_container(pod: Json) -> str:
    mains = _containers(pod, "containers")
    if len(mains) == 1:
        return mains[0]
    words = f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{' '.join(mains)}]"
    inits = _containers(pod, "initContainers")
    raise statuses.bad_request(f"{words} or one of the init containers: [{' '.join(inits)}]" if inits else words)


def _containers(pod: Json, *parts: str) -> list[str]:
    return [each["name"] for part in parts for each in pod.get("spec", {}).get(part) or ()]


def _places(pod: Json) -> Json:
    found: Json = json.loads((pod["metadata"].get("annotations") or {}).get(LOGS_ANNOTATION, "{}"))
    return found


def _waits_for(pod: Json) -> str:
    return "PodInitializing" if pod.get("spec", {}).get("initContainers") else "ContainerCreating"
