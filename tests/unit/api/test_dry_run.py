"""`?dry_run=true` over HTTP: what it answers, what it refuses, and that nothing is done by it."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.operations import KINDS
from tests.support.world import SCRIPT, World
from tests.unit.api.test_api import Api, api  # noqa: F401 - a fixture
from tests.unit.services.test_foresee import everything


def dry(world: World, api: Api, where: str, body: Any, query: str = "dry_run=true") -> Any:  # noqa: F811
    before = everything(world)
    answer = api.v1("POST", f"/jobs/{where}?{query}", body)
    assert everything(world) == before
    return answer


def test_an_upgrade_is_answered_and_not_accepted(world: World, api: Api) -> None:  # noqa: F811
    world.runs(job_config={"args": ["--a"]})
    answer = dry(world, api, "orders/upgrade", {"job_config": {"labels": {"team": "b"}}})
    assert answer.status_code == 200
    found = answer.json()
    assert {name: found[name] for name in ("dry_run", "job_id", "kind", "cost", "causes", "keeps_state")} == {
        "dry_run": True,
        "job_id": "orders",
        "kind": "UPGRADE",
        "cost": "UPGRADE",
        "causes": "a redeploy with a savepoint",
        "keeps_state": True,
    }
    label = {"field": "labels.team", "path": ["labels", "team"], "before": None, "after": "b", "cost": "UPGRADE"}
    assert found["asked_for"] == [label]
    by_field = {each["field"]: (each["before"], each["after"], each["cost"]) for each in found["changes"]}
    assert by_field == {
        "metadata.labels.team": (None, "b", "IGNORE"),
        "spec.podTemplate.metadata.labels.team": (None, "b", "UPGRADE"),
    }
    assert len(api.v1("GET", "/jobs/orders/operations").json()["operations"]) == 1


def test_a_scale_and_a_new_job_are_answered(world: World, api: Api) -> None:  # noqa: F811
    world.runs()
    assert dry(world, api, "orders/scale", {"parallelism": 2}).json()["changes"][0]["field"] == "spec.job.parallelism"
    new = dry(world, api, "submit", {"job_id": "other", "job_config": {"script": SCRIPT}}).json()
    assert (new["job_id"], new["cost"], new["causes"]) == ("other", None, "run 1 is made")
    assert new["manifest"]["metadata"]["name"] == "other"
    assert api.v1("GET", "/jobs/other").status_code == 404


@pytest.mark.parametrize(
    ("where", "body", "status"),
    [
        ("nobody/scale", {"parallelism": 2}, 404),
        ("orders/scale", {"parallelism": 0}, 400),
        ("orders/upgrade", {"job_config": {"image": "evil:1"}}, 400),
        ("orders/resume", {}, 409),
        ("submit", {"job_id": "orders", "job_config": {"script": SCRIPT}}, 409),
        ("orders/rollback", {"to": 9}, 404),
    ],
)
def test_what_cannot_be_foreseen_is_a_problem_with_its_reason(
    world: World,
    api: Api,  # noqa: F811
    where: str,
    body: Any,
    status: int,
) -> None:
    world.runs()
    answer = dry(world, api, where, body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_no_route_does_what_was_only_to_be_tried(kind: Any, world: World, api: Api) -> None:  # noqa: F811
    world.runs()
    where = kind.word if kind.begins_a_run else f"orders/{kind.word}"
    answer = dry(world, api, where, {})
    assert answer.status_code != 202
    if not kind.can_be_foreseen:
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "dry_run")


def test_a_dry_run_that_is_neither_yes_nor_no_is_refused(world: World, api: Api) -> None:  # noqa: F811
    world.runs()
    assert dry(world, api, "orders/scale", {"parallelism": 2}, "dry_run=perhaps").status_code == 400


def test_a_dry_run_uses_up_no_idempotency_key(world: World, api: Api) -> None:  # noqa: F811
    world.runs()
    body = {"parallelism": 2}
    headers = {"Idempotency-Key": "k-1"}
    tried = api.v1("POST", "/jobs/orders/scale?dry_run=true&wait=5", body, **headers)
    assert (tried.status_code, tried.json()["dry_run"]) == (200, True)
    assert api.v1("POST", "/jobs/orders/scale", {"parallelism": 3}, **headers).status_code == 202


def test_a_secret_is_shown_by_neither_list(world: World, api: Api) -> None:  # noqa: F811
    world.runs(job_config={"env": {"DB_PASSWORD": "hunter2hunter2"}})
    answer = dry(world, api, "orders/upgrade", {"job_config": {"env": {"DB_PASSWORD": "hunter3hunter3"}}})
    assert answer.json()["asked_for"][0]["field"] == "env.DB_PASSWORD"
    assert "hunter" not in answer.text
    assert "sealed" not in answer.text


def test_a_kubernetes_that_is_away_is_a_503(world: World, api: Api) -> None:  # noqa: F811
    world.runs()
    world.runtime.outage = True
    assert dry(world, api, "orders/scale", {"parallelism": 2}).status_code == 503
