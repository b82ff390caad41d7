"""What each kind of operation has, so that a new one cannot be forgotten anywhere: its doors, words, and tests."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from api.access import gate
from api.app import BASE, create_app
from api.rpc.calls import name_of
from api.rpc.translate import SERVICE
from headrace import task_names
from headrace.cli.main import app as cli
from headrace.domain.jobs import Phase
from headrace.domain.operations import KINDS, Expected, Kind, KindName
from headrace.errors import InvalidRequest, NotFound
from headrace.services.handle_record import Origin
from tests.support.world import World
from tests.unit.services.test_crash_windows import CASES
from worker.app import app as celery
from worker.requests import SHOWN
from worker.transport import TASKS

ROOT = Path(__file__).parent.parent.parent.parent
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def test_every_name_has_a_kind() -> None:
    assert set(KINDS) == set(KindName)


@every_kind
def test_it_has_a_task(kind: Kind) -> None:
    celery.loader.import_default_modules()
    assert task_names.accepting(kind.name) in celery.tasks
    assert task_names.accepting(kind.name) in TASKS
    assert set(kind.shown) <= set(kind.Arguments.model_fields)
    assert set(kind.shown) <= SHOWN


@every_kind
def test_it_has_a_route_that_says_what_it_takes(kind: Kind, world: World) -> None:
    app = create_app(world.services, gate(world.services, [b"k"]), tenant="default", wait_limit_seconds=1)
    where = f"/jobs/{kind.word}" if kind.begins_a_run else f"/jobs/{{job_id}}/{kind.word}"
    body = app.openapi()["paths"][BASE + where]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) >= set(kind.Arguments.model_fields)


@every_kind
def test_it_has_an_rpc(kind: Kind) -> None:
    """tests/unit/api/test_rpc_proto.py holds its fields to the kind's."""
    assert name_of(kind) in SERVICE.methods_by_name


@every_kind
def test_it_has_a_command(kind: Kind) -> None:
    assert (cli.commands[kind.word].help or "").strip()


@every_kind
def test_a_record_names_it_and_what_it_does_not_take_is_refused(kind: Kind, world: World) -> None:
    record = f'{{"operation": "{kind.name}", "job_id": "orders", "no_such_field": 1}}'.encode()
    with pytest.raises(InvalidRequest, match="no_such_field: unknown field"):
        world.services.handle_record.handle(record, Origin("t", "id", 0, 0))


@every_kind
def test_without_a_job_it_is_refused_unless_it_makes_one(kind: Kind, world: World) -> None:
    if not kind.begins_a_run:  # ADOPT makes a job of a deployment, and there is none
        with pytest.raises((NotFound, InvalidRequest)):
            world.accept(kind.name, "orders")


@every_kind
def test_a_refusal_names_the_job_in_each_phase(kind: Kind, world: World) -> None:
    world.submit()
    found = world.job()
    for phase in Phase:
        expected = Expected("orders", replace(found, phase=phase), phase)
        refused = kind.refusal(expected)
        assert refused is None or refused.startswith("job orders: ")
    open_operations = world.store.operations_of(found.key)
    behind = Expected("orders", found, kind.leads_to, open_operations)
    assert kind.refusal(behind) is None or "job orders: " in (kind.refusal(behind) or "")


@every_kind
def test_it_has_a_crash_case_and_is_in_the_documents(kind: Kind) -> None:
    assert kind.name in CASES
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    assert re.search(rf"^\| {kind.name} \|", architecture, re.MULTILINE)
    assert re.search(rf"\b{kind.name}\b", (ROOT / "docs" / "glossary.md").read_text())
    assert re.search(rf"\b{kind.name}\b", (ROOT / "README.md").read_text())
