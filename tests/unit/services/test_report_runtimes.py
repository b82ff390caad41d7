"""Which runtimes work here is what the processes that do the work have said of late."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from loguru import logger

from headrace.domain.runtime_reports import GOOD_FOR, Lack, Process, RuntimeState
from headrace.domain.runtimes.native import NativePlan
from headrace.domain.runtimes.operator import OperatorPlan
from headrace.errors import Unavailable
from headrace.ports import Scope
from headrace.services.report_runtimes import ReportRuntimes
from headrace.services.runtimes import Installed, Runtimes
from headrace.testing import FixedClock, InMemoryNativeRuntime, InMemoryRuntime, InMemoryStore
from worker.reporting import tried

SCOPE = Scope("default", "c", "n")
WORKER, SYNC, LAUNCHER = Process


@dataclass
class Here:
    operator: InMemoryRuntime
    native: InMemoryNativeRuntime
    clock: FixedClock
    store: InMemoryStore
    reports: ReportRuntimes

    def state(self, name: str) -> RuntimeState:
        return next(each for each in self.reports.states() if each.name == name)


@pytest.fixture
def here() -> Here:
    operator, native, clock, store = InMemoryRuntime(), InMemoryNativeRuntime(), FixedClock(), InMemoryStore()
    store.clock = clock
    runtimes = Runtimes(
        {
            "operator": Installed(operator, OperatorPlan()),
            "native": Installed(native, NativePlan(), (WORKER, SYNC, LAUNCHER)),
        }
    )
    return Here(operator, native, clock, store, ReportRuntimes(store, SCOPE, runtimes, clock))


def test_where_nobody_has_reported_nobody_knows(here: Here) -> None:
    nothing = {"works": None, "lacks": (), "reported_at": None}
    assert here.reports.states() == [
        RuntimeState("operator", is_default=True, silent=(WORKER, SYNC), **nothing),
        RuntimeState("native", is_default=False, silent=(WORKER, SYNC, LAUNCHER), **nothing),
    ]


def test_a_runtime_works_once_all_that_it_takes_have_said_so(here: Here) -> None:
    here.reports.of({WORKER})
    first = here.clock.now()
    assert (here.state("operator").works, here.state("operator").silent) == (None, (SYNC,))
    here.clock.advance(60)
    here.reports.of({SYNC})
    operator, native = here.reports.states()
    assert (operator.works, operator.silent, operator.reported_at) == (True, (), first)
    assert (native.works, native.silent) == (None, (LAUNCHER,))
    here.reports.of({LAUNCHER})
    assert here.state("native").works is True


def test_a_launcher_is_asked_of_the_runtime_alone_that_takes_one(here: Here) -> None:
    here.reports.of({LAUNCHER})
    assert [(each.runtime, each.process) for each in here.store.runtime_reports(SCOPE)] == [("native", "launcher")]


def test_a_worker_without_flink_speaks_for_its_rights_and_not_for_launches(here: Here) -> None:
    here.native.lacking = {LAUNCHER: ["FLINK_HOME"]}
    here.reports.of({WORKER, SYNC})
    assert (here.state("native").works, here.state("native").lacks) == (None, ())
    here.reports.of({LAUNCHER})
    assert (here.state("native").works, here.state("native").lacks) == (False, (Lack("FLINK_HOME", (LAUNCHER,)),))
    assert here.state("operator").works is True


def test_what_one_lacks_is_known_while_others_are_silent(here: Here) -> None:
    here.operator.lacking = {WORKER: ["the right to patch"]}
    here.reports.of({WORKER})
    found = here.state("operator")
    assert (found.works, found.lacks, found.silent) == (False, (Lack("the right to patch", (WORKER,)),), (SYNC,))


def test_what_all_lack_is_said_once_with_who_says_it(here: Here) -> None:
    here.operator.lacking = dict.fromkeys(Process, ("no CRD",))
    here.reports.of(set(Process))
    assert here.state("operator").lacks == (Lack("no CRD", (WORKER, SYNC)),)


def test_that_it_could_not_be_found_out_is_a_lack_in_its_words(here: Here) -> None:
    here.operator.outage = True
    here.reports.of(set(Process))
    ((lack,), native) = here.state("operator").lacks, here.state("native")
    assert lack.what.startswith("the Kubernetes API did not answer")
    assert native.works is True, "one that cannot be asked keeps no other from being reported"


def test_a_report_says_nothing_any_more_once_it_is_old(here: Here) -> None:
    here.operator.lacking = {WORKER: ["the right to patch"]}
    here.reports.of(set(Process))
    here.clock.advance(GOOD_FOR.total_seconds())
    assert here.state("operator").works is False
    here.clock.advance(1)
    assert (here.state("operator").works, here.state("operator").lacks) == (None, ())
    assert here.state("operator").silent == (WORKER, SYNC)


def test_the_next_report_takes_the_place_of_the_last(here: Here) -> None:
    here.operator.lacking = {WORKER: ["the right to patch"]}
    here.reports.of(set(Process))
    here.operator.lacking = {}
    here.reports.of(set(Process))
    here.reports.of(set(Process))
    assert here.state("operator").works is True
    assert len(here.store.runtime_reports(SCOPE)) == 5


def test_what_a_process_of_another_release_says_is_left_to_that_release(here: Here) -> None:
    here.reports.of(set(Process))
    here.store.put_runtime_report(SCOPE, "operator", "of a later release", ["a"])
    here.store.put_runtime_report(SCOPE, "yarn", "worker", ["b"])
    assert [each.works for each in here.reports.states()] == [True, True]


def test_a_report_that_cannot_be_made_is_said_and_stops_nothing() -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")

    def away() -> None:
        raise Unavailable("MongoDB does not answer")

    def mistaken() -> None:
        raise ValueError("a secret")

    tried(away)
    tried(mistaken)
    logger.remove(sink)
    assert lines[0] == "WARNING which runtimes work for this process was not put on record: MongoDB does not answer\n"
    assert lines[1].startswith("ERROR which runtimes work for this process was not put on record: ValueError in ")
    assert "a secret" not in lines[1]
