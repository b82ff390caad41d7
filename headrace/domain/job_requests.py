"""A job request: everything that rendering needs to know of a job, validated field by field. No I/O here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult

from pydantic import (
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from headrace.domain.costs import COUNTS, FREE, UPGRADES, Cost, FieldCost, Mode, cost_of_option
from headrace.domain.disclosures import disclosures
from headrace.domain.environment import (
    RESERVED_ENV,
    EnvFrom,
    EnvName,
    EnvValue,
)
from headrace.domain.flink_options import ANYTHING, problems_of_configuration
from headrace.domain.flink_sql import ScriptError, settings, statements
from headrace.domain.pod_fields import (
    STATE_MOUNT,
    KubernetesName,
    LabelKey,
    LabelValue,
    MountPath,
    ObjectName,
    PodFields,
    is_within,
    mount_problem,
)
from headrace.domain.said import Text, is_said, text_of
from headrace.domain.savepoint_settings import SavepointSettings
from headrace.domain.secrets import shown_name
from headrace.domain.sources import (
    CONTROL,
    MOST_FILE_BYTES,
    REQUIREMENTS,
    SQL_FILE,
    Artifact,
    Digest,
    Part,
    Script,
    SourceFile,
    checked_url,
    is_open_to_others,
    normalized,
    split_url,
)
from headrace.domain.validation import matching, problems_of
from headrace.errors import MOST_PROBLEMS, InvalidRequest


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
    str,
    matching(
        r"(?!.*(\.\.|//))[A-Za-z0-9][A-Za-z0-9._/:@-]{0,499}",
        "must be an image's name: registry.example.com/flink:2.2.1",
    ),
]
FlinkVersion = Annotated[str, matching(r"v[0-9]{1,4}_[0-9]{1,4}", "must be written as the CRD has it: v2_2")]


class JobManagerResources(Part):
    """The JobManager's pod. `cpu` in cores."""

    memory: Annotated[Memory, UPGRADES] = "1g"
    cpu: Annotated[StrictFloat, UPGRADES] = Field(0.5, gt=0, le=256)


class TaskManagerResources(Part):
    """Each TaskManager's pod. `cpu` in cores; `slots` is taskmanager.numberOfTaskSlots."""

    memory: Annotated[Memory, UPGRADES] = "1g"
    cpu: Annotated[StrictFloat, UPGRADES] = Field(0.5, gt=0, le=256)
    slots: Annotated[StrictInt, UPGRADES] = Field(1, ge=1, le=128)
    replicas: Annotated[StrictInt | None, COUNTS] = Field(None, ge=1, le=10_000)


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
        problem = None if is_within(parts.path, STATE_MOUNT) else mount_problem(parts.path)
        if problem:
            raise ValueError(f"location: the volume would be mounted at {problem}")
        return self

    def _without_volume(self, parts: SplitResult) -> StateLocation:
        if self.volume is not None:
            raise ValueError(f"volume is for file:// locations alone, not for {parts.scheme}://")
        if not parts.netloc:
            raise ValueError(f"location needs a bucket or host: {parts.scheme}://bucket/path")
        return self


SOURCES: Mapping[JobType, tuple[str, ...]] = {
    JobType.PYTHON_SCRIPT: ("script", "files", "sha256"),
    JobType.JAR: ("jar", "main_class", "sha256"),
    JobType.SQL: ("sql", "script", "files", "sha256"),
}
"""The fields that say what a job of each type runs; the others' are refused."""

RESERVED_LABELS = frozenset({"app", "component", "type", "app.kubernetes.io/managed-by"})
"""Labels that the operator or Headrace puts on a job's pods, whatever a template says."""

_EVERY_SOURCE = tuple(dict.fromkeys(field for fields in SOURCES.values() for field in fields))


