"""One sync over several runtimes: the cursor stands for all of them, and is of no others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from headrace.domain.deployments import Deployment, Metadata
from headrace.domain.runtime_reports import Process
from headrace.domain.runtimes.native import NativePlan
from headrace.domain.runtimes.operator import OperatorPlan
from headrace.errors import ConfigurationError, HistoryGone
from headrace.ports import FlinkRuntime, WatchEvent
from headrace.services.runtimes import Installed, Runtimes
from headrace.services.sync import _Pump
from headrace.settings import Settings, load
from headrace.testing import InMemoryNativeRuntime, InMemoryRuntime
from tests.support.given import runtimes_of
from tests.support.patience import wait_for
from worker.__main__ import check_queues, parts_of, process_of


def manifest(name: str) -> dict[str, Any]:
    marks = {"headrace.io/job-id": name, "headrace.io/tenant": "default", "headrace.io/sequence": "1"}
    metadata = {"name": name, "namespace": "default", "labels": {"headrace.io/job": name}, "annotations": marks}
    return {"metadata": metadata, "spec": {"image": "i", "job": {"state": "running"}}}


def both() -> tuple[Runtimes, InMemoryRuntime, InMemoryNativeRuntime]:
    operator, native = InMemoryRuntime(), InMemoryNativeRuntime()
    installed = {"operator": Installed(operator, OperatorPlan()), "native": Installed(native, NativePlan())}
    return Runtimes(installed), operator, native


def test_each_runtime_is_followed_from_its_own_version() -> None:
    runtimes, operator, native = both()
    operator.create(manifest("one"))
    pages = list(runtimes.list_pages("default"))
    assert [(name, len(page.deployments), page.is_whole) for name, page in pages] == [
        ("operator", 1, True),
        ("native", 0, False),
    ]
    cursor = pages[-1][1].resource_version
    native.create(manifest("two"))
    operator.create(manifest("three"))
    came = dict(runtimes.watch("default", cursor, 1))
    assert (came["native"].kind, came["native"].deployment.metadata.name) == ("TOUCHED", "two")
    assert (came["operator"].kind, came["operator"].deployment.metadata.name) == ("ADDED", "three")
    last = max((event.cursor for event in came.values()), key=lambda text: sum(map(int, json.loads(text).values())))
    assert list(runtimes.watch("default", last, 1)) == []


def test_one_runtimes_cursor_is_its_own_version() -> None:
    operator = InMemoryRuntime()
    operator.create(manifest("one"))
    ((_, page),) = runtimes_of(operator).list_pages("default")
    assert page.resource_version == "1"


@pytest.mark.parametrize("cursor", ["7", '{"operator": "7"}', "{", '{"operator": "7", "yarn": "1"}'])
def test_a_cursor_of_other_runtimes_lists_again(cursor: str) -> None:
    with pytest.raises(HistoryGone, match="list again"):
        list(both()[0].watch("default", cursor, 1))


def test_a_watch_that_breaks_ends_all_of_it() -> None:
    runtimes, operator, _ = both()
    operator.create(manifest("one"))
    operator.forget_history()
    with pytest.raises(HistoryGone):
        list(runtimes.watch("default", '{"native": "0", "operator": "0"}', 1))


@pytest.mark.parametrize("runtimes", ["", "yarn", "operator,operator"])
def test_a_list_of_runtimes_that_is_none_is_a_mistake_at_the_start(runtimes: str) -> None:
    with pytest.raises(ConfigurationError, match=r"HEADRACE_RUNTIMES: .*must be operator, native"):
        load({"HEADRACE_RUNTIMES": runtimes})


def test_a_worker_without_flink_takes_no_launches() -> None:
    with pytest.raises(ConfigurationError, match=r"FLINK_HOME: flink\.launches"):
        check_queues("flink.operations,flink.launches", Settings(_env_file=None, flink_home=None))
    check_queues("flink.operations", Settings(_env_file=None, flink_home=None))
    assert [process_of(each) for each in ("flink.launches", "flink.sync", "flink.operations")] == [
        "launcher",
        "sync",
        "worker",
    ]


@pytest.mark.parametrize(
    ("queues", "parts"),
    [
        ("flink.operations,flink.executions", {Process.WORKER}),
        ("flink.sync", {Process.SYNC}),
        ("flink.launches", {Process.LAUNCHER}),
        ("flink.operations,flink.sync,flink.launches", set(Process)),
        ("of.somebody", set()),
    ],
)
def test_a_worker_reports_for_the_parts_that_its_queues_give_it(queues: str, parts: set[Process]) -> None:
    assert parts_of(queues) == parts


class Breaks(InMemoryRuntime):
    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        yield WatchEvent("MODIFIED", Deployment(metadata=Metadata(resource_version="1")))
        raise HistoryGone("410")


class Floods(InMemoryRuntime):
    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        for number in count():
            yield WatchEvent("MODIFIED", Deployment(metadata=Metadata(resource_version=str(number))))


def followed(native: FlinkRuntime) -> Iterator[tuple[str, WatchEvent]]:
    installed = {"operator": Installed(Floods(), OperatorPlan()), "native": Installed(native, NativePlan())}
    return Runtimes(installed).watch("default", '{"native": "0", "operator": "0"}', 1)


def readers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("watch")]


def test_no_thread_is_left_of_watches_of_which_one_broke() -> None:
    with pytest.raises(HistoryGone):
        list(followed(Breaks()))
    wait_for("the threads to end", lambda: not readers(), 5)


def test_no_thread_is_left_of_watches_that_nobody_follows_any_more() -> None:
    events = followed(InMemoryNativeRuntime())
    next(events)
    events.close()  # type: ignore[attr-defined]  # a generator
    wait_for("the threads to end", lambda: not readers(), 5)


def test_no_thread_is_left_of_a_sync_that_breaks_off() -> None:
    with _Pump(followed(InMemoryNativeRuntime())) as pump:
        next(pump.batches(1))  # and MongoDB is away
    wait_for("the threads to end", lambda: not readers(), 5)
