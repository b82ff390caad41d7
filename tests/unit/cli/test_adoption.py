"""`headrace adopt` and `release`: what is sent, printed and exited with."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from headrace.cli import main

FOUND = [
    {"name": "shop", "namespace": "default", "state": "RUNNING", "why_not": "", "told": "Helm keeps it too"},
    {"name": "clicks", "namespace": "default", "state": "RUNNING", "why_not": "", "told": ""},
    {"name": "session", "namespace": "default", "state": "", "why_not": "no spec.job", "told": ""},
]


class Asked:
    """An API that lists FOUND and accepts what is asked for, but for the names in `refused`."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.queries: list[str] = []
        self._refused = refused

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/flink")
        if request.method == "GET":
            self.queries.append(request.url.query.decode())
            first = "cursor" not in self.queries[-1]
            page, cursor = (FOUND[:2], "next") if first else (FOUND[2:], None)
            return httpx.Response(200, json={"adoptable": page, "next_cursor": cursor})
        self.posts.append((path, json.loads(request.content)))
        if path.split("/")[2] in self._refused:
            return httpx.Response(409, json={"status": 409, "detail": "it is being deleted"})
        operation = {"id": "o1", "kind": "ADOPT", "state": "ACCEPTED", "reason": "", "savepoint_path": None}
        answer = {"job_id": path.split("/")[2], "status": "REQUESTED", "operation": operation}
        return httpx.Response(202, json=answer)


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("adopt", "shop"), ("/jobs/shop/adopt", {"deployment": "shop"})),
        (("adopt", "shop", "--as", "eu"), ("/jobs/eu/adopt", {"deployment": "shop"})),
        (("release", "eu"), ("/jobs/eu/release", {})),
    ],
)
def test_one_is_asked_for(run: Any, words: tuple[str, ...], sent: Any) -> None:
    api = Asked()
    code, out, _ = run(api, *words)
    assert (code, api.posts) == (0, [sent])
    assert "o1" in out


def test_a_dry_run_lists_all_with_why_not_and_asks_for_nothing(run: Any) -> None:
    api = Asked()
    code, out, _ = run(api, "adopt", "--all", "--namespace", "default", "--dry-run", "-o", "json")
    assert (code, api.posts) == (0, [])
    assert all("namespace=default" in query for query in api.queries)
    assert [(each["name"], each["adopt"]) for each in json.loads(out)] == [
        ("shop", "yes"),
        ("clicks", "yes"),
        ("session", "no"),
    ]
    table = run(api, "adopt", "--all", "--dry-run")[1]
    assert "no spec.job" in table
    assert "Helm keeps it too" in table


def test_all_that_can_be_are_adopted_and_what_was_refused_is_said(run: Any) -> None:
    api = Asked(refused=("clicks",))
    code, out, _ = run(api, "adopt", "--all", "-o", "json")
    assert [path for path, _ in api.posts] == ["/jobs/shop/adopt", "/jobs/clicks/adopt"]
    rows = {each["name"]: each for each in json.loads(out)}
    assert [rows[name]["adopt"] for name in ("shop", "clicks", "session")] == ["accepted", "refused", "no"]
    assert "being deleted" in rows["clicks"]["why_not"]
    assert code == main.CONFLICT


@pytest.mark.parametrize(
    "words",
    [
        ("adopt",),
        ("adopt", "shop", "--all"),
        ("adopt", "--all", "--as", "x"),
        ("adopt", "shop", "--dry-run"),
        ("adopt", "shop", "--namespace", "default"),
        ("adopt", "--all", "--wait"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Any, words: tuple[str, ...]) -> None:
    api = Asked()
    code, out, err = run(api, *words)
    assert (code, out, api.posts) == (main.USAGE, "", [])
    assert len(err.strip().splitlines()) == 1
