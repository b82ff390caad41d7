"""`./run faults`: plays drawn schedules on real processes, and says of the first that breaks a rule how to play it
again.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.processes.asking import rules
from tests.processes.checker import broken
from tests.processes.history import History
from tests.processes.installation import Installation, running
from tests.processes.mutant import MUTANTS
from tests.processes.player import Player, playing
from tests.processes.schedule import ASK, FAULTS, Event, chosen, drawn, slower
from tests.processes.shrinking import shrunk

SLOWER = {"recorded": 1.0, "real": 6.0}
"""How much slower things happen than they were drawn: JVMs take their time."""


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 where every schedule kept every rule."""
    asked = _asked(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it has started ends with it
    is_real = asked.flink == "real"
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="headrace-faults-"))
    try:
        with (
            running(folder, asked.mutant, has_real_flink=is_real, rules=rules(has_real_flink=is_real)) as installation,
            playing(installation) as player,
        ):
            _introduce(installation)
            return _all_played(player, asked, folder)
    finally:
        if asked.keep or asked.folder:
            _say(f"logs and histories are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _asked(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the next ones count up")
    parser.add_argument("--seeds", type=int, default=1, help="how many schedules")
    parser.add_argument("--operations", type=int, default=30, help="in each schedule")
    parser.add_argument("--jobs", type=int, default=3, help="in each schedule")
    parser.add_argument("--only", type=_numbers, help="play these events of a schedule alone: 3,5,8")
    parser.add_argument(
        "--faults", type=_named, default=FAULTS, help="strike these alone, by parts of their names: lose,redis"
    )
    parser.add_argument("--shrink-minutes", type=float, default=10, help="how long a broken schedule is made smaller")
    parser.add_argument("--go-on", action="store_true", help="do not end at the first that breaks a rule")
    parser.add_argument(
        "--flink", choices=sorted(SLOWER), default="recorded", help="as the recordings show it, or real Flink processes"
    )
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a fault in our processes' code, to be found")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and histories")
    parser.add_argument("--folder", type=Path, help="where they go; it is kept")
    return parser.parse_args(argv)


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(each) for each in text.split(","))


def _named(text: str) -> tuple[str, ...]:
    found = tuple(each for each in FAULTS if any(part in each for part in text.split(",")))
    if not found:
        raise argparse.ArgumentTypeError(f"no fault has such a name; there are {', '.join(FAULTS)}")
    return found


def _introduce(installation: Installation) -> None:
    kafka = "Apache Kafka, which is restarted" if installation.has_durable_kafka else "in memory, which is frozen"
    clocks = "are set off by minutes" if installation.has_skew else "are right: there is no C compiler to set them off"
    _say(f"Kafka: {kafka}; clocks {clocks}")


def _all_played(player: Player, asked: argparse.Namespace, folder: Path) -> int:
    struck, failed, asked_for, begun = Counter[str](), 0, 0, time.monotonic()
    for seed in range(asked.seed, asked.seed + asked.seeds):
        events = slower(
            chosen(drawn(seed, asked.operations, asked.jobs, asked.faults), asked.only), SLOWER[asked.flink]
        )
        history = _played(player, seed, events, asked.jobs)
        (folder / f"seed-{seed}.json").write_text(history.written())
        struck.update(each.what for each in history.struck)
        asked_for += len(history.by_key)
        if whys := broken(history):
            failed += 1
            _tell(player, asked, folder, history, whys, events)
            if not asked.go_on:
                break
    struck.update({f"{what} (requests)": count for what, count in player.requests_struck.items()})
    _report(struck, asked_for, failed, time.monotonic() - begun)
    return 1 if failed else 0


def _played(player: Player, seed: int, events: Sequence[Event], jobs: int) -> History:
    begun = time.monotonic()
    history = player.play(seed, events, jobs)
    states = Counter(each["state"] for each in history.by_key.values())
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    took = time.monotonic() - begun
    verdict = "BROKEN" if broken(history) else "kept"
    asks = sum(each.what == ASK for each in events)
    _say(f"seed {seed}: {verdict} in {took:.0f} s; {asks} asks, {len(history.struck)} faults; operations: {ended}")
    _say(f"  of jobs that were last by: {', '.join(f'{name} {count}' for name, count in _by_runtime(history).items())}")
    return history


def _by_runtime(history: History) -> Counter[str]:
    """How many operations were those of jobs of each runtime."""
    return Counter(job.job["runtime"] for job in history.jobs.values() for _ in job.operations)


def _tell(
    player: Player,
    asked: argparse.Namespace,
    folder: Path,
    history: History,
    whys: Sequence[str],
    events: Sequence[Event],
) -> None:
    for why in whys:
        _say(f"  {why}")
    few, last = shrunk(events, lambda part: player.play(history.seed, part, asked.jobs), asked.shrink_minutes * 60)
    (folder / f"seed-{history.seed}-shrunk.json").write_text((last or history).written())
    _say(f"  {len(few)} of {len(events)} events are enough, as far as it was tried:")
    for event in few:
        _say(f"  {event}")
    _say("  what came of them:")
    for line in (last or history).told():
        _say(f"  {line}")
    only = ",".join(str(event.number) for event in few)
    size = f"--operations {asked.operations} --jobs {asked.jobs} --flink {asked.flink}"
    size += f" --faults '{','.join(asked.faults)}'" if asked.faults != FAULTS else ""
    _say(f"  ./run faults --seed {history.seed} {size} --only {only} --keep plays them again")


def _report(struck: Counter[str], asked_for: int, failed: int, seconds: float) -> None:
    faults = sum(count for what, count in struck.items() if not what.endswith("(requests)"))
    _say(f"{faults} faults struck, {asked_for} operations were on record, in {seconds:.0f} s")
    for what, count in sorted(struck.items()):
        _say(f"  {what}: {count}")
    _say(f"{failed} schedules broke a rule" if failed else "every rule was kept")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
