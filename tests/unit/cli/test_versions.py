"""`headrace versions` and `headrace rollback` against a scripted HTTP API."""

from __future__ import annotations

import json
from typing import Any

import httpx

from headrace.cli import main

OPERATION = {"id": "o3", "kind": "ROLLBACK", "state": "ACCEPTED", "reason": "", "savepoint_path": None}


def version(number: int, **changes: Any) -> dict[str, Any]:
    differs = [
        {"field": key, "path": key.split("."), "before": old, "after": new} for key, (old, new) in changes.items()
    ]
    return {
        **{"version": number, "run": 1, "kind": "UPGRADE", "state": "SUCCEEDED", "why": "upgrade of a whole request"},
        **{"at": "2026-11-27T11:00:00Z", "source": {"via": "kafka"}, "operation": "o", "changes": differs},
    }


def pages(request: httpx.Request) -> httpx.Response:
    if request.url.params.get("cursor") == "2":
        return httpx.Response(200, json={"versions": [version(1)], "next_cursor": None})
    scripts = {"script.sha256": ("a", "b"), "script.bytes": (1, 2)}
    newest = [version(3, args=(None, ["--b"])), version(2, parallelism=(2, 4), **scripts)]
    return httpx.Response(200, json={"versions": newest, "next_cursor": 2})


def test_versions_are_a_row_each_with_what_they_changed(run: Any, at_noon: None) -> None:
    code, out, _ = run(pages, "versions", "orders")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows] == ["VERSION", "3", "2", "1"]
    assert 'args nothing -> ["--b"]' in out
    assert "parallelism 2 -> 4; another script" in out
    assert out.count("kafka") == 3


def test_a_list_for_programs_has_every_page(run: Any) -> None:
    code, out, _ = run(pages, "versions", "orders", "-o", "json")
    assert (code, [each["version"] for each in json.loads(out)]) == (0, [3, 2, 1])


def test_one_version_is_shown_whole(run: Any) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/flink/jobs/orders/versions/2"
        return httpx.Response(200, json={**version(2), "request": {"args": ["--b"]}})

    code, out, _ = run(answers, "versions", "orders", "2")
    assert code == 0
    assert "request:\n  args:\n  - --b\n" in out


def test_a_rollback_says_to_which_version_or_nothing(run: Any) -> None:
    sent: list[Any] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        return httpx.Response(202, json={"job_id": "orders", "status": "RUNNING", "operation": OPERATION})

    assert run(answers, "rollback", "orders", "--to", "2")[0] == 0
    assert run(answers, "rollback", "orders")[0] == 0
    assert sent == [("/api/v1/flink/jobs/orders/rollback", body) for body in ({"to": 2}, {})]


def test_a_version_that_there_is_not_is_one_line_and_an_exit_code(run: Any) -> None:
    detail = "job orders: there is no version 9; it has 1 to 3"
    code, out, err = run(lambda _: httpx.Response(404, json={"detail": detail}), "rollback", "orders", "--to", "9")
    assert (code, out) == (main.NOT_FOUND, "")
    assert detail in err
