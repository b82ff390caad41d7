"""The deployment goes on as it is, without a mark of ours. Pure."""

from __future__ import annotations

from headrace.domain.adoption import letting_go
from headrace.domain.deployments import sequence_of
from headrace.domain.failures import Explanation
from headrace.domain.jobs import Phase
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import SUPERSEDED, lost, raised
from headrace.domain.runtimes.operator.sights import Effects, ours, whole_of
from headrace.domain.runtimes.plan import Absent, Case, Change, End


def to_released(case: Case) -> Effects:
    """The next effects of a RELEASE. A deployment without our annotations is nobody's of ours any more, whoever took
    them off: this operation may have, and have left no record of it."""
    live = ours(case)
    if live is None:
        if isinstance(case.sight, Absent) and case.operation.step is not Step.LET_GO:
            return [lost(case)]
        return [_released(case)]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if live.metadata.deletion_timestamp is not None:
        words = f"job {case.job.job_id} is being deleted: there is nothing to RELEASE"
        return [*raised(case, live), End(State.FAILED, words)]
    if not whole_of(case):
        return []  # who has a typed sight alone writes nothing
    return [Change(letting_go(whole_of(case)), Step.LET_GO), _released(case)]


def _released(case: Case) -> End:
    words = f"FlinkDeployment {case.job.namespace}/{case.job.deployment_name} goes on, and is not Headrace's any more"
    return End(State.SUCCEEDED, words, Phase.RELEASED, Explanation("released: its deployment goes on by itself", ""))
