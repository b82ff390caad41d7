"""SCALE: the job runs at another parallelism. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from pydantic import field_validator, model_validator

from headrace.domain.goals import Goal, Scaled
from headrace.domain.jobs import Desired, Job, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, at_rest, no_run
from headrace.domain.operations.operation import KindName, Operation

MOST_PARALLELISM = 100_000


class ScaleArguments(Arguments):
    """The parallelism to run at, or the TaskManagers to run on, all of whose slots the job uses; never both."""

    parallelism: int | None = None
    task_managers: int | None = None

    @field_validator("parallelism", "task_managers", mode="before")
    @classmethod
    def _is_a_count(cls, given: Any) -> Any:
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_PARALLELISM:
            raise ValueError(f"must be a whole number from 1 to {MOST_PARALLELISM}")
        return given

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.parallelism is None) == (self.task_managers is None):
            raise ValueError("say either parallelism or task_managers")
        return self


class Scale(Kind):
    """Changes the parallelism by one write: in place where the adaptive scheduler runs, else by a redeploy through a
    savepoint."""

    name, phase, desired, leads_to = KindName.SCALE, Phase.SCALING, Desired.RUNNING, Phase.RUNNING
    Arguments, shown = ScaleArguments, ("parallelism", "task_managers")
    can_be_foreseen = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        return no_run(self, expected) or at_rest(self, expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        task_managers = operation.arguments.get("task_managers")
        if task_managers is not None:
            return Scaled(task_managers, of_task_managers=True)
        return Scaled(operation.arguments["parallelism"])

    def supersedes(self, earlier: Operation) -> bool:
        """An earlier SCALE that has not written yet."""
        return earlier.kind is self.name and not earlier.has_written

    def result(self, job: Job, operation: Operation) -> Job:
        """The parallelism that holds from now on."""
        parallelism, task_managers = map(operation.arguments.get, ("parallelism", "task_managers"))
        return replace(job, scaled_to=parallelism, scaled_to_task_managers=task_managers)
