"""The tasks, by the names of the wire contract. They translate, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from loguru import logger

from headrace import task_names
from headrace.domain.jobs import JobKey, Transition
from headrace.domain.operations import Operation, Source
from headrace.errors import InvalidRequest, TransientError
from headrace.services.accept import LONGEST_KEY, Accepted
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


@task(task_names.SUBMIT, max_retries=UNTIL_ACCEPTED)
def submit(
    self: ServiceTask,
    *,
    template_id: str | None = None,
    job_config: dict[str, Any] | None = None,
    job_id: str | None = None,
    start_from: str | None = None,
    parameters: dict[str, Any] | None = None,
    template_version: int | None = None,
    idempotency_key: str | None = None,
    **unknown: Any,
) -> None:
    """Accepts a SUBMIT, then executes it."""
    accepted = services().accept.submit(
        template_id=template_id,
        job_id=job_id,
        start_from=start_from,
        job_config=job_config,  # type: ignore[arg-type]  # checked there, with its message
        parameters=parameters,
        template_version=template_version,
        idempotency_key=key_of(self, idempotency_key),
        **known(self, unknown),
    )
    execute_now(accepted)


@task(task_names.STOP, max_retries=UNTIL_ACCEPTED)
def stop(
    self: ServiceTask, *, job_id: str = "", force: bool = False, idempotency_key: str | None = None, **unknown: Any
) -> None:
    """Accepts a STOP, then executes it."""
    named = known(self, unknown)
    execute_now(
        services().accept.stop(job_id=job_id, force=force, **named, idempotency_key=key_of(self, idempotency_key))
    )


@task(task_names.SCALE, max_retries=UNTIL_ACCEPTED)
def scale(
    self: ServiceTask, *, job_id: str = "", parallelism: Any = None, idempotency_key: str | None = None, **unknown: Any
) -> None:
    """Accepts a SCALE, then executes it."""
    named = known(self, unknown)
    key = key_of(self, idempotency_key)
    execute_now(services().accept.scale(job_id=job_id, parallelism=parallelism, **named, idempotency_key=key))


@task(task_names.EXECUTE)
def execute(self: ServiceTask, *, tenant: str, job_id: str) -> None:
    """Executes a job's oldest open operation."""
    check_tenant(tenant)
    if not isinstance(job_id, str):
        raise InvalidRequest({"job_id": "must be text"})
    say_steps(services().execute.oldest_open_operation(JobKey(tenant, job_id)))


@task(task_names.SYNC_STATUS, max_retries=LEFT_TO_BEAT)
def sync_status(self: ServiceTask) -> None:
    """Follows the watch for one period."""
    say_changes(services().sync.run(settings().sync_period_seconds))


@task(task_names.REDELIVER, max_retries=LEFT_TO_BEAT)
def redeliver(self: ServiceTask) -> None:
    """Wakes what is accepted and not done."""
    services().redeliver.run()


@task(task_names.EXPLAIN_WAITS, max_retries=LEFT_TO_BEAT)
def explain_waits(self: ServiceTask) -> None:
    """Says what jobs that last on their way wait for."""
    services().waits.run()


def known(task: ServiceTask, unknown: dict[str, Any]) -> dict[str, Any]:
    """The tenant and the source of a request; refuses arguments that no task has."""
    check_tenant(unknown.pop("tenant", settings().tenant))
    if unknown:
        raise InvalidRequest(dict.fromkeys(unknown, f"unknown argument of {task.name}"))
    return {"tenant": settings().tenant, "source": Source(via="celery", detail={"task_id": task.request.id})}


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


def say_changes(changes: Sequence[Transition]) -> None:
    """A line for each change of a job's phase."""
    for change in changes:
        with logger.contextualize(job_id=change.job_id):
            logger.info("{} after {}, in run {} {}", change.to_phase, change.from_phase, change.run, change.reason)
