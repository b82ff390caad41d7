"""Pod logs, read from the files that the pod's annotation names. It knows files, not HTTP.

No container runtime stamps these lines: a line's time is the one it begins with, as Flink's log has it, in the zone of
this machine; one without belongs to the last that has.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
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
    """A container's output: a part of a file. `end` is None where it may still grow."""

    container: str
    path: Path
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Options:
    """What of it is asked for. `oldest` is in seconds since the epoch."""

    tail_lines: int | None = None
    oldest: float | None = None
    limit_bytes: int | None = None
    timestamps: bool = False


def source(pod: Json, container: str, *, previous: bool) -> Source:
    """BadRequest where the container is not the pod's, must be named, or has not started; or had none before it."""
    name = pod["metadata"]["name"]
    chosen = container or _only_container(pod)
    if chosen not in _containers(pod, "initContainers", "containers"):
        raise statuses.bad_request(f"container {chosen} is not valid for pod {name}")
    place = _places(pod).get(chosen)
    if place is None or not Path(place["path"]).is_file():
        raise statuses.bad_request(f'container "{chosen}" in pod "{name}" is waiting to start: {_waits_for(pod)}')
    if not previous:
        return Source(chosen, Path(place["path"]), place["start"])
    if place["previous"] is None:
        raise statuses.bad_request(f'previous terminated container "{chosen}" in pod "{name}" not found')
    return Source(chosen, Path(place["path"]), place["previous"], place["start"])


def is_growing(pod: Json, source: Source) -> bool:
    """Whether that container still runs: it was neither replaced nor has it ended."""
    place = _places(pod).get(source.container)
    if source.end is not None or place is None or place["start"] != source.start:
        return False
    status = pod.get("status", {})
    seen = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return not any(each["name"] == source.container and "terminated" in each.get("state", {}) for each in seen)


def read(source: Source, options: Options) -> tuple[bytes, int]:
    """The lines that there are, and the place in the file up to which they go."""
    with source.path.open("rb") as file:
        file.seek(source.start)
        content = file.read(-1 if source.end is None else source.end - source.start)
    lines = _LINE.findall(content)
    if options.tail_lines is not None:
        lines = lines[-options.tail_lines :] if options.tail_lines else []
    return _limited(_shown(lines, source.path, options), options.limit_bytes), source.start + len(content)


def follow(source: Source, start: int, options: Options, is_over: Callable[[], bool]) -> Iterator[bytes]:
    """What comes after `start`, until `is_over` and nothing is left; an empty chunk now and then, for the caller."""
    with source.path.open("rb") as file:
        file.seek(start)
        stamper = _Stamper(at_line_start=_ends_a_line(source, start))
        while True:
            was_over, chunk = is_over(), file.read(CHUNK_BYTES)
            yield stamper.stamped(chunk) if options.timestamps else chunk
            if not chunk and was_over:
                return
            if not chunk:
                time.sleep(POLL_SECONDS)


class _Stamper:
    """Puts times in front of the lines of a text that comes in pieces."""

    def __init__(self, *, at_line_start: bool) -> None:
        self._at_line_start = at_line_start
        self._last = time.time()

    def stamped(self, piece: bytes) -> bytes:
        shown = []
        for line in _LINE.findall(piece):
            self._last = _written_at(line) or self._last
            shown.append(_prefix(self._last) + line if self._at_line_start else line)
            self._at_line_start = line.endswith(b"\n")
        return b"".join(shown)


def _ends_a_line(source: Source, end: int) -> bool:
    if end <= source.start:
        return True
    with source.path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _limited(text: bytes, limit_bytes: int | None) -> bytes:
    return text if limit_bytes is None else text[:limit_bytes]


def _shown(lines: list[bytes], path: Path, options: Options) -> bytes:
    if options.oldest is None and not options.timestamps:
        return b"".join(lines)
    times = _times(lines, path.stat().st_mtime)
    oldest = options.oldest
    first = next((index for index, at in enumerate(times) if oldest is None or at >= oldest), len(lines))
    chosen = zip(times[first:], lines[first:], strict=True)
    return b"".join((_prefix(at) + line) if options.timestamps else line for at, line in chosen)


def _times(lines: list[bytes], otherwise: float) -> list[float]:
    """Each line's time; those before the first that has one get the first's, or `otherwise`."""
    own = [_written_at(line) for line in lines]
    last = next((at for at in own if at is not None), otherwise)
    found = []
    for at in own:
        last = at if at is not None else last
        found.append(last)
    return found


def _prefix(at: float) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()


def _written_at(line: bytes) -> float | None:
    for length in (23, 19):  # with milliseconds, without
        try:
            return datetime.fromisoformat(line[:length].decode("ascii")).timestamp()
        except ValueError:
            continue
    return None


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
