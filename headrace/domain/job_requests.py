"""A job request: everything that rendering needs to know of a job, validated field by field. No I/O here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import SplitResult

from pydantic import Field, ValidationError, field_validator, model_validator

from headrace.domain.disclosures import disclosures
from headrace.domain.environment import (
    RESERVED_ENV,
    EnvFrom,
    EnvName,
    EnvValue,
)
from headrace.domain.pod_fields import KubernetesName, LabelKey, LabelValue, MountPath, ObjectName, PodFields
from headrace.domain.said import Text, is_said, text_of
from headrace.domain.secrets import shown_name
from headrace.domain.sources import (
    CONTROL,
    MOST_FILE_BYTES,
    SQL_FILE,
    Artifact,
    Digest,
    Part,
    Script,
    SourceFile,
    checked_url,
    normalized,
    split_url,
)
from headrace.domain.validation import matching, problems_of
from headrace.errors import InvalidRequest


class JobType(StrEnum):
    """What kind of program a job runs."""

    PYTHON_SCRIPT = "PYTHON_SCRIPT"
    JAR = "JAR"
    SQL = "SQL"


LONGEST_SHOWN_SQL = 4096
"""Characters of SQL that records and readers have word for word."""

Memory = Annotated[str, matching(r"[1-9][0-9]{0,9}([kmgKMG]b?|[KMG]i)", "must be a size like 1g, 2048m or 2Gi")]
"""A memory size as Flink and the operator parse it: 1g, 2048m, 2Gi. A bare number would mean bytes: refused."""

ClassName = Annotated[
    str, matching(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*){0,50}", "must be a class name: com.example.Job")
]
Image = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,499}", "must be an image's name: registry.example.com/flink:2.2.1")
]
FlinkVersion = Annotated[str, matching(r"v[0-9]{1,4}_[0-9]{1,4}", "must be written as the CRD has it: v2_2")]


class JobManagerResources(Part):
    """The JobManager's pod. `cpu` in cores."""

    memory: Memory = "1g"
    cpu: float = Field(0.5, gt=0, le=256)


class TaskManagerResources(Part):
    """Each TaskManager's pod. `cpu` in cores; `slots` is taskmanager.numberOfTaskSlots."""

    memory: Memory = "1g"
    cpu: float = Field(0.5, gt=0, le=256)
    slots: int = Field(1, ge=1, le=128)
    replicas: int | None = Field(None, ge=1, le=10_000)


class Resources(Part):
    """What the pods get."""

    job_manager: JobManagerResources = JobManagerResources()
    task_manager: TaskManagerResources = TaskManagerResources()


class StateVolume(Part):
    """A volume that all pods share. Exactly one of the two."""

    persistent_volume_claim: ObjectName | None = None
    host_path: MountPath | None = None

    @model_validator(mode="after")
    def _is_one(self) -> StateVolume:
        if (self.persistent_volume_claim is None) == (self.host_path is None):
            raise ValueError("must have exactly one of persistent_volume_claim, host_path")
        return self


STATE_SCHEMES = ("s3", "s3a", "s3p", "hdfs", "gs", "abfs", "abfss", "wasb", "wasbs", "oss", "file")


class StateLocation(Part):
    """Where checkpoints, savepoints, high availability and output go: a URI, and the volume of a file:// one."""

    location: str = Field(max_length=500)
    volume: StateVolume | None = None

    @model_validator(mode="after")
    def _pods_share_it(self) -> StateLocation:
        parts = split_url(self.location)
        if parts is None or parts.scheme not in STATE_SCHEMES or CONTROL.search(self.location) or " " in self.location:
            raise ValueError(f"location must be a URI of one of {', '.join(STATE_SCHEMES)}: s3://bucket/flink")
        if parts.username or parts.password:
            raise ValueError("location must carry no user name or password: give credentials by env and secret_key_ref")
        if parts.scheme != "file":
            return self._without_volume(parts)
        if self.volume is None:
            raise ValueError(
                "a file:// location needs a volume that all pods share, or each pod writes to a disk of its own and "
                "nothing is found again: set state.volume, or use object storage"
            )
        if parts.netloc or not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+/?", parts.path) or "/../" in f"{parts.path}/":
            raise ValueError("location must be file:///an/absolute/path: the volume is mounted there")
        return self

    def _without_volume(self, parts: SplitResult) -> StateLocation:
        if self.volume is not None:
            raise ValueError(f"volume is for file:// locations alone, not for {parts.scheme}://")
        if not parts.netloc:
            raise ValueError(f"location needs a bucket or host: {parts.scheme}://bucket/path")
        return self