class JobRequest(Part):
    """Everything that rendering needs to know of a job. Unset runtime, image, flink_version, state, namespace and
    service_account come from the settings, and so do `ended_run_kept_hours`, how long what an ended run left in the
    cluster is kept, and what `savepoints` leaves unset. Each field says what a change of it alone costs a job that
    runs; a profile costs what it gives."""

    type: Annotated[JobType, UPGRADES] = JobType.PYTHON_SCRIPT
    runtime: Annotated[Literal["operator", "native"] | None, FREE] = None
    script: Annotated[Script | None, UPGRADES] = None
    files: Annotated[tuple[SourceFile, ...], UPGRADES] = Field((), max_length=500)
    sql: Annotated[str | None, UPGRADES] = Field(None, min_length=1)
    jar: Annotated[str | None, UPGRADES] = Field(None, max_length=2000)
    main_class: Annotated[ClassName | None, UPGRADES] = None
    jar_files: Annotated[tuple[Artifact, ...], UPGRADES] = Field((), max_length=100)
    sha256: Annotated[Digest | None, UPGRADES] = None
    args: Annotated[tuple[Text, ...], UPGRADES] = Field((), max_length=1000)
    env: Annotated[Mapping[EnvName, EnvValue], UPGRADES] = Field(default_factory=dict)
    env_from: Annotated[tuple[EnvFrom, ...], UPGRADES] = ()
    image: Annotated[Image | None, UPGRADES] = None
    flink_version: Annotated[FlinkVersion | None, UPGRADES] = None
    profile: Annotated[str | None, FREE] = Field(None, max_length=100)
    resources: Annotated[Resources, UPGRADES] = Resources()
    parallelism: Annotated[StrictInt, COUNTS] = Field(1, ge=1, le=32_768)
    flink_configuration: Annotated[Mapping[str, Text], UPGRADES] = Field(default_factory=dict)
    labels: Annotated[Mapping[LabelKey, LabelValue], UPGRADES] = Field(default_factory=dict)
    ended_run_kept_hours: Annotated[float | None, FREE] = Field(None, ge=0, le=87_600)
    savepoints: Annotated[SavepointSettings | None, FREE] = None
    pod: Annotated[PodFields, UPGRADES] = PodFields()
    state: Annotated[StateLocation | None, UPGRADES] = None
    namespace: Annotated[KubernetesName | None, FREE] = None
    service_account: Annotated[ObjectName | None, UPGRADES] = None

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
        for key, value in configuration.items():
            problem = _no_flink_text(key, value)
            if problem:
                raise ValueError(problem)
        return {str(key): value if is_said(value) else _as_flink_text(value) for key, value in configuration.items()}

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

    @field_validator("labels")
    @classmethod
    def _labels_are_the_users(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        ours = next((key for key in labels if key in RESERVED_LABELS or key.startswith("headrace.io/")), None)
        if ours is not None:
            raise ValueError(f"{shown_name(ours)} may not be set: Headrace or the operator sets it")
        return labels

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
        folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
        if folders & set(names):
            raise ValueError(f"files: {min(folders & set(names))} is a file, and a folder of other files")
        size = sum(len(file.content.encode()) + len(file.name) for file in self.source_files())
        if size > MOST_FILE_BYTES:
            raise ValueError(
                f"files: {size} bytes in all, and a ConfigMap takes {MOST_FILE_BYTES}: put the program on a server of "
                "an allowed host and give its URL, or build it into the image"
            )
        return self

    def as_json(self) -> dict[str, Any]:
        """What is stored of it: every field that says something, defaults too, since those may change."""
        whole = {key: value for key, value in self.model_dump(mode="json", exclude_none=True).items() if value != []}
        return whole | {"parallelism": self.whole_parallelism}

    def as_given(self) -> dict[str, Any]:
        """What was said, without what follows from defaults: a profile or an override may still say more."""
        given = self.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return {key: value for key, value in given.items() if value != []} | {"type": self.type.value}

    @property
    def whole_parallelism(self) -> int:
        """The parallelism that the request comes to: of its replicas, where those are given."""
        task_manager = self.resources.task_manager
        return self.parallelism if task_manager.replicas is None else task_manager.replicas * task_manager.slots

    def source_files(self) -> tuple[SourceFile, ...]:
        """Every file that travels with the request, the script first."""
        own = (self.script,) if isinstance(self.script, SourceFile) else ()
        sql = (SourceFile.model_validate({"name": SQL_FILE, "content": self.sql}),) if self.sql is not None else ()
        return (*own, *sql, *self.files)


def cost_of_field(path: Sequence[str], mode: Mode) -> Cost:
    """What a change of this place of a request costs by itself: as the innermost field says that says something, or as
    the option of Flink that it is."""
    if path[0] == "flink_configuration" and len(path) > 1:
        return cost_of_option(path[1], mode)
    model: Any = JobRequest
    found = UPGRADES
    for name in path:
        field = getattr(model, "model_fields", {}).get(name)
        if field is None:
            break
        found = next((each for each in field.metadata if isinstance(each, FieldCost)), found)
        model = field.annotation
    return found.by(mode)


def _source_problem(request: JobRequest) -> str | None:
    foreign = [f for f in _EVERY_SOURCE if f not in SOURCES[request.type] and getattr(request, f) not in (None, ())]
    if foreign:
        return f"{foreign[0]}: a {request.type} job has none; it takes {', '.join(SOURCES[request.type])}"
    if request.type is JobType.SQL and request.args:
        return "args: a SQL job has none; what a statement needs comes by parameters of a template"
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


def sql_text(request: JobRequest) -> tuple[str, str | None]:
    """The field that has a SQL job's statements, and their text; None where they are fetched by the job's pods."""
    if isinstance(request.script, SourceFile):
        return "script.content", request.script.content
    return "sql", request.sql


def settings_of(request: JobRequest) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What a SQL job's own statements SET: the field, the place in it, and the option with its value. Raises
    ScriptError where the statements do not end. Whether they start a job is the runner's to say."""
    field, script = sql_text(request)
    if request.type is not JobType.SQL or script is None:
        return
    for statement, key, value in settings(statements(script)):
        yield field, statement.place, {key: value}


def _is_fetched(request: JobRequest) -> bool:
    source = request.jar if request.type is JobType.JAR else request.script
    return isinstance(source, str)


def parse_request(body: Mapping[str, Any], prefix: str = "", more: tuple[str, ...] = ()) -> JobRequest:
    """A job request as somebody asks for it, judged whole. Raises InvalidRequest that names each field, with `prefix`
    before it; `more` are names that are known too."""
    request = _of_form(body, prefix, more)
    problems: dict[str, str] = {}
    for field, words in islice(_problems_of(request), MOST_PROBLEMS + 1):
        problems.setdefault(prefix + field, words)
    if problems:
        raise InvalidRequest(problems)
    return request


def recorded_request(body: Mapping[str, Any]) -> JobRequest:
    """A job request as it is stored (`as_json`): what it may hold was judged when it was accepted, and what may reach
    the cluster is judged when it is rendered. Raises InvalidRequest where it has another form."""
    return _of_form(body, "", ())


def _problems_of(request: JobRequest) -> Iterator[tuple[str, str]]:
    """What may not be asked for although its form is right, by field."""
    yield from _said_twice(request)
    yield from _unchecked_fetches(request)
    for _, words in problems_of_configuration(request.flink_configuration, ANYTHING):
        yield "flink_configuration", words
    yield from _sql_problems(request)
    yield from disclosures(request.as_json()).items()


def _said_twice(request: JobRequest) -> Iterator[tuple[str, str]]:
    task_manager = request.resources.task_manager
    if "parallelism" in request.model_fields_set and request.parallelism != request.whole_parallelism:
        yield (
            "parallelism",
            f"resources.task_manager.replicas gives {task_manager.replicas} times {task_manager.slots} slots: set one "
            "of the two, or both alike",
        )
    if "python.requirements" in request.flink_configuration and any(f.name == REQUIREMENTS for f in request.files):
        yield (
            "flink_configuration",
            f"python.requirements and files: {REQUIREMENTS} say the same: give one of them",
        )


def _unchecked_fetches(request: JobRequest) -> Iterator[tuple[str, str]]:
    named = [("script", request.script, request.sha256), ("jar", request.jar, request.sha256)]
    named += [(f"jar_files.{place}.url", jar.url, jar.sha256) for place, jar in enumerate(request.jar_files)]
    for field, url, digest in named:
        if isinstance(url, str) and digest is None and is_open_to_others(url):
            yield field, "is plain http, where others could put another file: give https, or the file's sha256"


def _sql_problems(request: JobRequest) -> Iterator[tuple[str, str]]:
    """What is wrong with a SQL job that its fields alone do not show: its script, where it is at hand."""
    try:
        for field, place, option in settings_of(request):
            for _, words in problems_of_configuration(option, ANYTHING):
                yield field, f"{place}: SET {words}"
    except ScriptError as error:
        yield sql_text(request)[0], str(error)


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


def _no_flink_text(key: Any, value: Any) -> str | None:
    """Why a value cannot be one of Flink's: its configuration is flat text."""
    name = shown_name(key)
    if isinstance(value, Mapping) and not is_said(value):
        return f"must be flat: write {name}.<key>: value"
    if isinstance(value, list | tuple):
        return f"must be flat: write the list of {name} as one text, with ; between its values: first;second"
    if value is None:
        return f"{name} has no value: leave it out, or write '' for an empty one"
    return None


def _as_flink_text(value: Any) -> str:
    return str(text_of(value))
