"""Signs of life, and what the command says of them: a loop that stands still is told from a server that is away."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from headrace import health
from headrace.health import BACK_SECONDS, LOOP, LOOP_SECONDS, MONGODB, PROCESSES, REDIS, Signs, main, troubles
from tests.support.clocks import HeldClock
from tests.support.patience import wait_for
from worker.consuming import LONGEST_TASK_SECONDS, Threads

CLOCK = HeldClock()
NOT_YET = "the loop that sends what is due has not turned yet; 30 s are allowed"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> HeldClock:
    """The machine's, as those see it who give signs and who judge them."""
    monkeypatch.setattr(health, "time", CLOCK)
    return CLOCK


def given(folder: Path, process: str, **ages: float | None) -> None:
    """Signs that have held for so long and were written as long ago; None for what was asked and did not answer."""
    now = CLOCK.monotonic()
    for sign, age in ages.items():
        (folder / f"{process}.{sign}").write_text(f"{now} -" if age is None else f"{now - age} {now - age}")


def test_a_process_is_well_while_its_loop_turns_whatever_its_servers_do(tmp_path: Path) -> None:
    given(tmp_path, "worker", loop=LOOP_SECONDS - 5, mongodb=None, redis=9999)
    assert troubles("worker", tmp_path, ready=False) == []
    assert troubles("worker", tmp_path, ready=True) == ["MongoDB does not answer", "Redis was asked last 9999 s ago"]


def test_a_process_is_ready_once_each_of_its_servers_has_answered(tmp_path: Path) -> None:
    signs = Signs(tmp_path, "worker")
    signs.give(LOOP)
    signs.give(MONGODB)
    assert troubles("worker", tmp_path, ready=True) == ["Redis was not asked yet"]
    signs.give(REDIS)
    assert troubles("worker", tmp_path, ready=True) == []
    signs.miss(MONGODB)
    assert troubles("worker", tmp_path, ready=True) == ["MongoDB does not answer"]


def test_a_worker_whose_loop_waits_for_redis_is_well_until_redis_has_been_back_for_a_while(
    tmp_path: Path, clock: HeldClock
) -> None:
    given(tmp_path, "worker", loop=LOOP_SECONDS + 100, redis=None)
    assert troubles("worker", tmp_path, ready=False) == []
    assert "turned last 130 s ago" in troubles("worker", tmp_path, ready=True)[0]
    now = clock.monotonic()
    (tmp_path / "worker.redis").write_text(f"{now} {now - BACK_SECONDS + 5}")
    assert troubles("worker", tmp_path, ready=False) == []
    (tmp_path / "worker.redis").write_text(f"{now} {now - BACK_SECONDS - 1}")
    assert "turned last 130 s ago" in troubles("worker", tmp_path, ready=False)[0]


def test_a_process_that_is_stopped_while_redis_is_away_is_told_all_the_same(tmp_path: Path, clock: HeldClock) -> None:
    given(tmp_path, "sync", loop=LOOP_SECONDS + 1)
    (tmp_path / "sync.redis").write_text(f"{clock.monotonic() - 31} -")
    assert troubles("sync", tmp_path, ready=False)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_loop_that_stands_still_is_told_within_a_minute(tmp_path: Path, process: str) -> None:
    assert "has not turned yet" in troubles(process, tmp_path, ready=False)[0]
    given(tmp_path, process, loop=LOOP_SECONDS + 1, redis=LOOP_SECONDS + 1)
    (trouble,) = troubles(process, tmp_path, ready=False)
    assert "turned last 31 s ago; 30 s are allowed" in trouble
    assert LOOP_SECONDS + 3 * 10 <= 60  # a probe's period and failures come on top: see k8s-deploy/base


@pytest.mark.parametrize("text", ["", "soon now", "1e99 -", "1"])
def test_what_is_no_moment_or_is_of_before_the_machines_start_is_no_sign(tmp_path: Path, text: str) -> None:
    (tmp_path / "beat.loop").write_text(text)
    assert troubles("beat", tmp_path, ready=False) == [NOT_YET]


def test_the_command_says_what_it_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["beat", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"beat is not well: {NOT_YET}\n"
    given(tmp_path, "beat", loop=0, redis=0)
    assert main(["--ready", "beat", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "beat: the loop that sends what is due turned within 30 s; Redis answered it\n"


def test_a_sign_is_written_once_a_second_at_most(tmp_path: Path, clock: HeldClock) -> None:
    signs = Signs(tmp_path, "worker")
    signs.give(LOOP)
    (file,) = tmp_path.iterdir()
    before = file.read_text()
    clock.advance(health.FEWEST_SECONDS / 2)
    signs.give(LOOP)
    assert file.read_text() == before
    clock.advance(health.FEWEST_SECONDS / 2)
    signs.give(LOOP)
    assert file.read_text() != before


def test_without_a_folder_and_with_one_that_takes_nothing_a_process_goes_on(tmp_path: Path) -> None:
    Signs(None, "worker").give(LOOP)
    Signs(None, "worker").miss(LOOP)
    Signs(None, "worker").look(MONGODB, lambda: None)
    Signs(tmp_path / "none", "worker").give(LOOP)
    assert not [each for each in threading.enumerate() if each.name.startswith("health-")]


def test_a_server_is_asked_again_after_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.01)
    answers = iter([OSError("away"), None])

    def ask() -> None:
        if (error := next(answers, None)) is not None:
            raise error

    given(tmp_path, "beat", loop=0)
    Signs(tmp_path, "beat").look(REDIS, ask)
    wait_for("the sign", lambda: not troubles("beat", tmp_path, ready=True))


def test_threads_are_stuck_where_each_is_at_one_task_for_longer_than_any_takes() -> None:
    threads = Threads()
    with threads.at_a_task():
        assert not threads.are_stuck(1)
        threads._begun = {1: time.monotonic() - LONGEST_TASK_SECONDS - 1}
        assert threads.are_stuck(1)
        assert not threads.are_stuck(2)
        threads._begun = {threading.get_ident(): 0.0}