FORBIDDEN_CONFIGURATION: Mapping[str, str] = {
    "kubernetes.namespace": "the operator sets it from the deployment",
    "kubernetes.cluster-id": "the operator sets it from the deployment",
    "high-availability.cluster-id": "the operator sets it from the deployment",
    "parallelism.default": "set parallelism instead",
    "taskmanager.numberOfTaskSlots": "set resources.task_manager.slots instead",
    "execution.checkpointing.dir": "set state.location instead",
    "execution.checkpointing.savepoint-dir": "set state.location instead",
    "execution.checkpointing.externalized-checkpoint-retention": "a STOP lives on retained checkpoints",
    "state.checkpoints.dir": "set state.location instead",
    "state.savepoints.dir": "set state.location instead",
    "high-availability": "it is always on: a STOP and every restart live on it",
    "high-availability.type": "it is always on: a STOP and every restart live on it",
    "high-availability.storageDir": "set state.location instead",
    "kubernetes.operator.job.drain-on-savepoint-deletion": "it would drain every stop and upgrade",
    "kubernetes.service-account": "set service_account instead",
    "kubernetes.container.image.ref": "set image instead",
    "kubernetes.container.image": "set image instead",
    "kubernetes.pod-template-file.default": "set pod instead",
    "kubernetes.pod-template-file.jobmanager": "set pod instead",
    "kubernetes.pod-template-file.taskmanager": "set pod instead",
    "execution.target": "the operator sets it",
    "$internal.pipeline.job-id": "the operator sets it",
    "pipeline.jars": "set jar or jar_files instead",
    "pipeline.classpaths": "set jar_files instead",
}
"""Configuration keys that a request may not set, each with the reason."""

SOURCES: Mapping[JobType, tuple[str, ...]] = {
    JobType.PYTHON_SCRIPT: ("script", "files", "sha256"),
    JobType.JAR: ("jar", "main_class", "sha256"),
    JobType.SQL: ("sql", "script", "files", "sha256"),
}
"""The fields that say what a job of each type runs; the others' are refused."""

_EVERY_SOURCE = tuple(dict.fromkeys(field for fields in SOURCES.values() for field in fields))


class JobRequest(Part):
    """Everything that rendering needs to know of a job. Unset image, flink_version, state, namespace and
    service_account come from the settings."""

    type: JobType = JobType.PYTHON_SCRIPT
    script: Script | None = None
    files: tuple[SourceFile, ...] = Field((), max_length=500)
    sql: str | None = Field(None, min_length=1)
    jar: str | None = Field(None, max_length=2000)
    main_class: ClassName | None = None
    jar_files: tuple[Artifact, ...] = Field((), max_length=100)
    sha256: Digest | None = None
    args: tuple[Text, ...] = Field((), max_length=1000)
    env: Mapping[EnvName, EnvValue] = Field(default_factory=dict)
    env_from: tuple[EnvFrom, ...] = ()
    image: Image | None = None
    flink_version: FlinkVersion | None = None
    profile: str | None = Field(None, max_length=100)
    resources: Resources = Resources()
    parallelism: int = Field(1, ge=1, le=32_768)
    flink_configuration: Mapping[str, Text] = Field(default_factory=dict)
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    pod: PodFields = PodFields()
    state: StateLocation | None = None
    namespace: KubernetesName | None = None
    service_account: ObjectName | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, body: Any) -> Any:
        return normalized(body) if isinstance(body, Mapping) else body

    @field_validator("script")
    @classmethod
    def _script_is_a_url_or_a_file(cls, script: str | SourceFile | None) -> str | SourceFile | None:
        return checked_url(script) if isinstance(script, str) else script

    @field_validator("jar")
    @classmethod
    def _jar_is_fetchable(cls, jar: str | None) -> str | None:
        return checked_url(jar, ".jar") if jar is not None else None

    @field_validator("flink_configuration", mode="before")
    @classmethod
    def _configuration_is_flat_text(cls, configuration: Any) -> Any:
        if not isinstance(configuration, Mapping):
            return configuration
        nested = [
            key for key, value in configuration.items() if isinstance(value, Mapping | list) and not is_said(value)
        ]
        if nested:
            raise ValueError(f"must be flat: write {nested[0]}.<key>: value")
        return {str(key): value if is_said(value) else _as_flink_text(value) for key, value in configuration.items()}

    @field_validator("flink_configuration")
    @classmethod
    def _configuration_is_allowed(cls, configuration: Mapping[str, str]) -> Mapping[str, str]:
        for key, value in configuration.items():
            if key in FORBIDDEN_CONFIGURATION:
                raise ValueError(f"{key} may not be set: {FORBIDDEN_CONFIGURATION[key]}")
            if not re.fullmatch(r"[A-Za-z$][A-Za-z0-9_.$-]{0,250}", key):
                raise ValueError(f"{shown_name(key[:80])} is no Flink option: letters, digits, '.', '_' and '-'")
            if CONTROL.search(value):
                raise ValueError(f"{key} may hold no line break or control character: it would set another option")
        return configuration

    @field_validator("env", mode="before")
    @classmethod
    def _env_is_text(cls, env: Any) -> Any:
        if not isinstance(env, Mapping):
            return env
        reserved = [name for name in env if name in RESERVED_ENV]
        if reserved:
            raise ValueError(f"{reserved[0]} may not be set: Headrace or the image sets it")
        return {key: _as_text(value) for key, value in env.items()}

    @field_validator("args", mode="before")
    @classmethod
    def _args_are_text(cls, args: Any) -> Any:
        return tuple(_as_text(arg) for arg in args) if isinstance(args, list | tuple) else args

    @field_validator("args")
    @classmethod
    def _args_can_be_given_to_a_process(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in arg for arg in args):
            raise ValueError("may hold no NUL character")
        return args

    @model_validator(mode="after")
    def _has_one_source(self) -> JobRequest:
        problem = _source_problem(self)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _files_fit_a_config_map(self) -> JobRequest:
        names = [file.name for file in self.source_files()]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"files: {twice} is there twice")
        size = sum(len(file.content.encode()) + len(file.name) for file in self.source_files())
        if size > MOST_FILE_BYTES:
            raise ValueError(
                f"files: {size} bytes in all, and a ConfigMap takes {MOST_FILE_BYTES}: put the program on a server of "
                "an allowed host and give its URL, or build it into the image"
            )
        return self

    def as_json(self) -> dict[str, Any]:
        """What is stored of it: every field that says something, defaults too, since those may change."""
        return {key: value for key, value in self.model_dump(mode="json", exclude_none=True).items() if value != []}

    def as_given(self) -> dict[str, Any]:
        """What was said, without what follows from defaults: a profile or an override may still say more."""
        given = self.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return {key: value for key, value in given.items() if value != []} | {"type": self.type.value}

    def source_files(self) -> tuple[SourceFile, ...]:
        """Every file that travels with the request, the script first."""
        own = (self.script,) if isinstance(self.script, SourceFile) else ()
        sql = (SourceFile.model_validate({"name": SQL_FILE, "content": self.sql}),) if self.sql is not None else ()
        return (*own, *sql, *self.files)


