"""What a person is told of a job: where its logs and exceptions are, and what was kept when they are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.domain.jobs import JobKey, Phase
from headrace.domain.log_requests import LogRequest, parse_log_request
from headrace.domain.pods import MAIN_CONTAINER as MAIN
from headrace.errors import InvalidRequest, NotFound, Unavailable
from headrace.services.inspect import LogAnswer
from tests.support.given import pod_labels
from tests.support.world import World

ORDERS = JobKey("default", "orders")
MANAGER, WORKERS = "orders-5d6885bb49-blqsx", ("orders-taskmanager-1-1", "orders-taskmanager-1-2")


def put_pod(world: World, name: str, component: str, **state: Any) -> None:
    running = {"name": MAIN, "restartCount": 0, "state": {"running": {}}, **state.pop("main", {})}
    status = {"phase": "Running", "containerStatuses": [running], **state.pop("status", {})}
    labels = pod_labels("orders", component)
    spec = {"containers": [{"name": MAIN}], **state}
    world.runtime.put_pod("default", {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})


def text(answer: LogAnswer) -> str:
    return b"".join(answer.body).decode()


def fails(world: World, **kept: str) -> None:
    """The job FAILED, and its pods are gone."""
    world.runs()
    world.becomes(lifecycleState="FAILED", job={"state": "FAILED"})
    world.settle()
    job = world.job()
    assert job.phase is Phase.FAILED
    stored = world.store.document(job.key)
    assert stored is not None
    told = replace(stored, job=replace(stored.job, **{"reason": "", "error": "", **kept}))
    world.services.records.write(stored, told)


def test_the_log_is_the_jobmanagers_unless_another_is_asked_for(world: World) -> None:
    world.runs()
    put_pod(world, MANAGER, "jobmanager")
    put_pod(world, WORKERS[0], "taskmanager")
    for pod in (MANAGER, WORKERS[0]):
        world.runtime.print_line(pod, MAIN, f"printed by {pod}")
    inspect = world.services.inspect
    assert text(inspect.logs(ORDERS, LogRequest())) == f"printed by {MANAGER}\n"
    assert text(inspect.logs(ORDERS, LogRequest(component="taskmanager"))) == f"printed by {WORKERS[0]}\n"
    assert text(inspect.logs(ORDERS, LogRequest(pod=WORKERS[0]))) == f"printed by {WORKERS[0]}\n"


def test_several_pods_are_shown_one_after_another_and_followed_one_at_a_time(world: World) -> None:
    world.runs()
    for pod in WORKERS:
        put_pod(world, pod, "taskmanager")
        world.runtime.print_line(pod, MAIN, "counted")
    asked = LogRequest(component="taskmanager")
    shown = text(world.services.inspect.logs(ORDERS, asked))
    assert sorted(shown.splitlines()) == sorted([f"# {pod}" for pod in WORKERS] + ["counted", "counted"])
    with pytest.raises(InvalidRequest, match=WORKERS[1]):
        world.services.inspect.logs(ORDERS, replace(asked, follow=True))
    followed = world.services.inspect.logs(ORDERS, replace(asked, follow=True, pod=WORKERS[1]))
    assert (next(followed.body), followed.pod) == (b"counted\n", WORKERS[1])
    followed.body.close()


def test_where_the_job_cannot_start_the_log_is_that_of_what_keeps_it(world: World) -> None:
    world.runs()
    waiting = {"state": {"waiting": {"reason": "PodInitializing"}}}
    ended = {"terminated": {"exitCode": 1, "message": "404"}}
    fetch = {"name": "fetch", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    status = {"phase": "Pending", "initContainerStatuses": [fetch]}
    put_pod(
        world,
        MANAGER,
        "jobmanager",
        status={**status, "containerStatuses": [{"name": MAIN, **waiting}]},
        initContainers=[{"name": "fetch"}],
    )
    world.runtime.print_line(MANAGER, "fetch", "SCRIPT_URL https://x/y.py answered 404")
    answer = world.services.inspect.logs(ORDERS, LogRequest())
    assert (answer.container, text(answer)) == ("fetch", "SCRIPT_URL https://x/y.py answered 404\n")


def test_a_restarted_container_has_a_log_before(world: World) -> None:
    world.runs()
    put_pod(world, MANAGER, "jobmanager")
    with pytest.raises(NotFound, match="never restarted"):
        world.services.inspect.logs(ORDERS, LogRequest(previous=True))
    put_pod(world, MANAGER, "jobmanager", main={"restartCount": 1})
    world.runtime.print_line(MANAGER, MAIN, "the end of it", previous=True)
    assert text(world.services.inspect.logs(ORDERS, LogRequest(previous=True))) == "the end of it\n"


def test_a_pod_that_is_gone_says_so_and_shows_what_was_kept(world: World) -> None:
    fails(world, kept_log="one\ntwo\nthree\n")
    for asked in (LogRequest(tail=2), LogRequest(tail=2, follow=True)):
        answer = world.services.inspect.logs(ORDERS, asked)
        assert text(answer) == "# the pod is gone; this is what was kept of it\ntwo\nthree\n"
        assert (answer.pod, answer.has_ended) == ("", True)


def test_a_pod_of_which_nothing_was_kept_is_not_found_in_words(world: World) -> None:
    fails(world, reason="the job FAILED", error="ZeroDivisionError: job.py line 3")
    with pytest.raises(NotFound) as told:
        world.services.inspect.logs(ORDERS, LogRequest())
    words = str(told.value)
    assert words.startswith("the JobManager's pod of job orders is gone since its run 1 ended FAILED at 20")
    assert words.endswith("what was kept: reason: the job FAILED; error: ZeroDivisionError: job.py line 3")


def test_a_job_that_has_no_pod_yet_says_what_it_does(world: World) -> None:
    world.submit()
    with pytest.raises(NotFound, match="pod of job orders is not there: the job is REQUESTED"):
        world.services.inspect.logs(ORDERS, LogRequest())
    with pytest.raises(NotFound, match="job none: there is none of this name"):
        world.services.inspect.logs(JobKey("default", "none"), LogRequest())


def test_a_job_of_another_tenant_is_not_there(world: World) -> None:
    world.runs()
    put_pod(world, MANAGER, "jobmanager")
    for look in (world.services.inspect.events, world.services.inspect.exceptions):
        with pytest.raises(NotFound):
            look(JobKey("other", "orders"))


def test_events_that_are_no_longer_kept_leave_the_jobs_own_words(world: World) -> None:
    fails(world, error="quota exceeded")
    found = world.services.inspect.events(ORDERS)
    assert found.events == []
    assert found.note == "no events of the last hour; the job is FAILED; what was kept: error: quota exceeded"


def test_exceptions_of_a_jobmanager_that_is_gone_are_those_that_were_kept(world: World) -> None:
    fails(world, kept_exceptions="java.lang.Exception: boom", error="boom")
    world.job_manager.history = Unavailable("the JobManager did not answer")
    found = world.services.inspect.exceptions(ORDERS)
    assert (found.exceptions, found.kept) == ((), "java.lang.Exception: boom")
    assert found.note.startswith("the JobManager of job orders does not run: its run 1 ended FAILED at 20")
    put_pod(world, MANAGER, "jobmanager", main={"state": {"terminated": {"exitCode": 1}}})
    assert world.services.inspect.exceptions(ORDERS).kept == "java.lang.Exception: boom"


def test_a_jobmanager_that_runs_and_does_not_answer_is_unavailable(world: World) -> None:
    world.runs()
    put_pod(world, MANAGER, "jobmanager")
    world.job_manager.history = Unavailable("the JobManager did not answer")
    with pytest.raises(Unavailable, match="the JobManager did not answer"):
        world.services.inspect.exceptions(ORDERS)


def test_a_job_without_a_flink_job_has_no_exceptions_and_says_why(world: World) -> None:
    world.submit()
    found = world.services.inspect.exceptions(ORDERS)
    assert (found.exceptions, found.note) == ((), "the JobManager of job orders does not run: the job is REQUESTED")


@pytest.mark.parametrize(
    ("words", "seconds"), [("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("30d", 2592000), ("45", 45)]
)
def test_a_time_is_read_with_its_unit(words: str, seconds: int) -> None:
    assert parse_log_request({"since": words}).since_seconds == seconds


@pytest.mark.parametrize("words", ["5 m", "m", "-5m", "0s", "31d", "1e3", "5m5s", "٥m"])
def test_a_time_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(InvalidRequest, match="since"):
        parse_log_request({"since": words})


def test_every_wrong_word_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as told:
        parse_log_request({"component": "x", "tail": "many", "since": "x", "follow": "x", "previous": "x"})
    assert set(told.value.problems) == {"component", "tail", "since", "follow", "previous"}
