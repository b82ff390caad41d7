"""Signs of life of the processes that speak no HTTP, and the command that judges them: `python -m headrace.health
worker`, or `--ready worker`. Knows no process' inside, and nothing but the standard library, nor our settings: it
starts every few seconds.

A sign is a file with two moments in it, of the machine's steady clock, which no correction of the time moves: when it
was written last, and since when what it says holds. Whoever stops writing it has stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/run/headrace")
"""Where the service image has it; HEADRACE_HEALTH_FOLDER says so to the processes."""

LOOP, MONGODB, REDIS, KAFKA = "loop", "mongodb", "redis", "kafka"

LOOP_SECONDS = 30.0
"""A loop that has not turned for so long hangs: each call in it is bounded, by a third of that or less."""

BACK_SECONDS = 60.0
"""How long a loop may take to notice that the server for which it waited is back: pauses between its tries grow."""

LOOKED_SECONDS = 30.0
LOOK_SECONDS = 5.0
FEWEST_SECONDS = 1.0
"""Between two writings of one sign: a loop may turn a thousand times a second."""


@dataclass(frozen=True)
class Process:
    """What a process' loop does, in words, the servers without which it is not ready, and the one whose silence may
    stop the loop: that is no reason to start the process again, which would not be heard either."""

    loop: str
    servers: Sequence[str]
    may_wait_for: str | None = None


PROCESSES: Mapping[str, Process] = {
    "worker": Process("the loop that hands Redis' messages to threads", (MONGODB, REDIS), REDIS),
    "launcher": Process("the loop that hands Redis' messages to threads", (MONGODB, REDIS), REDIS),
    "sync": Process("the loop that hands Redis' messages to a thread", (MONGODB, REDIS), REDIS),
    "beat": Process("the loop that sends what is due", (REDIS,)),
    "consumer": Process("the loop that takes Kafka's records", (MONGODB, KAFKA)),
}
NAMES = {MONGODB: "MongoDB", REDIS: "Redis", KAFKA: "Kafka"}


class Signs:
    """Those that one process gives. Without a folder it gives none."""

    def __init__(self, folder: Path | None, process: str) -> None:
        self._folder = folder
        self._process = process
        self._written: dict[str, float] = {}
        self._since: dict[str, float] = {}

    def give(self, sign: str) -> None:
        """Says that it holds now."""
        now = time.monotonic()
        if now - self._written.get(sign, -FEWEST_SECONDS) >= FEWEST_SECONDS or sign not in self._since:
            self._write(sign, now, self._since.setdefault(sign, now))

    def miss(self, sign: str) -> None:
        """Says that it does not hold now."""
        self._since.pop(sign, None)
        self._write(sign, time.monotonic(), None)

    def look(self, sign: str, ask: Callable[[], object]) -> None:
        """Says whether `ask` returns, again and again in a thread of its own, for as long as the process lives."""
        if self._folder is not None:
            threading.Thread(target=self._look, args=(sign, ask), name=f"health-{sign}", daemon=True).start()

    def _look(self, sign: str, ask: Callable[[], object]) -> None:
        while True:
            try:
                ask()
            except Exception:  # noqa: BLE001 - whatever it is, the server did not answer, and who needs it says why
                self.miss(sign)
            else:
                self.give(sign)
            time.sleep(LOOK_SECONDS)

    def _write(self, sign: str, now: float, since: float | None) -> None:
        """A folder that takes no file is said nowhere: the sign that is missing says it."""
        if self._folder is None:
            return
        file = _file(self._folder, self._process, sign)
        part = file.with_suffix(".part")
        with suppress(OSError):
            part.write_text(f"{now} {'-' if since is None else since}")
            part.replace(file)
            self._written[sign] = now


@dataclass(frozen=True)
class Seen:
    """A sign as it was read: how long ago it was written, and for how long it has held, if it does."""

    age: float
    held: float | None


def troubles(process: str, folder: Path, *, ready: bool) -> Sequence[str]:
    """Why this process is not well, or with `ready` why it is not ready, in words; none where it is."""
    judged = PROCESSES[process]
    loop = _seen(folder, process, LOOP)
    if (loop is None or loop.age > LOOP_SECONDS) and (not judged.may_wait_for or ready or not _waits(process, folder)):
        last = "has not turned yet" if loop is None else f"turned last {loop.age:.0f} s ago"
        return [f"{judged.loop} {last}; {LOOP_SECONDS:.0f} s are allowed"]
    if not ready:
        return []
    found = {server: _seen(folder, process, server) for server in judged.servers}
    return [f"{NAMES[server]} {words}" for server, seen in found.items() if (words := _silence(seen))]


def _waits(process: str, folder: Path) -> bool:
    """Whether the server that the loop may wait for is away, or came back just now: somebody still asks it."""
    server = PROCESSES[process].may_wait_for
    seen = _seen(folder, process, server) if server else None
    return seen is not None and seen.age <= LOOKED_SECONDS and (seen.held is None or seen.held <= BACK_SECONDS)


def _silence(seen: Seen | None) -> str:
    if seen is None:
        return "was not asked yet"
    if seen.age > LOOKED_SECONDS:
        return f"was asked last {seen.age:.0f} s ago"
    return "does not answer" if seen.held is None else ""


def _seen(folder: Path, process: str, sign: str) -> Seen | None:
    """None where there is none since this machine's start."""
    try:
        written, since = _file(folder, process, sign).read_text().split()
        age = time.monotonic() - float(written)
        held = None if since == "-" else time.monotonic() - float(since)
    except (OSError, ValueError):
        return None
    return Seen(age, held) if age >= 0 else None


def _file(folder: Path, process: str, sign: str) -> Path:
    return folder / f"{process}.{sign}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 and what was seen, or 1 and why not."""
    parser = argparse.ArgumentParser(prog="python -m headrace.health", description=__doc__)
    parser.add_argument("process", choices=PROCESSES)
    parser.add_argument("--ready", action="store_true", help="whether its servers answer it, too")
    default = Path(os.environ.get("HEADRACE_HEALTH_FOLDER") or FOLDER)
    parser.add_argument("--folder", type=Path, default=default, help=f"default: HEADRACE_HEALTH_FOLDER, else {FOLDER}")
    asked = parser.parse_args(arguments)
    found = troubles(asked.process, asked.folder, ready=asked.ready)
    if found:
        print(f"{asked.process} is not {'ready' if asked.ready else 'well'}: {'; '.join(found)}", file=sys.stderr)
        return 1
    judged = PROCESSES[asked.process]
    waits = f", or waits for {NAMES[judged.may_wait_for]}" if judged.may_wait_for and not asked.ready else ""
    also = f"; {' and '.join(NAMES[each] for each in judged.servers)} answered it" if asked.ready else ""
    print(f"{asked.process}: {judged.loop} turned within {LOOP_SECONDS:.0f} s{waits}{also}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
