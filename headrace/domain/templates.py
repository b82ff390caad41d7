"""Templates and job requests: what a job is made from, validated field by field. No I/O here.

A template has immutable versions. A submit resolves a template and its overrides (`job_config`) into a JobRequest,
which the operation and the job carry whole, so that a template that changes later changes no job.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headrace.errors import InvalidRequest


class JobType(StrEnum):
    """What kind of program a job runs."""

    PYTHON_SCRIPT = "PYTHON_SCRIPT"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]*([kmgKMG]b?|[KMG]i)$")]
"""A memory size as Flink and the operator parse it: 1g, 2048m, 2Gi. A bare number would mean bytes: refused."""

KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class JobManagerResources(_Model):
    """The JobManager's pod. `cpu` in cores."""

    memory: Memory = "1g"
    cpu: float = Field(0.5, gt=0, le=256)


class TaskManagerResources(_Model):
    """Each TaskManager's pod. `cpu` in cores; `slots` is taskmanager.numberOfTaskSlots."""

    memory: Memory = "1g"
    cpu: float = Field(0.5, gt=0, le=256)
    slots: int = Field(1, ge=1, le=128)
    replicas: int | None = Field(None, ge=1, le=10_000)


class Resources(_Model):
    """What the pods get."""

    job_manager: JobManagerResources = JobManagerResources()
    task_manager: TaskManagerResources = TaskManagerResources()


