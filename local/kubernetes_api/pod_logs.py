"""Pod logs, read from the file that the pod's annotation names. It knows files, not HTTP."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from local.kubernetes_api import statuses

LOG_FILE_ANNOTATION = "local.headrace.io/log-file"
CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.2


def log_file(pod: dict[str, Any], container: str) -> Path:
    """BadRequest where the container is not the pod's, or has not started yet."""
    name = pod["metadata"]["name"]
    spec = pod.get("spec", {})
    containers = [each["name"] for part in ("initContainers", "containers") for each in spec.get(part, [])]
    if container and container not in containers:
        raise statuses.bad_request(f"container {container} is not valid for pod {name}")
    path = (pod["metadata"].get("annotations") or {}).get(LOG_FILE_ANNOTATION)
    if not path or not Path(path).is_file():
        waiting = container or (containers[0] if containers else "")
        raise statuses.bad_request(f'container "{waiting}" in pod "{name}" is waiting to start: ContainerCreating')
    return Path(path)


def read_log(path: Path, *, tail_lines: int | None, since_seconds: int | None, limit_bytes: int | None) -> bytes:
    """The file's lines. `since_seconds` goes by the time at a line's start, in the zone of this machine."""
    lines = path.read_bytes().splitlines(keepends=True)
    if since_seconds is not None:
        lines = _lines_since(lines, time.time() - since_seconds)
    if tail_lines is not None:
        lines = lines[-tail_lines:] if tail_lines else []
    text = b"".join(lines)
    return text if limit_bytes is None else text[:limit_bytes]


def _lines_since(lines: list[bytes], oldest: float) -> list[bytes]:
    for index, line in enumerate(lines):
        written = _written_at(line)
        if written is not None and written >= oldest:
            return lines[index:]
    return [] if any(_written_at(line) is not None for line in lines) else lines


def _written_at(line: bytes) -> float | None:
    try:
        return datetime.fromisoformat(line[:19].decode("ascii")).timestamp()
    except ValueError:
        return None


def follow_log(path: Path, start: int, is_over: Callable[[], bool]) -> Iterator[bytes]:
    """What is appended after byte `start`, until `is_over`; an empty chunk now and then, so the caller can look."""
    with path.open("rb") as file:
        file.seek(start)
        while not is_over():
            chunk = file.read(CHUNK_BYTES)
            yield chunk
            if not chunk:
                time.sleep(POLL_SECONDS)
