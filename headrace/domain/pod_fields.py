"""The pod fields that a template may set: an allowlist, each typed, in Kubernetes' own words. No I/O here.

What is not here cannot be set: no sidecar, no privileged container, no host network. Keys may be written as Kubernetes
writes them (nodeSelector) or as the rest of a template is (node_selector). Follows core/v1 PodSpec.
"""

from __future__ import annotations

from collections.abc import Mapping
from posixpath import normpath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator
from pydantic.alias_generators import to_camel

from headrace.domain.validation import matching

_NAME = "must be lower-case letters, digits and '-', with a letter or digit at both ends"

KubernetesName = Annotated[str, matching(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", f"{_NAME}, 63 at most")]
ObjectName = Annotated[
    str,
    matching(
        r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        f"{_NAME}, in parts joined by '.', 253 at most",
    ),
]
"""A Secret's, ConfigMap's or claim's name: a DNS subdomain."""

_VALUE = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
LabelValue = Annotated[
    str,
    matching(
        f"({_VALUE})?", "must be 63 letters, digits, '-', '_' and '.' at most, with a letter or digit at both ends"
    ),
]
LabelKey = Annotated[
    str,
    matching(
        rf"((?=[^/]{{1,253}}/){_DOMAIN}/)?{_VALUE}",
        "must be a name of 63 letters, digits, '-', '_' and '.' at most, or example.com/name",
    ),
]
DataKey = Annotated[str, matching(r"[-._a-zA-Z0-9]{1,253}", "must be letters, digits, '-', '_' and '.'")]


def _names_one_place(path: str) -> str:
    """A path is judged by its words: one that holds . or .. names another place than it seems to."""
    if {".", ".."} & set(path.split("/")):
        raise ValueError("a path may not hold . or ..")
    return path


MountPath = Annotated[
    str,
    matching(r"(/[A-Za-z0-9._-]+){1,40}/?", "must be an absolute path of letters, digits, '.', '_' and '-'"),
    AfterValidator(_names_one_place),
]

SubPath = Annotated[
    str,
    matching(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,40}", "must be a relative path of letters, digits, '.', '_', '-'"),
    AfterValidator(_names_one_place),
]

RESERVED_MOUNTS = (
    *(f"/opt/flink/{each}" for each in ("bin", "conf", "lib", "opt", "plugins", "usrlib")),
    *("/opt/headrace", "/opt/java", "/etc", "/proc", "/sys", "/dev", "/run", "/var/run"),
    *("/usr", "/bin", "/sbin", "/lib", "/lib64"),
)
"""Where Flink, Headrace and the container itself keep what they need."""

STATE_MOUNT = "/opt/headrace/state"
"""Where state is mounted unless an installation says otherwise: the one place below what is reserved."""


class PodPart(BaseModel):
    """A part of a pod as a template has it. Unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, alias_generator=to_camel, populate_by_name=True
    )

    def resource(self) -> dict[str, Any]:
        """The part as Kubernetes has it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def is_within(path: str, folder: str) -> bool:
    """Whether a path is this folder or below it, both normalized."""
    inner, outer = (normpath(f"/{each.lstrip('/')}") for each in (path, folder))
    return inner == outer or inner.startswith(f"{outer.rstrip('/')}/")


def meet(one: str, other: str) -> bool:
    """Whether one of two paths is the other, or below it."""
    return is_within(one, other) or is_within(other, one)


def mount_problem(path: str) -> str | None:
    """Why no volume may be mounted there; None where one may."""
    if any(meet(path, reserved) for reserved in RESERVED_MOUNTS):
        return f"{path} is reserved: neither below {', '.join(RESERVED_MOUNTS)}, nor above one"
    return None


class Volume(PodPart):
    """One volume, mounted in JobManager and TaskManagers at `mount_path`. Exactly one source."""

    name: KubernetesName
    mount_path: MountPath
    sub_path: SubPath | None = None
    read_only: StrictBool = False
    persistent_volume_claim: ObjectName | None = Field(None, description="A claim's name.")
    host_path: MountPath | None = None
    secret: ObjectName | None = None
    config_map: ObjectName | None = None
    empty_dir: StrictBool = False

    @model_validator(mode="after")
    def _has_one_source(self) -> Volume:
        sources = ("persistent_volume_claim", "host_path", "secret", "config_map", "empty_dir")
        if sum(bool(getattr(self, source)) for source in sources) != 1:
            raise ValueError(f"must have exactly one of {', '.join(sources)}")
        problem = mount_problem(self.mount_path)
        if problem:
            raise ValueError(f"mount_path {problem}")
        return self

    def volume(self) -> dict[str, Any]:
        """spec.volumes[]."""
        sources: Mapping[str, Any] = {
            "persistentVolumeClaim": self.persistent_volume_claim and {"claimName": self.persistent_volume_claim},
            "hostPath": self.host_path and {"path": self.host_path},
            "secret": self.secret and {"secretName": self.secret},
            "configMap": self.config_map and {"name": self.config_map},
            "emptyDir": {} if self.empty_dir else None,
        }
        return {"name": self.name, **{kind: source for kind, source in sources.items() if source is not None}}

    def mount(self) -> dict[str, Any]:
        """spec.containers[].volumeMounts[]."""
        mount: dict[str, Any] = {"name": self.name, "mountPath": self.mount_path}
        if self.sub_path:
            mount["subPath"] = self.sub_path
        return mount | ({"readOnly": True} if self.read_only else {})


class Toleration(PodPart):
    """core/v1 Toleration."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: StrictInt | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _is_whole(self) -> Toleration:
        if self.operator == "Exists" and self.value:
            raise ValueError("value must be absent where operator is Exists")
        if self.key is None and self.operator != "Exists":
            raise ValueError("operator must be Exists where there is no key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("toleration_seconds needs the effect NoExecute")
        return self


class Requirement(PodPart):
    """core/v1 NodeSelectorRequirement and metav1 LabelSelectorRequirement."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[LabelValue, ...] | None = None

    @model_validator(mode="after")
    def _has_values_where_needed(self) -> Requirement:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError("values are needed for In and NotIn, and for nothing else")
        return self


class NodeSelectorTerm(PodPart):
    """core/v1 NodeSelectorTerm."""

    match_expressions: tuple[Requirement, ...] = Field(min_length=1)


class NodeSelector(PodPart):
    """core/v1 NodeSelector."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = Field(min_length=1)


class PreferredNode(PodPart):
    """core/v1 PreferredSchedulingTerm."""

    weight: StrictInt = Field(ge=1, le=100)
    preference: NodeSelectorTerm


class NodeAffinity(PodPart):
    """core/v1 NodeAffinity."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredNode, ...] | None = None


class LabelSelector(PodPart):
    """metav1 LabelSelector."""

    match_labels: Mapping[LabelKey, LabelValue] | None = None
    match_expressions: tuple[Requirement, ...] | None = None


class PodAffinityTerm(PodPart):
    """core/v1 PodAffinityTerm."""

    label_selector: LabelSelector
    topology_key: LabelKey


class PreferredPod(PodPart):
    """core/v1 WeightedPodAffinityTerm."""

    weight: StrictInt = Field(ge=1, le=100)
    pod_affinity_term: PodAffinityTerm


class PodAffinity(PodPart):
    """core/v1 PodAffinity and PodAntiAffinity."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredPod, ...] | None = None


class Affinity(PodPart):
    """core/v1 Affinity."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class PodFields(PodPart):
    """What a template may say of its pods, JobManager and TaskManagers alike."""

    volumes: tuple[Volume, ...] = ()
    node_selector: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity | None = None
    annotations: Mapping[LabelKey, str] = Field(default_factory=dict)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[ObjectName, ...] = ()
    priority_class_name: ObjectName | None = None

    @model_validator(mode="after")
    def _volumes_do_not_meet(self) -> PodFields:
        names = [volume.name for volume in self.volumes]
        paths = [volume.mount_path.rstrip("/") for volume in self.volumes]
        if len(set(names)) != len(names) or len(set(paths)) != len(paths):
            raise ValueError("two volumes have the same name or the same mount_path")
        if any(name.startswith("headrace-") for name in names):
            raise ValueError("names of volumes that begin with headrace- are Headrace's own")
        return self

    def pod_spec(self) -> dict[str, Any]:
        """These fields in a PodSpec, without volumes."""
        spec: dict[str, Any] = {
            "nodeSelector": dict(self.node_selector),
            "tolerations": [toleration.resource() for toleration in self.tolerations],
            "affinity": self.affinity.resource() if self.affinity else None,
            "imagePullSecrets": [{"name": name} for name in self.image_pull_secrets],
            "priorityClassName": self.priority_class_name,
        }
        return {key: value for key, value in spec.items() if value}
