"""What each process counts, and what the installation's facts say, in the text of /metrics."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from beat.app import count_sent
from headrace import metrics
from headrace.adapters import prometheus
from headrace.adapters.flink_rest import RestJobManager
from headrace.adapters.kafka import Broker
from headrace.adapters.kafka.lag import LagGauge
from headrace.adapters.prometheus import facts
from headrace.adapters.prometheus.errors import counting_errors
from headrace.bootstrap import wired
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KINDS
from headrace.domain.stock import Stock
from headrace.errors import ConfigurationError, CrdMissing, InvalidRequest, LostRace, Refused, Unavailable, class_of
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from tests.support.clocks import HeldClock, held_clock
from tests.support.metered import Page, grows, here
from tests.support.patience import PATIENCE, WAIT_SECONDS
from tests.support.world import World

NOTHING = Stock({}, {}, {}, 0, None, {})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> HeldClock:
    """By which a look of the facts is old; and who scrapes here waits for one as long as a test does."""
    monkeypatch.setattr(facts, "PATIENCE_SECONDS", WAIT_SECONDS * PATIENCE)
    return held_clock(monkeypatch, facts)


@pytest.fixture
def counting() -> World:
    """The services over a store that counts."""
    store, runtime, queue = InMemoryStore(), InMemoryRuntime(), InMemoryQueue()
    job_manager, clock = InMemoryJobManager(), FixedClock()
    store.clock = clock
    services = wired(
        Settings(_env_file=None),
        store=prometheus.counted(store),
        queue=queue,
        runtime=runtime,
        job_manager=job_manager,
        clock=clock,
        sealer=None,
    )
    return World(services, store, runtime, queue, job_manager, clock)


def runs(world: World) -> None:
    """The operator's part: the job is RUNNING."""
    world.execute()
    live = world.runtime.get("default", "orders")
    assert live is not None
    status = {
        "observedGeneration": live.metadata.generation,
        "lifecycleState": "STABLE",
        "jobManagerDeploymentStatus": "READY",
        "jobStatus": {"jobId": "f" * 32, "state": "RUNNING"},
        "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": "{}"},
    }
    world.runtime.set_status("default", "orders", status)
    world.sync()


def test_an_operation_is_counted_where_it_is_accepted_moves_on_and_ends(counting: World) -> None:
    submit = {"kind": "SUBMIT"}
    with (
        grows(1, "headrace_accepted_total", via="http", **submit),
        grows(1, "headrace_operations_total", state="SUCCEEDED", **submit),
        grows(0, "headrace_operations_total", state="FAILED"),
        grows(1, "headrace_operation_seconds_count", **submit),
        grows(30, "headrace_operation_seconds_sum", **submit),
        grows(10, "headrace_operation_step_seconds_sum", step="BEGIN", **submit),
        grows(20, "headrace_operation_step_seconds_sum", step="AWAIT_RUNNING", **submit),
        grows(1, "headrace_phases_entered_total", phase="RUNNING"),
    ):
        counting.submit()
        counting.clock.advance(10)
        counting.execute()
        counting.clock.advance(20)
        runs(counting)


def test_what_is_said_again_is_accepted_once(counting: World) -> None:
    with grows(1, "headrace_accepted_total", kind="SUBMIT"):
        counting.submit(idempotency_key="k")
        counting.submit(idempotency_key="k")


def test_what_ends_as_another_is_placed_is_counted_with_that(counting: World) -> None:
    counting.submit()
    runs(counting)
    counting.scale(2)
    with grows(1, "headrace_operations_total", kind="SCALE", state="SUPERSEDED"):
        counting.scale(3)


def test_a_write_that_lost_its_race_is_not_counted(counting: World) -> None:
    counting.submit()
    counting.execute()
    store, before = counting.services.store, counting.store.document(JobKey("default", "orders"))
    assert before is not None
    later = replace(before, revision=before.revision + 1).entering(Phase.RUNNING, counting.clock.now())
    stale = replace(before, revision=before.revision - 1)
    with grows(0, "headrace_phases_entered_total", phase="RUNNING"):
        with pytest.raises(LostRace):
            store.write(stale, later)
        assert store.write_all([(stale, later)]) == [before.key]
    with grows(1, "headrace_phases_entered_total", phase="RUNNING"):
        assert store.write_all([(before, later)]) == []


