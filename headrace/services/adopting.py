"""What may be adopted: the live deployment is asked when an ADOPT is accepted, and a whole namespace page by page.

Reads alone; what is written, and only after another look, is Execute's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.domain.adoption import is_of, told_of, why_not
from headrace.domain.deployments import JOB_ID_ANNOTATION, TENANT_ANNOTATION, deployment_of, sequence_of
from headrace.domain.document import JobDocument
from headrace.domain.jobs import LEGAL_NAME, OPERATOR, JobKey
from headrace.domain.operations import KINDS, KindName
from headrace.errors import Conflict, InvalidRequest, NotFound
from headrace.services.records import Records
from headrace.services.runtimes import Runtimes


@dataclass(frozen=True)
class Adoptable:
    """A deployment of somebody's, and the job that it would be. `why_not` says in words why it cannot be adopted, and
    is empty where it can; `told` what whoever adopts it should know."""

    job_id: str
    name: str
    namespace: str
    state: str
    why_not: str
    told: str


@dataclass(frozen=True)
class AdoptablePage:
    """Some of a namespace's deployments that are not this installation's, and the cursor of those that follow."""

    found: Sequence[Adoptable]
    further: str


NO_OPERATOR = "it is FlinkDeployments that are adopted, and this installation has no operator (HEADRACE_RUNTIMES)"


@dataclass(frozen=True)
class Adopting:
    """Judges live deployments. Each call raises Unavailable where Kubernetes does not answer."""

    records: Records
    runtimes: Runtimes

    def arguments(self, document: JobDocument, name: str) -> dict[str, Any]:
        """What an ADOPT of the deployment `name` by this job keeps: its uid too, so that another one that is made under
        the name is not taken for it; and where it has the marks of this job, whose record is lost, the sequence that
        stands there. Raises NotFound, and Conflict in words."""
        job, namespace = document.job, self.records.scope.namespace
        operator = self.runtimes.named(OPERATOR)
        if operator is None:
            raise Conflict(f"job {job.job_id}: cannot ADOPT: {NO_OPERATOR}")
        whole = operator.get_whole(namespace, name)
        if whole is None:
            raise NotFound(f"FlinkDeployment {namespace}/{name}: there is none of this name")
        problem = why_not(whole, document.key) or self._name_is_taken(document, name)
        if problem:
            raise Conflict(f"job {job.job_id}: cannot ADOPT: {problem}")
        found = {"deployment": name, "uid": whole["metadata"]["uid"]}
        is_its_own = is_of(whole, document.key)
        return found | ({"live_sequence": sequence_of(deployment_of(whole))} if is_its_own else {})

    def _name_is_taken(self, document: JobDocument, name: str) -> str:
        """A job keeps its deployment's name for all of its runs, and no two have the same."""
        job = document.job
        if job.last_sequence and job.deployment_name != name:
            return f"its deployment's name is {job.deployment_name}, in every run; choose another job_id for {name}"
        namesake = self.records.preview(JobKey(job.tenant, name)) if name != job.job_id else None
        if namesake is not None and namesake.job.deployment_name == name:
            return f"job {name} has that name on record; adopt it as job_id {name}"
        return ""

    def page(self, tenant: str, namespace: str | None, after: str, limit: int) -> AdoptablePage:
        """Deployments of the installation's namespace that are not its jobs' already. Raises InvalidRequest for
        another namespace, and HistoryGone where `after` is too old to go on from."""
        own = self.records.scope.namespace
        if namespace not in (None, own):
            raise InvalidRequest({"namespace": f"must be {own}: this installation runs jobs in no other"})
        operator = self.runtimes.named(OPERATOR)
        if operator is None:
            raise Conflict(f"nothing can be adopted: {NO_OPERATOR}")
        found = operator.list_anybodys(own, limit, after)
        whose = [(whole, _job_of(whole, tenant)) for whole in found.deployments]
        known = self.records.store.known_jobs([key for _, key in whose if key is not None])
        return AdoptablePage(
            [self._judged(whole, key, tenant) for whole, key in whose if key is None or key not in known],
            found.further,
        )

    def _judged(self, whole: Mapping[str, Any], key: JobKey | None, tenant: str) -> Adoptable:
        """`key` is the job of ours whose marks it has, of which there is no record."""
        metadata, status = whole["metadata"], whole.get("status") or {}
        name = str(metadata["name"])
        state = str((status.get("jobStatus") or {}).get("state") or status.get("lifecycleState") or "")
        its_key = key or JobKey(tenant, name)
        problem = why_not(whole, its_key) or self._why_no_job(its_key)
        told = told_of(whole)
        if key is not None:
            told = f"the record of job {key.job_id} is lost: adopt it as that{'; ' + told if told else ''}"
        return Adoptable(its_key.job_id, name, str(metadata["namespace"]), state, problem, told)

    def _why_no_job(self, key: JobKey) -> str:
        """Why there can be no job of the deployment's name: there is one."""
        if not LEGAL_NAME.fullmatch(key.job_id):
            return f"{key.job_id} is no name that the operator takes"
        document = self.records.preview(key)
        return (KINDS[KindName.ADOPT].refusal(document.expected(key.job_id)) or "") if document is not None else ""


def _job_of(whole: Mapping[str, Any], tenant: str) -> JobKey | None:
    """The job of this tenant whose marks it has; None where it has none of them."""
    annotations = whole["metadata"].get("annotations") or {}
    job_id = annotations.get(JOB_ID_ANNOTATION)
    return JobKey(tenant, str(job_id)) if job_id and annotations.get(TENANT_ANNOTATION) == tenant else None
