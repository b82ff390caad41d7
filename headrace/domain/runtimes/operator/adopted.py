"""A deployment that somebody else made becomes the job's, and goes on as it was found. Pure.

Nothing but labels and annotations is written, on the very version that was judged: the operator sees no new generation.
"""

from __future__ import annotations

from headrace.domain.adoption import claiming, is_of, manifest_as_found, told_of, why_not
from headrace.domain.deployments import operation_of, run_of
from headrace.domain.failures import Explanation
from headrace.domain.goals import Adopted
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import rejected
from headrace.domain.runtimes.operator.sights import Effects, ours, stamp_of, whole_of
from headrace.domain.runtimes.plan import Absent, Case, Claim, End


def to_adopted(case: Case, goal: Adopted) -> Effects:
    """The next effects of an ADOPT."""
    if not isinstance(case.sight, Absent) and not whole_of(case):
        return []  # who has a typed sight alone writes nothing
    problem = _cannot_be_adopted(case, goal)
    if problem:
        return rejected(case, Explanation(problem, ""))
    if is_claimed(case):
        return [_taken_over(case), _adopted(case)]
    whole = whole_of(case)
    goes_on = case.operation.step is Step.CLAIM or is_of(whole, case.operation.key)
    run = case.job.run if goes_on else case.job.run + 1
    stamp = stamp_of(case, run)
    return [Claim(run, manifest_as_found(case.job, whole, stamp), claiming(case.job, whole, stamp)), _adopted(case)]


def is_claimed(case: Case) -> bool:
    """Whether the deployment has the labels and annotations that this operation writes."""
    live = ours(case)
    return live is not None and operation_of(live) == case.operation.id


def _cannot_be_adopted(case: Case, goal: Adopted) -> str:
    job, name = case.job, f"FlinkDeployment {case.job.namespace}/{goal.deployment}"
    if job.deployment_name != goal.deployment:
        return f"{name} has the name of another job's on record: adopt it under that job's id"
    if isinstance(case.sight, Absent):
        return f"{name} was deleted before it could be adopted"
    if is_claimed(case):
        return ""
    if case.sight.deployment.metadata.uid != goal.uid:
        return f"{name} is another one than when ADOPT was accepted: look at it, and send ADOPT again"
    return why_not(whole_of(case), case.operation.key)


def _taken_over(case: Case) -> Claim:
    """A claim that was written before, and whose record may be lost since: its run is the live one's."""
    kept = case.job.intended_manifest if case.operation.step is Step.CLAIM else None
    live = ours(case)
    run = case.job.run if kept is not None or live is None else run_of(live)
    return Claim(run, kept or manifest_as_found(case.job, whole_of(case), stamp_of(case, run)), ())


def _adopted(case: Case) -> End:
    told = told_of(whole_of(case))
    words = f"FlinkDeployment {case.job.namespace}/{case.job.deployment_name} is this job's, as it was found"
    return End(State.SUCCEEDED, f"{words}; {told}" if told else words, holds=True)
