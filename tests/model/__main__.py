"""`./run faults --model`: plays drawn schedules, and says of the first that breaks a promise how to play it again."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.model.faults import RACES, WRITES, Kind
from tests.model.mutants import MUTANTS, mutated
from tests.model.schedule import Broken, broken_by, drawn, read, shrunk, written

AT_ONCE = 250
"""Schedules that one process plays before it says what came of them."""

LEAST_STRUCK = 50
"""How often each pair of a write and a fault has to be struck for the figures to say anything."""

Struck = Counter[tuple[str, Kind]]


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 where every schedule kept every promise, or, with --mutant, where one did not."""
    asked = _asked(argv)
    if asked.replay:
        return _replayed(Path(asked.replay), asked.mutant)
    begun = time.monotonic()
    broken, struck, played = _played(asked.seed, asked.schedules, asked.mutant, asked.jobs)
    _say(f"{played} schedules in {time.monotonic() - begun:.0f} s, seeds {asked.seed} to {asked.seed + played - 1}")
    if asked.mutant:
        _say(f"{asked.mutant}: " + (f"caught by seed {broken.seed}: {broken.why}" if broken else "not caught"))
        return 0 if broken else 1
    _report(struck, played)
    if broken is None:
        _say("every promise was kept")
        return 0
    _tell(shrunk(broken), Path(asked.written_to))
    return 1


def prove(schedules: int = 100_000) -> int:
    """The full figures: so many schedules, then each mutant."""
    codes = [main(["--model", "--schedules", str(schedules)])]
    codes += [main(["--model", "--schedules", "2000", "--mutant", name]) for name in MUTANTS]
    return max(codes)


def _asked(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run faults", description=__doc__)
    parser.add_argument("--model", action="store_true", required=True, help="over in-memory ports; no server is needed")
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the next ones count up")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a fault in the code, to be caught")
    parser.add_argument("--replay", metavar="FILE", help="plays the one schedule in this file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--written-to", metavar="FILE", default="broken-schedule.json")
    return parser.parse_args(argv)


def _played(seed: int, count: int, mutant: str | None, jobs: int) -> tuple[Broken | None, Struck, int]:
    """The first broken schedule, how often what was struck, and how many were played."""
    struck: Struck = Counter()
    played = 0
    with ProcessPoolExecutor(jobs) as pool:
        starts = range(seed, seed + count, AT_ONCE)
        parts = [pool.submit(_part, start, min(AT_ONCE, seed + count - start), mutant) for start in starts]
        for part in parts:
            broken, some, done = part.result()
            struck.update(some)
            played += done
            if broken is not None:
                for other in parts:
                    other.cancel()
                return broken, struck, played
    return None, struck, played


def _part(start: int, count: int, mutant: str | None) -> tuple[Broken | None, Struck, int]:
    struck: Struck = Counter()
    gc.disable()  # a fifth of the time, and a part of the schedules leaves little behind
    with mutated(mutant):
        for seed in range(start, start + count):
            steps = drawn(seed)
            why = broken_by(steps, struck)
            if why is not None:
                return Broken(seed, steps, why), struck, seed - start + 1
    gc.collect()
    return None, struck, count


def _replayed(path: Path, mutant: str | None) -> int:
    with mutated(mutant):
        why = broken_by(read(path.read_text()))
    _say(f"{path}: {why or 'every promise was kept'}")
    return 1 if why else 0


def _report(struck: Struck, played: int) -> None:
    """How often each pair was struck: the rare ones by name."""
    pairs = [(method, kind) for method in _writes() for kind in Kind if kind is not Kind.LOSES or method in RACES]
    rare = {pair: struck[pair] for pair in pairs if struck[pair] < LEAST_STRUCK}
    _say(f"{sum(struck.values())} faults struck; {len(pairs)} pairs of a write and a fault, {len(rare)} of them rarely")
    for (method, kind), count in sorted(rare.items()):
        _say(f"  {method} {kind}: {count}")


def _writes() -> Iterable[str]:
    return (method for methods in WRITES.values() for method in methods)


def _tell(broken: Broken, path: Path) -> None:
    path.write_text(written(broken.steps))
    _say(f"seed {broken.seed} breaks a promise: {broken.why}")
    _say(f"{len(broken.steps)} steps of it are enough:")
    for step in broken.steps:
        _say(f"  {step}")
    _say(f"./run faults --model --replay {path} plays them again")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(prove() if sys.argv[1:] == ["prove"] else main(sys.argv[1:]))
