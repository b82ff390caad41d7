"""The fleet on a screen: trouble first, never more than there is room for; and as a table in a pipe."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import exits, fleet, output
from headrace.cli.fleet import Looked
from headrace.domain.jobs import Observation, Phase
from tests.unit.cli.conftest import NOON

pytestmark = pytest.mark.usefixtures("at_noon")

NOW = NOON
SCALE = {"kind": "SCALE", "step": "AWAIT_RUNNING"}
STOP = {"kind": "STOP", "step": "BEGIN"}


def job(name: str, status: str = "RUNNING", minutes: float = 60, **fields: Any) -> dict[str, Any]:
    since = (NOW - timedelta(minutes=minutes)).isoformat()
    known = {"observation": "FRESH", "open_operations": [], "parallelism": 2, "restarts": 0, "reason": ""}
    return {"job_id": name, "status": status, "phase_since": since, **known, **fields}


FLEET = [
    job("a-finished", "FINISHED"),
    job("b-runs"),
    job("c-suspended", "SUSPENDED", observation="STALE"),
    job("d-scales", "SCALING", open_operations=[SCALE, STOP, STOP]),
    job("e-unseen", observation="UNREACHABLE"),
    job("f-restarts", "RESTARTING", minutes=300, restarts=12),
    job("g-failed", "FAILED", minutes=600),
    job("h-failed-now", "FAILED", minutes=1, reason="the program failed: KeyError 'price'"),
    job("i-stops", open_operations=[STOP]),
]


def test_trouble_is_first_and_what_rests_is_last() -> None:
    order = [each["job_id"][0] for each in fleet.trouble_first(FLEET)]
    assert "".join(order) == "hgfedibac"


def test_a_restart_that_was_asked_for_is_no_trouble() -> None:
    asked = job("a-asked", "RESTARTING", minutes=1, open_operations=[{"kind": "RESTART", "step": "AWAIT_RUNNING"}])
    by_itself = job("b-by-itself", "RESTARTING", minutes=2)
    scales = job("c-scales", "SCALING", minutes=3)
    order = [each["job_id"][0] for each in fleet.trouble_first([asked, scales, by_itself])]
    assert order == ["b", "a", "c"]


@given(st.lists(st.tuples(st.sampled_from(list(Phase)), st.sampled_from(list(Observation)), st.booleans())))
def test_no_job_is_lost_and_failed_ones_are_never_below_others(seen: list[tuple[Phase, Observation, bool]]) -> None:
    jobs = [
        job(str(number), status.value, observation=observation.value, phase_since=None if is_new else NOW.isoformat())
        for number, (status, observation, is_new) in enumerate(seen)
    ]
    found = fleet.trouble_first(jobs)
    assert sorted(each["job_id"] for each in found) == sorted(each["job_id"] for each in jobs)
    failed = [each["status"] in ("FAILED", "REJECTED") for each in found]
    assert failed == sorted(failed, reverse=True)
    assert fleet.trouble_first(list(reversed(jobs))) == found, "an order of its own"


def test_counts_are_by_phase_trouble_first() -> None:
    assert fleet.counted(fleet.trouble_first(FLEET)).startswith("9 jobs: 2 FAILED, 1 RESTARTING, 3 RUNNING, 1 SCALING")
    assert fleet.counted([job("a")]) == "1 job: 1 RUNNING"
    assert fleet.counted([]) == "no jobs yet"


def test_an_operation_is_shown_with_its_step_and_how_many_wait() -> None:
    assert [fleet.asked(each) for each in FLEET[1:4]] == ["", "", "SCALE AWAIT_RUNNING +2"]
    assert fleet.asked({}) == ""


@given(
    st.lists(st.text(max_size=30), max_size=20),
    st.integers(1, 160),
    st.integers(1, 30),
    st.sampled_from(["", "the API \x1b[2J does not answer\nat all"]),
)
def test_a_frame_never_has_more_than_its_screen(names: list[str], columns: int, lines: int, trouble: str) -> None:
    jobs = [job(name, "FAILED", reason=name * 9) for name in names]
    seen = Looked(jobs, NOW, trouble)
    found = fleet.frame(seen, NOW, (columns, lines), "every 2s, q ends", has_colours=False)
    assert 1 <= len(found) <= lines
    assert all(output.width(line) <= columns for line in found)
    assert not any("\x1b" in line or "\n" in line for line in found)
    if len(jobs) > lines and lines > 3 and columns > 20:
        rows = len(found) - 3 - bool(trouble)
        assert found[-1] == f"… and {len(jobs) - max(0, rows)} more"


def test_a_fleet_fits_eighty_columns_with_every_column_in_it() -> None:
    found = fleet.frame(Looked(FLEET, NOW), NOW, (80, 24), "every 2s, q ends", has_colours=False)
    heading = found[1]
    assert [
        word for word in ("JOB ID", "STATUS", "FOR", "OBS", "OPER", "PAR", "REST", "REASON") if word not in heading
    ] == []
    assert "h-failed-now" in found[2]
    assert "RESTARTING" in found[4]
    assert " 12 " in found[4]


def test_colours_are_of_phases_and_take_no_room() -> None:
    found = fleet.frame(Looked(FLEET, NOW), NOW, (80, 24), "", has_colours=True)
    assert "\x1b[31mFAILED\x1b[0m" in found[2]
    assert "\x1b[35mRESTARTING\x1b[0m" in found[4]


def api(request: httpx.Request) -> httpx.Response:
    assert dict(request.url.params) == {"brief": "true", "limit": "500"}
    return httpx.Response(200, json={"jobs": FLEET, "next_cursor": None})


SHOP = [
    job("orders", "RESTARTING", minutes=12, restarts=7, reason="the program failed: KeyError 'price'"),
    job("payments", "SCALING", minutes=1, open_operations=[SCALE, STOP], parallelism=8),
    job("clicks", minutes=60 * 30, parallelism=16),
    job("sessions", minutes=60 * 70, observation="STALE", restarts=1),
    job("nightly", "FAILED", minutes=60 * 9, reason="the user code is not there: no file job.py"),
    *(job(f"report-{number}", "FINISHED", minutes=60 * 24 * number) for number in range(1, 6)),
]


def test_the_page_shows_what_is_drawn() -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    lines = fleet.frame(Looked(SHOP, NOON), NOON, (96, 9), "every 2s, q ends", has_colours=False)
    assert f"```\n{chr(10).join(lines)}\n```" in page


def test_in_a_pipe_it_is_one_plain_table(run: Any) -> None:
    code, out, err = run(api, "top")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    heading, *rows = out.splitlines()
    columns = ["JOB ID", "STATUS", "FOR", "OBSERVATION", "OPERATION", "PAR", "RESTARTS", "REASON"]
    assert [each.strip() for each in heading.split("  ") if each.strip()] == columns
    assert [row.split()[0] for row in rows] == [each["job_id"] for each in fleet.trouble_first(FLEET)]
    assert rows[0].endswith("KeyError 'price'")


def test_an_empty_fleet_is_friendly(run: Any) -> None:
    code, out, err = run(lambda _: httpx.Response(200, json={"jobs": [], "next_cursor": None}), "top")
    assert (code, out) == (0, "")
    assert "no jobs yet" in err


def test_an_api_that_knows_less_leaves_columns_empty(run: Any) -> None:
    old = {"job_id": "orders", "status": "RUNNING", "observation": "FRESH", "parallelism": 1, "reason": ""}
    code, out, _ = run(lambda _: httpx.Response(200, json={"jobs": [old], "next_cursor": None}), "top", "--once")
    assert code == 0
    assert out.splitlines()[1].split() == ["orders", "RUNNING", "-", "FRESH", "-", "1", "-", "-"]


@pytest.mark.parametrize("every", ["0", "0.1s", "soon", "-1"])
def test_a_pause_that_would_hammer_the_api_is_refused(run: Any, every: str) -> None:
    code, out, err = run(api, "top", f"--every={every}")
    assert (code, out, len(err.splitlines())) == (exits.USAGE, "", 1)


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateways_words_are_those_of_an_api_that_is_away(run: Any, status: int) -> None:
    given = [httpx.Response(200, json={"job_id": "a", "status": "STARTING"}), httpx.Response(status, text="<html>")]
    given += [httpx.Response(200, json={"status": "RUNNING", "reason": ""})]
    code, out, err = run(lambda _: given.pop(0), "wait", "a")
    assert (code, out) == (0, "RUNNING\n")
    assert f"waiting: the API answered {status}" in err
