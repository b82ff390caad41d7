"""UPGRADE: the job goes on from its state with another request: template version, image, program, settings. Pure."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from headrace.domain.goals import Goal, Upgraded
from headrace.domain.job_requests import without_programs
from headrace.domain.jobs import Desired, Job, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, at_rest, no_run
from headrace.domain.operations.operation import KindName, Operation
from headrace.domain.operations.submit import Fields


class UpgradeArguments(Arguments):
    """What changes: fields of the request in `job_config`, as with SUBMIT; another version of the job's template, or
    other values of its parameters. What is not named stays as it is, a SCALE included."""

    template_version: int | None = Field(None, ge=1)
    parameters: Fields = Field(default_factory=dict)
    job_config: Fields = Field(default_factory=dict)


class Upgrade(Kind):
    """Renders the changed request anew; the operator takes a savepoint of a running job and deploys it from there."""

    name, phase, desired, leads_to = KindName.UPGRADE, Phase.UPGRADING, Desired.RUNNING, Phase.RUNNING
    Arguments, shown = UpgradeArguments, ("template_version",)
    resolves = can_be_foreseen = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        return no_run(self, expected) or at_rest(self, expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Upgraded(operation.arguments.get("request") or {})


def as_upgraded(job: Job, operation: Operation) -> Job:
    """The job's record once the request of this operation holds: its scale is part of that."""
    request = operation.arguments["request"]
    return replace(
        job,
        submitted_by=operation.id,
        submitted=without_programs(request),
        labels=request.get("labels", {}),
        template_id=operation.arguments.get("template_id"),
        template_version=operation.arguments.get("template_version"),
        scaled_to=None,
        scaled_to_task_managers=None,
        is_as_found=False,
    )
