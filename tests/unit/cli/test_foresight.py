"""`--dry-run` and `headrace diff` against a scripted HTTP API."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from headrace.cli import main

ARGS = {"field": "args", "path": ["args"], "before": ["--a"], "after": ["--b"], "cost": "UPGRADE"}
PLACE = {**ARGS, "field": "spec.job.args", "path": ["spec", "job", "args"], "before": None}
FOUND = {
    **{"dry_run": True, "job_id": "orders", "kind": "UPGRADE", "asked_for": [ARGS], "changes": [PLACE]},
    **{
        "cost": "UPGRADE",
        "causes": "a redeploy with a savepoint",
        "keeps_state": True,
        "state": "a savepoint is taken",
    },
    "manifest": None,
}


class Asked:
    """An API that answers each dry run, and remembers what it was asked."""

    def __init__(self, **changes: Any) -> None:
        self.found = {**FOUND, **changes}
        self.sent: list[tuple[str, Any, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        where = request.url.path.removeprefix("/api/v1/flink/jobs/")
        self.sent.append((where, request.url.params.get("dry_run"), json.loads(request.content)))
        return httpx.Response(200, json=self.found)


def test_an_upgrade_that_is_tried_is_shown_with_cost_cause_and_state(run: Any) -> None:
    answers = Asked()
    code, out, _ = run(answers, "upgrade", "orders", "--arg=--b", "--dry-run")
    assert code == 0
    assert answers.sent == [("orders/upgrade", "true", {"job_config": {"args": ["--b"]}})]
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert 'args ["--a"] ["--b"] UPGRADE' in lines
    assert 'spec.job.args - ["--b"] UPGRADE' in lines
    assert "causes: a redeploy with a savepoint" in lines
    assert "state: kept: a savepoint is taken" in lines


@pytest.mark.parametrize(
    ("words", "where", "body"),
    [
        (("scale", "orders", "--parallelism", "3", "--dry-run"), "orders/scale", {"parallelism": 3}),
        (("scale", "orders", "--task-managers", "3", "--dry-run"), "orders/scale", {"task_managers": 3}),
        (("rollback", "orders", "--to", "2", "--dry-run"), "orders/rollback", {"to": 2}),
        (("rollback", "orders", "--dry-run"), "orders/rollback", {}),
        (("restart", "orders", "--dry-run"), "orders/restart", {}),
        (("resume", "orders", "--start-from", "s3://b/s", "--dry-run"), "orders/resume", {"start_from": "s3://b/s"}),
        (("diff", "orders"), "orders/upgrade", {"job_config": {}}),
        (("diff", "orders", "--parallelism", "3"), "orders/scale", {"parallelism": 3}),
        (("diff", "orders", "--task-managers", "3"), "orders/scale", {"task_managers": 3}),
        (
            ("diff", "orders", "--parallelism", "3", "--arg=--b"),
            "orders/upgrade",
            {"job_config": {"parallelism": 3, "args": ["--b"]}},
        ),
        (("diff", "orders", "--template-version", "2"), "orders/upgrade", {"job_config": {}, "template_version": 2}),
    ],
)
def test_each_asks_for_the_dry_run_of_its_operation(run: Any, words: Any, where: str, body: Any) -> None:
    answers = Asked()
    assert run(answers, *words)[0] == 0
    assert answers.sent == [(where, "true", body)]


def test_a_new_job_that_is_tried_says_which_run_is_made(run: Any, tmp_path: Any) -> None:
    script = tmp_path / "job.py"
    script.write_text("print(1)\n")
    answers = Asked(kind="SUBMIT", asked_for=[], changes=[], cost=None, causes="run 1 is made", manifest={"kind": "F"})
    code, out, _ = run(answers, "submit", str(script), "--name", "orders", "--dry-run")
    assert (code, answers.sent[0][:2], answers.sent[0][2]["job_id"]) == (0, ("submit", "true"), "orders")
    assert "run 1 is made" in out
    assert "nothing changes" not in out
    assert "cost" not in out


def test_what_changes_nothing_says_so(run: Any) -> None:
    code, out, _ = run(Asked(asked_for=[], changes=[], cost="IGNORE", causes="nothing restarts"), "diff", "orders")
    assert code == 0
    assert "in the deployment: nothing changes" in out


@pytest.mark.parametrize(("kept", "words"), [(False, "NOT kept: "), (None, "-: ")])
def test_state_that_is_lost_or_not_known_is_said(run: Any, kept: Any, words: str) -> None:
    assert words in run(Asked(keeps_state=kept), "diff", "orders")[1]


def test_a_program_reads_all_of_it(run: Any) -> None:
    assert json.loads(run(Asked(), "diff", "orders", "-o", "json")[1]) == FOUND


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scale", "orders", "--parallelism", "3", "--dry-run", "--wait"), "--wait and --idempotency-key go with"),
        (("restart", "orders", "--dry-run", "--idempotency-key", "k"), "--wait and --idempotency-key go with"),
        (("diff", "orders", "--task-managers", "3", "--arg=a"), "--task-managers is a scale"),
    ],
)
def test_options_that_do_not_go_together_are_refused_and_nothing_is_sent(run: Any, words: Any, said: str) -> None:
    answers = Asked()
    code, _, err = run(answers, *words)
    assert (code, answers.sent) == (main.USAGE, [])
    assert said in err


def test_a_refusal_is_one_line_and_its_exit_code(run: Any) -> None:
    def refuses(_: httpx.Request) -> httpx.Response:
        return httpx.Response(409, json={"status": 409, "title": "conflict", "detail": "job orders: SCALE is open"})

    code, out, err = run(refuses, "diff", "orders")
    assert (code, out, err) == (main.CONFLICT, "", "headrace: job orders: SCALE is open\n")


def test_an_api_that_knows_no_dry_run_and_has_accepted_it_is_not_passed_over(run: Any) -> None:
    def accepts(_: httpx.Request) -> httpx.Response:
        return httpx.Response(202, json={"job_id": "orders", "operation": {"id": "o7"}})

    code, _, err = run(accepts, "restart", "orders", "--dry-run")
    assert code == main.FAILURE
    assert "knows no dry run: it has accepted restart as operation o7" in err