def _source_problem(request: JobRequest) -> str | None:
    foreign = [f for f in _EVERY_SOURCE if f not in SOURCES[request.type] and getattr(request, f) not in (None, ())]
    if foreign:
        return f"{foreign[0]}: a {request.type} job has none; it takes {', '.join(SOURCES[request.type])}"
    if request.type is JobType.JAR and request.jar is None:
        return "jar: is required: an https URL of an allowed host, or local:///a/path/in/the/image.jar"
    if request.type is JobType.PYTHON_SCRIPT and request.script is None:
        return (
            "script: is required: an https URL of an allowed host, or a file from your disk (headrace submit ./job.py)"
        )
    if request.type is JobType.SQL and (request.sql is None) == (request.script is None):
        return "sql: exactly one of sql (the statements) and script (their URL or file) is required"
    if isinstance(request.script, SourceFile):
        ending = ".sql" if request.type is JobType.SQL else ".py"
        if not request.script.name.endswith(ending):
            return f"script.name: must end with {ending}"
    if request.sha256 and not _is_fetched(request):
        return "sha256: is of a script or jar that is fetched by its URL; a file from your disk has its own"
    return None


def _is_fetched(request: JobRequest) -> bool:
    source = request.jar if request.type is JobType.JAR else request.script
    return isinstance(source, str)


def parse_request(body: Mapping[str, Any]) -> JobRequest:
    """A job request from its JSON form. Raises InvalidRequest that names each field."""
    return validated(body, "")


def recorded_request(body: Mapping[str, Any]) -> JobRequest:
    """A job request as it was accepted: what it may hold was judged then. Raises InvalidRequest where it has another
    form."""
    return _of_form(body, "", ())


def without_programs(request: Mapping[str, Any]) -> dict[str, Any]:
    """A stored request with each file's text, and that of long SQL, replaced by its size and hash: what a record and a
    reader need of it."""
    return {field: _without_text(field, value) for field, value in request.items()}


def _without_text(field: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_text(field, each) for each in value]
    if isinstance(value, Mapping) and "content" in value:
        return {"name": value.get("name"), **_size_of(str(value["content"]))}
    if field == "sql" and isinstance(value, str) and len(value) > LONGEST_SHOWN_SQL:
        return _size_of(value)
    return value


def _size_of(text: str) -> dict[str, Any]:
    content = text.encode()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def validated(body: Mapping[str, Any], prefix: str, more: tuple[str, ...] = ()) -> JobRequest:
    """The request; problems are named with `prefix` before their fields, `more` are names that are known too."""
    request = _of_form(body, prefix, more)
    problems = disclosures(request.as_json())
    if problems:
        raise InvalidRequest({prefix + path: words for path, words in problems.items()})
    return request


def _of_form(body: Mapping[str, Any], prefix: str, more: tuple[str, ...]) -> JobRequest:
    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        problems = problems_of(error, JobRequest, (*more, "script_path"))
        raise InvalidRequest(dict(_at_field(prefix, path, words) for path, words in problems.items())) from error


def _at_field(prefix: str, path: str, words: str) -> tuple[str, str]:
    """A check of the whole request begins its words with the field that it is about."""
    field, separator, rest = words.partition(": ")
    if path == "body" and separator and re.fullmatch(r"[a-z_0-9.]+", field):
        return prefix + field, rest
    return (prefix + path if path != "body" else prefix.rstrip(".") or path), words


def _as_text(value: Any) -> Any:
    return value if is_said(value) else text_of(value)


def _as_flink_text(value: Any) -> str:
    return str(text_of(value))
