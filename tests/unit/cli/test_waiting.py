"""Waiting: it ends when it can, when it cannot succeed, and when the time is over; each with its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from headrace.cli import exits, waiting
from headrace.domain.jobs import SETTLED, Phase

OPERATION = {"id": "o1", "kind": "STOP", "state": "RUNNING", "reason": "", "savepoint_path": None}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(waiting, "WATCH_SECONDS", 0.0)


def phases(*given: str) -> Callable[[httpx.Request], httpx.Response]:
    """A job that goes through these, and stays in the last."""
    left = list(given)

    def answers(_: httpx.Request) -> httpx.Response:
        phase = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(200, json={"job_id": "a", "status": phase, "reason": f"it is {phase.lower()}"})

    return answers


@pytest.mark.parametrize("wanted", list(Phase))
@pytest.mark.parametrize("phase", list(Phase))
def test_it_ends_at_once_where_the_phase_cannot_come(phase: Phase, wanted: Phase) -> None:
    code = waiting.outcome(phase, wanted)
    if phase == wanted:
        assert code == exits.DONE
    elif phase in (Phase.FAILED, Phase.REJECTED):
        assert code == exits.JOB_FAILED
    else:
        assert code == (exits.ENDED_OTHERWISE if phase in SETTLED else None)


@pytest.mark.parametrize(
    ("given", "wanted", "code"),
    [
        (("STARTING", "RUNNING"), "RUNNING", 0),
        (("STARTING", "RUNNING"), "running", 0),
        (("STARTING", "FAILED"), "RUNNING", 3),
        (("FINISHED",), "RUNNING", 6),
        (("CANCELLED",), "RUNNING", 6),
        (("RUNNING", "FINISHED"), "CANCELLED", 6),
        (("RUNNING", "FINISHED"), "FINISHED", 0),
        (("SUSPENDED",), "RUNNING", 124),
    ],
)
def test_the_exit_code_tells_how_it_ended(run: Any, given: tuple[str, ...], wanted: str, code: int) -> None:
    ended, out, err = run(phases(*given), "wait", "a", "--for", wanted, "--timeout", "0.2s")
    assert ended == code
    assert out == (f"{given[-1]}\n" if code == 0 else "")
    if code:
        assert f"it is {given[-1].lower()}" in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("wanted", ["RUNING", "runing", "RUNNNING"])
def test_a_misspelt_phase_is_refused_before_anything_is_asked(run: Any, wanted: str) -> None:
    def answers(_: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is to be asked")

    for words in (("wait", "a", "--for", wanted), ("list", "--phase", wanted)):
        code, out, err = run(answers, *words)
        assert (code, out, len(err.splitlines())) == (exits.USAGE, "", 1)
        assert "did you mean RUNNING?" in err


@pytest.mark.parametrize(("text", "is_one"), [("5x", False), ("-1", False), ("", False), ("1h30m", False), ("0", True)])
def test_a_duration_is_read_or_refused(run: Any, text: str, is_one: bool) -> None:
    code, _, err = run(phases("STARTING"), "wait", "a", "--timeout", text)
    assert code == (exits.TIMED_OUT if is_one else exits.USAGE)
    assert is_one or "90s, 5m, 2h" in err


def test_an_api_that_is_away_for_a_moment_ends_no_waiting(run: Any) -> None:
    def answers() -> Iterator[httpx.Response]:
        for _ in range(3):
            yield httpx.Response(503, json={"detail": "MongoDB does not answer"})
        while True:
            yield httpx.Response(200, json={"status": "RUNNING", "reason": ""})

    given = answers()
    code, out, err = run(lambda _: next(given), "wait", "a")
    assert (code, out) == (0, "RUNNING\n")
    assert "MongoDB does not answer" in err


def test_a_job_that_is_not_there_is_not_waited_for(run: Any) -> None:
    code, _, err = run(lambda _: httpx.Response(404, json={"detail": "there is none"}), "wait", "a")
    assert (code, err) == (exits.NOT_FOUND, "headrace: there is none\n")


@pytest.mark.parametrize(
    ("state", "code"), [("SUCCEEDED", 0), ("FAILED", 3), ("SUPERSEDED", 6), ("CANCELLED", 6), ("RUNNING", 124)]
)
def test_an_operation_that_is_waited_for_gives_its_outcome(run: Any, state: str, code: int) -> None:
    asked = 0

    def answers(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if request.method == "POST":
            return httpx.Response(202, json={"job_id": "a", "status": "RUNNING", "operation": OPERATION})
        if 2 <= asked <= 4:
            return httpx.Response(503, json={"detail": "the store does not answer"})
        return httpx.Response(200, json={"job_id": "a", "status": "x", "operation": {**OPERATION, "state": state}})

    ended, out, err = run(answers, "stop", "a", "--wait", "--timeout", "0.3s")
    assert ended == code
    assert ("o1" in out) == (code != 124)
    assert "the store does not answer" in err


def test_watching_shows_all_and_then_what_changes(run: Any) -> None:
    def job(name: str, status: str, observed_at: str = "2026") -> dict[str, Any]:
        return {"job_id": name, "status": status, "observed_at": observed_at, "created_at": "2026-01-01T00:00:00Z"}

    pages = [
        [job("a", "STARTING"), job("b", "RUNNING")],
        [job("a", "STARTING", "2027"), job("b", "RUNNING", "2027")],
        [job("a", "RUNNING"), job("b", "RUNNING"), job("c", "STARTING")],
    ]

    def watched(*words: str) -> tuple[int, str, str]:
        left = list(pages)

        def answers(_: httpx.Request) -> httpx.Response:
            if not left:
                raise KeyboardInterrupt
            return httpx.Response(200, json={"jobs": left.pop(0), "next_cursor": None})

        ended: tuple[int, str, str] = run(answers, *words)
        return ended

    code, out, err = watched("list", "-w")
    assert (code, err) == (exits.INTERRUPTED, "")
    seen = [line.split()[:2] for line in out.splitlines()]
    assert seen == [["JOB", "ID"], ["a", "STARTING"], ["b", "RUNNING"], ["a", "RUNNING"], ["c", "STARTING"]]
    assert watched("list", "--watch", "-o", "name")[1].split() == ["a", "b", "a", "c"]
    documents = watched("list", "--watch", "-o", "json")[1].replace("}\n{", "}\0{").split("\0")
    assert [json.loads(each)["status"] for each in documents] == ["STARTING", "RUNNING", "RUNNING", "STARTING"]
    assert watched("list", "--watch", "-o", "yaml")[1].count("---\n") == 4


def test_watching_outlasts_an_api_that_is_away_but_not_one_that_never_was(run: Any) -> None:
    answered = httpx.Response(200, json={"job_id": "a", "status": "RUNNING"})
    away = httpx.Response(503, json={"detail": "MongoDB does not answer"})
    given = [answered, away, away, away, httpx.Response(200, json={"job_id": "a", "status": "FAILED"})]

    def answers(_: httpx.Request) -> httpx.Response:
        if not given:
            raise KeyboardInterrupt
        return given.pop(0)

    code, out, err = run(answers, "get", "a", "-w")
    assert code == exits.INTERRUPTED
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["RUNNING", "FAILED"]
    assert "MongoDB does not answer" in err
    assert run(lambda _: away, "get", "a", "-w")[0] == exits.FAILURE