class ScriptFile(_Model):
    """A script from the user's disk: its name, its text and the SHA-256 of that text in UTF-8."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.py$")
    content: str = Field(max_length=900_000)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


FORBIDDEN_CONFIGURATION: Mapping[str, str] = {
    "kubernetes.namespace": "the operator sets it from the deployment",
    "kubernetes.cluster-id": "the operator sets it from the deployment",
    "high-availability.cluster-id": "the operator sets it from the deployment",
    "parallelism.default": "set parallelism instead",
    "taskmanager.numberOfTaskSlots": "set resources.task_manager.slots instead",
    "execution.checkpointing.dir": "it follows from the state location",
    "execution.checkpointing.savepoint-dir": "it follows from the state location",
    "state.checkpoints.dir": "it follows from the state location",
    "state.savepoints.dir": "it follows from the state location",
    "high-availability.storageDir": "it follows from the state location",
    "kubernetes.operator.job.drain-on-savepoint-deletion": "it would drain every stop and upgrade",
}
"""Configuration keys that a request may not set, each with the reason."""


class JobRequest(_Model):
    """Everything that rendering needs to know of a job. Unset image, flink_version, namespace and service_account
    come from the settings at accept time."""

    type: Literal[JobType.PYTHON_SCRIPT] = JobType.PYTHON_SCRIPT
    script: str | ScriptFile
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    args: tuple[str, ...] = ()
    env: Mapping[EnvName, str] = Field(default_factory=dict)
    image: str | None = Field(None, min_length=1, max_length=500)
    flink_version: str | None = Field(None, pattern=r"^v[0-9]+_[0-9]+$")
    resources: Resources = Resources()
    parallelism: int = Field(1, ge=1, le=100_000)
    flink_configuration: Mapping[str, str] = Field(default_factory=dict)
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    namespace: KubernetesName | None = None
    service_account: KubernetesName | None = None

    @field_validator("script")
    @classmethod
    def _script_is_a_url_or_a_file(cls, script: str | ScriptFile) -> str | ScriptFile:
        if isinstance(script, str):
            parts = urlsplit(script)
            if parts.scheme not in ("https", "http") or not parts.hostname:
                raise ValueError("must be an http or https URL, or a file from your disk (headrace submit ./job.py)")
            if parts.username or parts.password:
                raise ValueError("must carry no user name or password in its URL")
        return script

    @field_validator("flink_configuration", mode="before")
    @classmethod
    def _configuration_is_flat_text(cls, configuration: Any) -> Any:
        if not isinstance(configuration, Mapping):
            return configuration
        nested = [key for key, value in configuration.items() if isinstance(value, Mapping | list)]
        if nested:
            raise ValueError(f"must be flat: write {nested[0]}.<key>: value")
        return {str(key): _as_flink_text(value) for key, value in configuration.items()}

    @field_validator("flink_configuration")
    @classmethod
    def _configuration_is_allowed(cls, configuration: Mapping[str, str]) -> Mapping[str, str]:
        for key in configuration:
            if key in FORBIDDEN_CONFIGURATION:
                raise ValueError(f"{key} may not be set: {FORBIDDEN_CONFIGURATION[key]}")
        return configuration

    @field_validator("env", mode="before")
    @classmethod
    def _env_is_text(cls, env: Any) -> Any:
        if not isinstance(env, Mapping):
            return env
        return {
            key: _as_flink_text(value) if isinstance(value, bool | int | float) else value for key, value in env.items()
        }

    @field_validator("args", mode="before")
    @classmethod
    def _args_are_text(cls, args: Any) -> Any:
        if not isinstance(args, list | tuple):
            return args
        return tuple(_as_flink_text(arg) if isinstance(arg, bool | int | float) else arg for arg in args)


class Template(_Model):
    """One immutable version of a template. `version` is set by the store, from 1."""

    template_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    version: int = Field(1, ge=1)
    request: JobRequest


OVERRIDABLE = frozenset(JobRequest.model_fields) - {"type", "namespace"}
"""What job_config may set; `env`, `labels`, `flink_configuration` and `resources` are merged, the rest replaced."""

_MERGED = ("env", "labels", "flink_configuration", "resources")


def parse_template(body: Mapping[str, Any]) -> Template:
    """A template from its YAML or JSON form (the fields of JobRequest beside template_id). Raises InvalidRequest."""
    fields = dict(body)
    template_id = fields.pop("template_id", None)
    fields.pop("version", None)
    try:
        return Template(template_id=template_id, request=JobRequest.model_validate(fields))
    except ValidationError as error:
        raise InvalidRequest(problems_of(error, JobRequest)) from error


def template_body(template: Template) -> dict[str, Any]:
    """The JSON form that parse_template takes, with its version."""
    return {
        "template_id": template.template_id,
        "version": template.version,
        **template.request.model_dump(mode="json", exclude_none=True),
    }


def parse_request(body: Mapping[str, Any]) -> JobRequest:
    """A job request from its JSON form. Raises InvalidRequest that names each field."""
    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(problems_of(error, JobRequest)) from error


def resolve(base: JobRequest | None, job_config: Mapping[str, Any]) -> JobRequest:
    """The request that a template and its overrides give. Raises InvalidRequest, fields named `job_config.…`."""
    unknown = {f"job_config.{key}": _unknown(key, OVERRIDABLE) for key in job_config if key not in OVERRIDABLE}
    if unknown:
        raise InvalidRequest(unknown)
    merged: dict[str, Any] = base.model_dump(mode="json", exclude_none=True) if base else {}
    for key, value in job_config.items():
        merged[key] = _merge(merged.get(key), value) if key in _MERGED else value
    try:
        return JobRequest.model_validate(merged)
    except ValidationError as error:
        raise InvalidRequest({f"job_config.{f}": p for f, p in problems_of(error, JobRequest).items()}) from error


def problems_of(error: ValidationError, model: type[BaseModel]) -> dict[str, str]:
    """A validation error as field path -> what is wrong and what is allowed. Values are not repeated: secrets."""
    problems: dict[str, str] = {}
    for found in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in found["loc"] if part not in ("str", "ScriptFile")) or "body"
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = _unknown(str(found["loc"][-1]), frozenset(model.model_fields) | {"template_id"})
        problems.setdefault(path, message)
    return problems


def _unknown(key: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(known))}"
    return f"unknown field; {hint}"


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}
    return above


def _as_flink_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_SECRET_NAME = re.compile(r"(pass(word|wd)?|secret|token|api_?key|credential)", re.IGNORECASE)


def looks_secret(name: str) -> bool:
    """Whether a variable of this name most likely holds a secret, to be shown redacted."""
    return bool(_SECRET_NAME.search(name))
