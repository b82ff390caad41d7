"""The tasks, by the names of the wire contract. They translate, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from loguru import logger

from headrace import metrics, task_names
from headrace.domain.jobs import JobKey, Transition
from headrace.domain.operations import KINDS, Kind, Operation, Source
from headrace.errors import InvalidRequest, TransientError, unforeseen
from headrace.logs import say_unforeseen
from headrace.services.accept import LONGEST_KEY, Accepted
from headrace.services.dispose import Disposals
from headrace.services.prune import Pruned
from headrace.services.sync import Trouble
from headrace.services.take_savepoints import AskedFor
from worker.app import app, services, settings
from worker.base import ServiceTask

Body = TypeVar("Body", bound=Callable[..., None])


UNTIL_ACCEPTED = None
"""Retries of a task that accepts: before it has, nothing but its message knows of the request."""

LEFT_TO_BEAT = 0
"""Retries of a task that Beat sends again in its next period anyhow."""


def task(name: str, *, max_retries: int | None = 3) -> Callable[[Body], Body]:
    """A task of ours under this name."""
    registered: Callable[[Body], Body] = app.task(name=name, base=ServiceTask, bind=True, max_retries=max_retries)
    return registered


def accepting(kind: Kind) -> None:
    """The task that accepts an operation of this kind, then executes it."""

    @task(task_names.accepting(kind.name), max_retries=UNTIL_ACCEPTED)
    def accept(
        self: ServiceTask,
        *,
        job_id: Any = None,
        idempotency_key: Any = None,
        tenant: Any = None,
        **arguments: Any,
    ) -> None:
        check_tenant(settings().tenant if tenant is None else tenant)
        key, source = key_of(self, idempotency_key), Source(via="celery", detail={"task_id": self.request.id})
        with metrics.ACCEPT_SECONDS.labels("celery").time():
            accepted = services().accept.operation(
                kind.name, job_id, arguments, tenant=settings().tenant, key=key, source=source, is_executed_here=True
            )
        execute_now(accepted)


for each in KINDS.values():
    accepting(each)


def executing(name: str) -> None:
    """The task that executes a job's oldest open operation; of a name of its own where it takes Flink's command line,
    which some workers alone have."""

    @task(name)
    def execute(self: ServiceTask, *, tenant: str, job_id: str) -> None:
        check_tenant(tenant)
        if not isinstance(job_id, str):
            raise InvalidRequest({"job_id": "must be text"})
        say_steps(services().execute.oldest_open_operation(JobKey(tenant, job_id)))


for each_name in (task_names.EXECUTE, task_names.LAUNCH):
    executing(each_name)


@task(task_names.SYNC_STATUS, max_retries=LEFT_TO_BEAT)
def sync_status(self: ServiceTask) -> None:
    """Follows the watch for one period."""
    sync = services().sync
    try:
        say_changes(sync.run(settings().sync_period_seconds))
    finally:
        say_troubles(sync.troubles)


@task(task_names.REDELIVER, max_retries=LEFT_TO_BEAT)
def redeliver(self: ServiceTask) -> None:
    """Wakes what is accepted and not done."""
    services().redeliver.run()


@task(task_names.EXPLAIN_WAITS, max_retries=LEFT_TO_BEAT)
def explain_waits(self: ServiceTask) -> None:
    """Says what jobs that last on their way wait for."""
    services().waits.run()


@task(task_names.TAKE_SAVEPOINTS, max_retries=LEFT_TO_BEAT)
def take_savepoints(self: ServiceTask) -> None:
    """Asks for the savepoints whose time it is."""
    say_asked_for(services().take_savepoints.run())


@task(task_names.PRUNE, max_retries=LEFT_TO_BEAT)
def prune(self: ServiceTask) -> None:
    """Removes what has been kept for long enough."""
    say_pruned(services().prune.run())
    say_disposed(services().dispose.run())


def check_tenant(tenant: Any) -> None:
    """Refuses every tenant but the installation's own, whatever is in its place."""
    if tenant != settings().tenant:
        raise InvalidRequest({"tenant": f"must be {settings().tenant}: these workers serve no other"})


def key_of(task: ServiceTask, idempotency_key: Any) -> str:
    """The caller's key, else the Celery task's id: a message that is delivered twice is one request."""
    if idempotency_key is not None and not (isinstance(idempotency_key, str) and len(idempotency_key) <= LONGEST_KEY):
        raise InvalidRequest({"idempotency_key": f"must be text of {LONGEST_KEY} characters at most"})
    return idempotency_key or f"celery/{task.request.id}"


def execute_now(accepted: Accepted) -> None:
    """What was just accepted need not wait for its wake-up; what fails now is left to redelivery."""
    operation = accepted.operation
    with logger.contextualize(job_id=operation.job_id, operation_id=operation.id):
        logger.info("{} is accepted (new: {})", operation.kind, accepted.created)
        try:
            say_steps(services().execute.oldest_open_operation(operation.key))
        except TransientError as error:
            logger.warning("it is left to redelivery: {}", error)


def say_steps(steps: Sequence[Operation]) -> None:
    """A line for each step that an operation took."""
    for operation in steps:
        with logger.contextualize(job_id=operation.job_id, operation_id=operation.id):
            logger.info("{} is {} at {} {}", operation.kind, operation.state, operation.step, operation.reason)


def say_troubles(troubles: Mapping[JobKey, Trouble]) -> None:
    """A line for each job that could not be observed: where in our code, where nobody foresaw it."""
    for key, trouble in troubles.items():
        metrics.UNOBSERVED.inc()
        with logger.contextualize(job_id=key.job_id):
            mistake = unforeseen(trouble.error)
            if mistake is None:
                logger.warning("it cannot be observed: {}", trouble.why)
            else:
                say_unforeseen(mistake, "observing it")


def say_asked_for(asked: AskedFor) -> None:
    """A line for each job whose state is being kept, and for each of which that could not be asked."""
    for key in asked.jobs:
        with logger.contextualize(job_id=key.job_id):
            logger.info("its savepoint is due, and asked for")
    for key, error in asked.troubles:
        with logger.contextualize(job_id=key.job_id):
            logger.warning("its savepoint is due, and not asked for: {}", error)


def say_disposed(disposals: Disposals) -> None:
    """A line for each savepoint that Flink has removed, and for each that is still there."""
    for each in disposals.gone:
        with logger.contextualize(job_id=each.job_id):
            logger.info("its savepoint {} is disposed of", each.path)
    for each, error in disposals.troubles:
        with logger.contextualize(job_id=each.job_id):
            logger.warning("its savepoint {} is not disposed of: {}", each.path, error)


def say_pruned(pruned: Pruned) -> None:
    """A line for each job of which something went, and for each where that could not be."""
    told = [(key, "its run has ended long ago: what that left is being removed") for key in pruned.cleared]
    told += [(key, "it was deleted long ago: its records are gone") for key in pruned.forgotten]
    for key, words in told:
        with logger.contextualize(job_id=key.job_id):
            logger.info(words)
    for key, error in pruned.troubles:
        with logger.contextualize(job_id=key.job_id):
            logger.warning("what its run left is not removed: {}", error)


def say_changes(changes: Sequence[Transition]) -> None:
    """A line for each change of a job's phase."""
    for change in changes:
        with logger.contextualize(job_id=change.job_id):
            logger.info("{} after {}, in run {} {}", change.to_phase, change.from_phase, change.run, change.reason)
