"""RELEASE: the deployment goes on, and Headrace forgets it. Pure."""

from __future__ import annotations

from dataclasses import replace

from headrace.domain.goals import Goal, Released
from headrace.domain.jobs import Desired, Job, Phase
from headrace.domain.operations.kind import ENDS_THE_RUN, Expected, Kind, NoArguments, since
from headrace.domain.operations.operation import KindName, Operation


class Release(Kind):
    """Takes our labels and annotations off the deployment. The job stays on record, settled, with nothing to act on."""

    name, phase, desired, leads_to = KindName.RELEASE, None, Desired.RELEASED, Phase.RELEASED
    Arguments = NoArguments

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        last, job = expected.last, expected.job
        if last is not None and last.kind in (*ENDS_THE_RUN, self.name):
            return f"job {expected.job_id}: cannot RELEASE while a {last.kind} is open {since(last)}; wait for it"
        if expected.open_operations or job is None or not (expected.is_settled and job.is_gone):
            return None
        return f"job {expected.job_id}: cannot RELEASE, it is {expected.phase}: it has no deployment"

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Released()

    def result(self, job: Job, operation: Operation) -> Job:
        """Nothing is known of the deployment any more. The newest state on record stays."""
        unmarked = replace(job, deployment_uid=None, resource_version=None, flink_job_id=None, is_gone=True)
        return replace(unmarked, manifests={}, applied="", intended="")
