"""ADOPT: a deployment that somebody else made is a job of ours from now on, and goes on as it was found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from headrace.domain.goals import Adopted, Goal
from headrace.domain.jobs import LEGAL_NAME, OPERATOR, Desired, Job, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, since
from headrace.domain.operations.operation import KindName, Operation, State
from headrace.domain.operations.submit import begun
from headrace.domain.validation import matching

Name = Annotated[str, matching(LEGAL_NAME.pattern, "must be a FlinkDeployment's name: a-z, 0-9 and '-', at most 45")]


class AdoptArguments(Arguments):
    """The name of the FlinkDeployment; without it, the job's id is its name too."""

    deployment: Name | None = None


class Adopt(Kind):
    """Writes our labels and annotations on a deployment, and nothing else: its spec as found is the first version."""

    name, phase, desired, leads_to = KindName.ADOPT, Phase.STARTING, Desired.RUNNING, Phase.RUNNING
    Arguments, shown = AdoptArguments, ("deployment",)
    makes_a_job = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind. A job that has a deployment of its own has no room for another."""
        if expected.last is not None:
            return (
                f"job {expected.job_id}: cannot ADOPT while {expected.last.kind} is open {since(expected.last)}; "
                "wait for it"
            )
        job = expected.job
        if job is None or job.run == 0 or (expected.is_settled and job.is_gone):
            return None
        return (
            f"job {expected.job_id}: cannot ADOPT, it has a deployment and is {expected.phase}; choose another job_id"
        )

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        deployment, uid = (str(operation.arguments.get(name, "")) for name in ("deployment", "uid"))
        return Adopted(deployment, uid)


def as_found(job: Job, *, run: int, at: datetime) -> Job:
    """The job's record where a run of it begins as a deployment that was there before: nobody has watched that."""
    return begun(job, run, at, is_as_found=True, is_gapped=True)


def as_the_log_has_it(job: Job, log: Sequence[Operation]) -> Job:
    """A job whose document is made of the log: by the runtime that its last run asked for, under the name of the
    deployment that it adopted, and as found where nothing rendered it since."""
    job = replace(job, runtime=_runtime_of(log) or job.runtime)
    adopting = [each.arguments for each in log if each.kind is KindName.ADOPT and "deployment" in each.arguments]
    if not adopting:
        return job
    named = replace(job, deployment_name=adopting[0]["deployment"])
    rendering = (KindName.SUBMIT, KindName.UPGRADE, KindName.ROLLBACK, KindName.ADOPT)
    done = [each for each in log if each.kind in rendering and each.state is State.SUCCEEDED]
    return replace(named, is_as_found=bool(done) and done[-1].kind is KindName.ADOPT)


def _runtime_of(log: Sequence[Operation]) -> str | None:
    """The runtime of the newest run that the log tells of, where that says one."""
    began = [each for each in log if each.kind in (KindName.SUBMIT, KindName.ADOPT) and each.state is not State.FAILED]
    if not began:
        return None
    if began[-1].kind is KindName.ADOPT:
        return OPERATOR
    said: str | None = (began[-1].arguments.get("request") or {}).get("runtime")
    return said
