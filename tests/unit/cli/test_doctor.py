"""`headrace doctor` against a scripted HTTP API: what it says of runtimes, and what it exits with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from headrace.cli.runtimes import lines
from headrace.domain.runtime_reports import Process

RIGHT = "the right to patch flinkdeployments in jobs is missing"


def runtime(name: str = "operator", **facts: Any) -> dict[str, Any]:
    known = {"is_default": name == "operator", "works": True, "lacks": [], "silent": [], "reported_at": None}
    return {"name": name, **known, **facts}


def api_with(*runtimes: dict[str, Any]) -> Callable[[httpx.Request], httpx.Response]:
    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/flink/runtimes":
            return httpx.Response(200, json={"runtimes": runtimes})
        return others(request)

    return answers


def others(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/whoami"):
        return httpx.Response(200, json={"name": "anna", "role": "viewer", "expires_at": None})
    if request.url.path == "/readyz":
        return httpx.Response(200, json={"status": "ready"})
    return httpx.Response(404, json={"status": 404, "detail": "no such route"})


@pytest.mark.parametrize(
    ("works", "lacks", "is_default", "code"),
    [
        (True, [], True, 0),
        (None, [], True, 0),
        (False, [{"what": RIGHT, "said_by": ["worker"]}], True, 1),
        (False, [{"what": RIGHT, "said_by": ["worker"]}], False, 0),
    ],
)
def test_it_fails_where_the_default_runtime_is_known_not_to_work(
    run: Any, works: bool | None, lacks: list[Any], is_default: bool, code: int
) -> None:
    answers = api_with(runtime(works=works, lacks=lacks, is_default=is_default), runtime("native", is_default=False))
    ended, out, err = run(answers, "doctor")
    assert (ended, err) == (code, "")
    assert "ok   runtime native works\n" in out, "each is said, also after one that does not work"
    assert ("the right to patch" in out) is bool(lacks)


def test_a_runtime_that_works_says_whether_it_is_the_default() -> None:
    assert list(lines(runtime())) == ["ok   runtime operator works (default)"]
    assert list(lines(runtime("native"))) == ["ok   runtime native works"]


def test_what_is_lacking_is_said_with_by_whose_word() -> None:
    lacks = [{"what": "no CRD", "said_by": ["worker", "sync"]}, {"what": RIGHT, "said_by": ["worker"]}]
    assert list(lines(runtime(works=False, lacks=lacks))) == [
        "no   runtime operator: no CRD (by the word of the worker and the sync)",
        f"no   runtime operator: {RIGHT} (by the word of the worker)",
    ]


def test_who_has_not_reported_is_asked_after() -> None:
    assert list(lines(runtime("native", works=None, silent=["launcher"]))) == [
        "??   runtime native: no launcher has reported within three minutes: is one running "
        "(k8s-deploy/components/native)?"
    ]
    assert len(list(lines(runtime("native", works=None, silent=[*Process, "of a later release"])))) == 4


def test_an_api_of_an_earlier_release_says_nothing_of_runtimes(run: Any) -> None:
    code, out, _ = run(others, "doctor")
    assert code == 0
    assert "ok   the key is taken: anna" in out
    assert "??   runtimes: this API is of a release that does not say" in out