def page(of_records: Any = lambda: NOTHING, of_queues: Any = dict) -> Page:
    return Page(prometheus.FactsPage(of_records, of_queues).text().decode())


def test_the_installations_facts_are_read_when_somebody_scrapes(counting: World) -> None:
    counting.submit()
    counting.clock.advance(7)
    stock = counting.services.take_stock
    told = page(stock.of_records, stock.of_queues)
    assert (told.value("headrace_store_up"), told.value("headrace_redis_up")) == (1, 1)
    assert told.value("headrace_jobs", phase="REQUESTED") == 1
    assert told.value("headrace_jobs", phase="FAILED") == 0
    assert told.labels("headrace_jobs", "phase") == set(Phase)
    assert told.value("headrace_open_operations", kind="SUBMIT") == 1
    assert told.labels("headrace_open_operations", "kind") == set(KINDS)
    assert told.value("headrace_open_operation_oldest_seconds", kind="SUBMIT") == 7
    assert told.value("headrace_untouched_operations") == 1
    assert told.value("headrace_queue_length", queue="flink.executions") == 1
    assert told.value("headrace_synced_timestamp_seconds") == 0
    assert told.names == {each.name + "_total" * (each.kind == "counter") for each in metrics.FACTS} - NEVER_TAKEN


NEVER_TAKEN = {"headrace_lease_held", "headrace_lease_turns_total"}


def test_what_was_synced_and_whose_turn_it_was_is_told(counting: World) -> None:
    counting.submit()
    runs(counting)
    counting.services.redeliver.run()
    counting.services.redeliver.run()
    told = page(counting.services.take_stock.of_records)
    assert told.value("headrace_synced_timestamp_seconds") == counting.clock.now().timestamp()
    assert told.value("headrace_untouched_operations") == 0
    assert told.value("headrace_lease_turns_total", lease="redeliver") == 2
    assert told.value("headrace_lease_held", lease="redeliver") == 0
    counting.store.take_lease(counting.services.records.scope.lease("sync"), "a process", 30)
    assert page(counting.services.take_stock.of_records).value("headrace_lease_held", lease="sync") == 1


def silent() -> Any:
    raise Unavailable("it does not answer")


def test_a_store_that_does_not_answer_is_a_fact_and_no_error() -> None:
    told = page(silent)
    assert (told.value("headrace_store_up"), told.value("headrace_redis_up")) == (0, 1)
    assert told.names == {"headrace_store_up", "headrace_redis_up"}


def test_a_redis_that_does_not_answer_is_another() -> None:
    told = page(of_queues=silent)
    assert (told.value("headrace_store_up"), told.value("headrace_redis_up")) == (1, 0)
    assert told.value("headrace_queue_length") is None


def test_a_mistake_of_ours_in_a_fact_keeps_no_scrape_from_the_others() -> None:
    told = page(lambda: {}["a secret"])  # type: ignore[index]
    assert (told.value("headrace_store_up"), told.value("headrace_redis_up")) == (0, 1)


def test_a_store_that_hangs_holds_no_scrape_and_is_asked_by_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "PATIENCE_SECONDS", 0.1)
    answer, asked = threading.Event(), []

    def hangs() -> Stock:
        asked.append(1)
        answer.wait(60)
        return NOTHING

    looked = prometheus.FactsPage(hangs, dict)
    try:
        begun = time.monotonic()
        told = [Page(looked.text().decode()).value("headrace_store_up") for _ in range(5)]
        assert told == [0, 0, 0, 0, 0]
        assert time.monotonic() - begun < 30
        assert len(asked) == 1
    finally:
        answer.set()


def test_however_many_scrape_the_store_is_asked_once_in_ten_seconds(clock: HeldClock) -> None:
    asked = []
    looked = prometheus.FactsPage(lambda: asked.append(1) or NOTHING, dict)  # type: ignore[func-returns-value]
    for _ in range(5):
        looked.text()
        clock.advance(facts.KEPT_SECONDS / 5)
    assert len(asked) == 1
    clock.advance(1)
    looked.text()
    assert len(asked) == 2


