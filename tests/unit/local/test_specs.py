"""What the local operator reads out of a spec: how much is to run, what it refuses, and which changes are upgrades."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.vertices import OVERRIDES_KEY
from local.flink_operator import specs
from local.flink_operator.changes import IN_PLACE, is_in_place, is_upgrade, spec_changed
from local.flink_operator.specs import SAVEPOINT_DIRECTORY, Invalid


def spec(job: dict[str, Any] | None = None, replicas: int | None = None, **settings: str) -> dict[str, Any]:
    configuration = {name.replace("__", "."): value for name, value in settings.items()}
    rest = {"taskManager": {"replicas": replicas}} if replicas is not None else {}
    return {"job": {"parallelism": 3, **(job or {})}, "flinkConfiguration": configuration, **rest}


@pytest.mark.parametrize(
    ("asked", "parallelism", "task_managers"),
    [
        (spec(), 3, 3),
        (spec(taskmanager__numberOfTaskSlots="2"), 3, 2),
        (spec(replicas=2, taskmanager__numberOfTaskSlots="4"), 8, 2),
        ({"job": {}}, 1, 1),
    ],
)
def test_replicas_are_before_the_parallelism(asked: dict[str, Any], parallelism: int, task_managers: int) -> None:
    assert (specs.parallelism(asked), specs.task_managers(asked)) == (parallelism, task_managers)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (spec(replicas=0), "TaskManager replicas must be larger than 0"),
        (spec({"parallelism": 0}), "Job parallelism must be larger than 0"),
        (spec({"upgradeMode": "savepoint"}), f"config key[{SAVEPOINT_DIRECTORY}] is not set"),
    ],
)
def test_a_spec_that_the_operator_refuses(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        specs.validate(asked)
    assert words in str(refused.value)


def test_a_spec_that_the_operator_takes() -> None:
    specs.validate(spec({"parallelism": 0}, replicas=1))
    savepoints = {"execution__checkpointing__savepoint-dir": "file:///savepoints"}
    specs.validate(spec({"upgradeMode": "savepoint"}, **savepoints))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (spec({"parallelism": 4}), True),
        (spec({"args": ["--rate"]}), True),
        (spec(pipeline__name="orders"), True),
        (spec(replicas=2), True),
        (spec({"state": "suspended"}), False),
        (spec({"upgradeMode": "last-state"}), False),
        (spec({"savepointTriggerNonce": 7}), False),
        (spec(parallelism__default="4"), False),
        (spec(kubernetes__operator__job__restart="x"), False),
    ],
)
def test_a_change_is_an_upgrade_where_the_job_has_to_start_anew(changed: dict[str, Any], expected: bool) -> None:
    assert is_upgrade(spec(), changed) is expected


ADAPTIVE = {"jobmanager__scheduler": "adaptive"}


def overridden(text: str, job: dict[str, Any] | None = None, **settings: str) -> dict[str, Any]:
    made = spec(job, **{**ADAPTIVE, **settings})
    made["flinkConfiguration"][OVERRIDES_KEY] = text
    return made


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (spec(**ADAPTIVE), overridden("a:2,b:2"), True),
        (overridden("a:2,b:2"), overridden("a:1,b:2"), True),
        (spec(**ADAPTIVE), overridden("a:2", {"upgradeMode": "savepoint"}), True),
        (overridden("a:2,b:2"), overridden("a:1"), False),
        (overridden("a:2"), spec(**ADAPTIVE), False),
        (spec(**ADAPTIVE), overridden("a:2", {"parallelism": 4}), False),
        (spec(**ADAPTIVE), overridden("a:2", **{IN_PLACE.replace(".", "__"): "false"}), False),
        (spec(), {**overridden("a:2"), "flinkConfiguration": {OVERRIDES_KEY: "a:2"}}, False),
        (overridden("a:2"), overridden("a:2"), False),
    ],
)
def test_overrides_alone_are_scaled_in_place(before: dict[str, Any], after: dict[str, Any], expected: bool) -> None:
    assert is_in_place(before, after) is expected
    assert spec_changed(before, after).startswith("SCALE" if expected else "UPGRADE")


def test_there_are_as_many_task_managers_as_the_widest_vertex_needs() -> None:
    assert specs.task_managers(overridden("a:5,b:1", taskmanager__numberOfTaskSlots="2")) == 3
