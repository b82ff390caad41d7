"""`headrace history` and `describe`: the time line, and what happened as one list."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import history
from tests.unit.cli.conftest import NOON
from tests.unit.cli.test_output import Terminal

pytestmark = pytest.mark.usefixtures("at_noon")


def ago(**since: float) -> str:
    return (NOON - timedelta(**since)).isoformat()


LIFE = [
    ("SUBMITTING", ago(hours=26, minutes=5), ""),
    ("STARTING", ago(hours=26, minutes=4), ""),
    ("RUNNING", ago(hours=26), ""),
    ("RESTARTING", ago(hours=9), "the program failed: KeyError 'price'"),
    ("RUNNING", ago(hours=8, minutes=50), ""),
    ("SCALING", ago(hours=3), ""),
    ("RUNNING", ago(hours=2, minutes=58), ""),
]
JOB = {
    "job_id": "orders",
    "status": "RUNNING",
    "observation": "FRESH",
    "created_at": ago(hours=26, minutes=6),
    "run": 1,
}
TRANSITIONS = [
    {"number": number, "run": 1, "from": before, "to": after, "at": at, "reason": reason, "gap": False}
    for number, ((before, _, _), (after, at, reason)) in enumerate(pairwise([("REQUESTED", "", ""), *LIFE]), 1)
]


def operation(number: int, kind: str, accepted_at: str, ended_at: str) -> dict[str, Any]:
    ended = {"state": "SUCCEEDED", "accepted_at": accepted_at, "ended_at": ended_at, "reason": ""}
    return {"id": f"op-{number}", "sequence": number, "kind": kind, "source": {"via": "cli"}, **ended}


OPERATIONS = [
    operation(1, "SUBMIT", ago(hours=26, minutes=6), ago(hours=26)),
    operation(2, "SCALE", ago(hours=3, seconds=2), ago(hours=2, minutes=58)),
]


def api(request: httpx.Request) -> httpx.Response:
    page = request.url.path.removeprefix("/api/v1/flink/jobs/orders").strip("/")
    pages: dict[str, Any] = {
        "": JOB,
        "transitions": {"transitions": TRANSITIONS},
        "operations": {"operations": OPERATIONS},
    }
    return httpx.Response(200, json=pages[page])


def test_a_history_is_a_line_and_one_list_of_phases_and_operations(run: Any) -> None:
    code, out, err = run(api, "history", "orders")
    assert (code, err) == (0, "")
    line, axis, legend, more, blank, heading, *rows = out.splitlines()
    assert len(line) == len(axis) == 80
    assert line[:4] == "qbsR"
    assert line[-1] == "━"
    assert "r" in line
    assert "l" in line
    assert (axis.split()[0], axis.split()[-1], blank) == ("26h", "now", "")
    assert legend == "q REQUESTED 60s   b SUBMITTING 60s   s STARTING 4m   R RUNNING 25h in 3"
    assert more == "r RESTARTING 10m   l SCALING 2m"
    assert heading.split() == ["AGE", "RUN", "WHAT", "TOOK", "REASON"]
    assert "SUBMIT SUCCEEDED" in rows[0]
    assert "REQUESTED -> SUBMITTING" in rows[1]
    order = [row for row in rows if "SCAL" in row]
    assert ["SCALE SUCCEEDED" in order[0], "RUNNING -> SCALING" in order[1]] == [True, True]
    assert "17h" in rows[3], "how long it ran"
    assert "KeyError 'price'" in rows[4]


def test_the_page_shows_what_is_printed(run: Any) -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    assert f"$ headrace history orders\n{run(api, 'history', 'orders')[1]}```" in page


def test_a_change_behind_a_gap_is_marked_and_said(run: Any) -> None:
    def gapped(request: httpx.Request) -> httpx.Response:
        page = json.loads(api(request).content)
        for each in page.get("transitions", [])[2:3]:
            each["gap"] = True
        return httpx.Response(200, json=page)

    out = run(gapped, "history", "orders")[1]
    assert "before 1 of these changes others may have been missed (gap)" in out
    assert [line for line in out.splitlines() if "STARTING -> RUNNING (gap)" in line]


def test_a_history_as_data_has_each_list_as_the_api_gives_it(run: Any) -> None:
    found = json.loads(run(api, "history", "orders", "-o", "json")[1])
    assert found == {"job_id": "orders", "transitions": TRANSITIONS, "operations": OPERATIONS}
    wide = run(api, "history", "orders", "-o", "wide")[1]
    assert "op-2" in wide
    assert "cli" in wide


def test_describe_draws_the_line_above_its_history(run: Any) -> None:
    out = run(api, "describe", "orders")[1]
    assert out.partition("history:\n")[2].startswith("qbsR━")


def test_a_line_has_the_width_and_the_colours_of_the_terminal(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, 40)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = run(api, "history", "orders")[1]
    assert len(plain.splitlines()[0]) == 40
    assert "\x1b" not in plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    coloured = run(api, "history", "orders")[1]
    assert "\x1b[32mR━" in coloured
    assert "\x1b[35mr\x1b[0m" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain


def test_a_terminal_without_lines_gets_dashes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.cli.output.encoded", lambda text: text.encode("ascii", "backslashreplace").decode())
    out = run(api, "history", "orders")[1]
    assert out.isascii()
    assert out.startswith("qbsR-")


def test_a_job_that_was_only_just_asked_for_has_a_history(run: Any) -> None:
    def new(request: httpx.Request) -> httpx.Response:
        job = {"job_id": "orders", "status": "REQUESTED", "created_at": NOON.isoformat()}
        return httpx.Response(200, json={**job, "transitions": [], "operations": []})

    code, out, _ = run(new, "history", "orders")
    assert code == 0, out
    assert out.startswith("q━")
    assert "REQUESTED" in out.splitlines()[2]


rows = st.lists(st.integers(-100, 100), max_size=20)


@given(rows, rows)
def test_each_list_keeps_its_order_in_the_merged_one(first: list[int], second: list[int]) -> None:
    both = [
        [{"at": ago(hours=hours), "of": of, "place": place} for place, hours in enumerate(times)]
        for of, times in enumerate((first, second))
    ]
    found = history.merged(*both)
    for of, sort in enumerate(both):
        assert [row for row in found if row["of"] == of] == sort
