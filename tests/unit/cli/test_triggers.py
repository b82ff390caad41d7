"""`headrace triggers` and `headrace dead-letters` against a scripted HTTP API, and without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.cli import main

RULE = {"name": "uploads", "topic": "uploads", "action": {"operation": "STOP", "job_id": "${data.job}"}}
SHOWN = {**RULE, "revision": 2, "updated_at": "2026-05-01T12:00:00Z"}
LETTER = {
    **{"id": "0-7", "at": "2026-05-01T12:00:00Z", "topic": "uploads", "partition": 0, "offset": 3},
    **{"triggers": ["uploads"], "reason": "because", "size_bytes": 9, "sha256": "ab"},
}


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    file = tmp_path / "rule.yaml"
    file.write_text("name: uploads\ntopic: uploads\nwhen: data.job\naction: {operation: STOP, job_id: '${data.job}'}\n")
    return file


@pytest.fixture
def event(tmp_path: Path) -> Path:
    file = tmp_path / "event.json"
    file.write_text('{"job": "orders"}')
    return file


def no_server(_: httpx.Request) -> httpx.Response:
    raise AssertionError("a test of a file asks no server")


def test_a_trigger_is_sent_as_it_is_written(run: Any, rule: Path) -> None:
    sent: list[Any] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        return httpx.Response(201, json=SHOWN)

    code, out, _ = run(answers, "triggers", "apply", str(rule))
    assert (code, sent) == (0, [("/api/v1/flink/triggers", {**RULE, "when": "data.job"})])
    assert "STOP" in out


def test_lists_say_what_to_do_where_they_are_empty(run: Any) -> None:
    code, out, err = run(lambda _: httpx.Response(200, json={"triggers": []}), "triggers", "list")
    assert (code, out) == (0, "")
    assert "headrace triggers apply" in err
    code, out, err = run(lambda _: httpx.Response(200, json={"dead_letters": []}), "dead-letters", "list")
    assert (code, out) == (0, "")
    assert "no dead letters" in err
    assert run(lambda _: httpx.Response(200, json={"dead_letters": []}), "dead-letters", "replay", "--all")[0] == 0


def test_a_test_prints_what_would_be_asked_and_needs_no_server(run: Any, rule: Path, event: Path) -> None:
    words = ("triggers", "test", "--file", str(rule), "--event", str(event))
    assert run(no_server, *words)[:2] == (0, "operation: STOP\njob_id: orders\n")


def test_a_test_says_why_nothing_would_be(run: Any, rule: Path, event: Path) -> None:
    event.write_text('{"job": ""}')
    code, out, err = run(no_server, "triggers", "test", "--file", str(rule), "--event", str(event))
    assert (code, out) == (0, "")
    assert "asks for nothing on this event: the rule's `when` does not hold for it" in err
    event.write_text('{"job": 7}')
    code, _, err = run(no_server, "triggers", "test", "--file", str(rule), "--event", str(event))
    assert code == main.FAILURE
    assert "would be a dead letter: action.job_id: must come to text" in err


def test_a_kept_trigger_is_tested_by_its_name(run: Any, event: Path) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/api/v1/flink/triggers/uploads")
        return httpx.Response(200, json=SHOWN)

    headers = ["-H", "ce_specversion=1.0", "-H", "ce_id=1", "-H", "ce_source=/s", "-H", "ce_type=t"]
    code, out, _ = run(answers, "triggers", "test", "uploads", "--event", str(event), *headers)
    assert (code, out) == (0, "operation: STOP\njob_id: orders\n")


@pytest.mark.parametrize(
    "words",
    [
        ["triggers", "test", "--event", "e"],
        ["triggers", "test", "a", "--file", "f", "--event", "e"],
        ["dead-letters", "replay"],
        ["dead-letters", "replay", "0-1", "--all"],
    ],
)
def test_what_is_ambiguous_is_a_usage_error(run: Any, words: list[str]) -> None:
    assert run(no_server, *words)[0] == main.USAGE


@pytest.mark.parametrize(("outcome", "code"), [("ACCEPTED", 0), ("KNOWN", 0), ("REFUSED", 1), ("NOT_REPLAYABLE", 1)])
def test_a_replay_exits_by_what_it_came_to(run: Any, outcome: str, code: int) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"dead_letters": [LETTER]})
        assert request.url.path == "/api/v1/flink/dead-letters/0-7/replay"
        return httpx.Response(200, json={"id": "0-7", "outcome": outcome, "operations": ["o1"], "reason": "so"})

    ended, out, _ = run(answers, "dead-letters", "replay", "--all")
    assert ended == code
    assert outcome in out
    assert "o1" in out


def test_a_letter_is_a_row(run: Any) -> None:
    code, out, _ = run(lambda _: httpx.Response(200, json={"dead_letters": [LETTER]}), "dead-letters", "list")
    assert code == 0
    assert "0-7" in out
    assert "because" in out