def test_a_process_serves_its_metrics_and_a_taken_port_is_one_line(socket_enabled: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as raised:
            prometheus.serve("127.0.0.1", port)
    words = f"HEADRACE_METRICS_PORT: /metrics cannot be served on port {port} of 127.0.0.1: Address already in use"
    assert str(raised.value) == words


def test_without_a_port_nothing_is_served() -> None:
    """Sockets are blocked here: the first one would raise."""
    assert Settings(_env_file=None).metrics_port == 0
    prometheus.serve("127.0.0.1", 0)


def test_what_beat_sends_is_counted() -> None:
    with grows(1, "headrace_beat_sent_total", name="flink.redeliver"):
        count_sent("flink.redeliver", body={}, exchange="")


def statistics(**partitions: Mapping[str, Any]) -> str:
    of_topic = {number.removeprefix("p"): facts_of for number, facts_of in partitions.items()}
    return orjson.dumps({"topics": {"orders": {"partitions": {"-1": {"desired": True}, **of_topic}}}}).decode()


def test_the_lag_of_a_partition_is_what_is_not_done_of_it() -> None:
    gauge, mine = LagGauge(), {"desired": True, "hi_offset": 10}
    gauge.hear(
        statistics(
            p0={**mine, "committed_offset": 4, "next_offset": 10},
            p1={**mine, "committed_offset": -1001, "next_offset": 7},
            p2={**mine, "committed_offset": 12, "next_offset": 0},
            p3={**mine, "desired": False, "committed_offset": 1},
            p4={**mine, "hi_offset": -1001, "committed_offset": 1},
            p5={**mine, "committed_offset": -1001, "next_offset": -1001},
        )
    )
    told = {each: here().value("headrace_consumer_lag_records", topic="orders", partition=each) for each in "012345"}
    assert told == {"0": 6, "1": 3, "2": 0, "3": None, "4": None, "5": None}


def test_a_partition_that_went_to_another_member_has_no_lag_here() -> None:
    gauge = LagGauge()
    gauge.hear(statistics(p7={"desired": True, "hi_offset": 10, "committed_offset": 4}))
    assert here().value("headrace_consumer_lag_records", partition="7") == 6
    gauge.hear(statistics())
    assert here().value("headrace_consumer_lag_records", partition="7") is None


def test_servers_that_do_not_answer_are_counted_where_an_adapter_says_so() -> None:
    def no_answer(*_: Any) -> Any:
        raise Unavailable("it is not there")

    with grows(1, "headrace_server_errors_total", server="flink", error="Unavailable"), pytest.raises(Unavailable):
        RestJobManager(no_answer).exceptions("n", "orders", "f")
    with grows(1, "headrace_server_errors_total", server="kafka", error="Unavailable"):
        Broker("127.0.0.1:1").silent("why")
    with (
        grows(1, "headrace_server_errors_total", server="kubernetes", error="CrdMissing"),
        pytest.raises(Refused),
        counting_errors("kubernetes"),
    ):
        raise CrdMissing
    with (
        grows(0, "headrace_server_errors_total", server="mongodb"),
        pytest.raises(InvalidRequest),
        counting_errors("mongodb"),
    ):
        raise InvalidRequest({"a": "b"})


class _Ours(Unavailable):
    """A class that an adapter has for itself."""


@pytest.mark.parametrize(
    ("error", "name"),
    [(_Ours("x"), "Unavailable"), (CrdMissing(), "CrdMissing"), (KeyError("a secret"), "Unforeseen")],
)
def test_an_error_is_counted_by_a_class_of_the_tree(error: Exception, name: str) -> None:
    assert class_of(error) == name


def test_no_label_holds_what_somebody_made_up(counting: World) -> None:
    counting.submit("canary-7f2c")
    stock = counting.services.take_stock
    text = prometheus.FactsPage(stock.of_records, stock.of_queues).text().decode()
    assert "canary-7f2c" not in text
    assert "canary-7f2c" not in repr(vars(here()))
