"""Templates and job requests: what a job is made from, validated field by field. No I/O here.

A template has immutable versions. A submit resolves a template, its parameters' values and its overrides (`job_config`)
into a JobRequest, which the operation and the job carry whole, so that a template that changes later changes no job.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from headrace.domain.environment import (
    RESERVED_ENV,
    EnvFrom,
    EnvName,
    EnvValue,
    secret_argument,
    secret_configuration_key,
)
from headrace.domain.parameters import Parameter, checked_values, declaration_problems, substituted
from headrace.domain.pod_fields import KubernetesName, LabelKey, LabelValue, MountPath, ObjectName, PodFields
from headrace.domain.validation import matching, problems_of, unknown
from headrace.errors import InvalidRequest


class JobType(StrEnum):
    """What kind of program a job runs."""

    PYTHON_SCRIPT = "PYTHON_SCRIPT"
    JAR = "JAR"
    SQL = "SQL"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Memory = Annotated[str, matching(r"[1-9][0-9]{0,9}([kmgKMG]b?|[KMG]i)", "must be a size like 1g, 2048m or 2Gi")]
"""A memory size as Flink and the operator parse it: 1g, 2048m, 2Gi. A bare number would mean bytes: refused."""

Digest = Annotated[str, matching(r"[0-9a-fA-F]{64}", "must be a SHA-256 in 64 hex digits")]
ClassName = Annotated[
    str, matching(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*){0,50}", "must be a class name: com.example.Job")
]
Image = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,499}", "must be an image's name: registry.example.com/flink:2.2.1")
]
FlinkVersion = Annotated[str, matching(r"v[0-9]{1,4}_[0-9]{1,4}", "must be written as the CRD has it: v2_2")]
TemplateId = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "must be 1 to 100 letters, digits, '-', '_' and '.', no sign of them first"
    ),
]
ParameterName = Annotated[
    str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "must be letters, digits and '_', no digit first")
]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MOST_FILE_BYTES = 900_000
"""What a ConfigMap takes, with room for its own fields: Kubernetes' own limit is 1 MiB."""

_FILE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,9}")


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


class SourceFile(_Model):
    """A file from the user's disk: its path below the job's folder, its text and the SHA-256 of that text in UTF-8."""

    name: str = Field(max_length=200)
    content: str
    sha256: Digest

    @model_validator(mode="before")
    @classmethod
    def _has_its_hash(cls, file: Any) -> Any:
        if isinstance(file, Mapping) and isinstance(file.get("content"), str):
            found = hashlib.sha256(file["content"].encode(errors="surrogatepass")).hexdigest()
            given = file.get("sha256") or found
            if isinstance(given, str) and given.lower() != found:
                raise ValueError(f"sha256 is not that of the content, which is {found}: it was damaged on its way")
            return {**file, "sha256": found}
        return file

    @field_validator("name")
    @classmethod
    def _name_is_a_path_below(cls, name: str) -> str:
        if not _FILE_PATH.fullmatch(name):
            raise ValueError("must be a path of letters, digits, '_', '-' and '.' below the job's folder")
        return name

    @field_validator("content")
    @classmethod
    def _content_is_text(cls, content: str) -> str:
        try:
            content.encode()
        except UnicodeEncodeError as error:
            raise ValueError("must be text in UTF-8") from error
        if "\0" in content:
            raise ValueError("must be text, without NUL characters")
        return content


def _kind_of_script(script: Any) -> str:
    return "script-file" if isinstance(script, Mapping | SourceFile) else "script-url"


Script = Annotated[
    Annotated[str, Field(max_length=2000), Tag("script-url")] | Annotated[SourceFile, Tag("script-file")],
    Discriminator(_kind_of_script),
]


class Artifact(_Model):
    """A jar for the class path: where it is fetched from, and its SHA-256 where that is to be checked."""

    url: str = Field(max_length=2000)
    sha256: Digest | None = None

    @field_validator("url")
    @classmethod
    def _is_fetchable(cls, url: str) -> str:
        return checked_url(url, ".jar")


class StateVolume(_Model):
    """A volume that all pods share. Exactly one of the two."""

    persistent_volume_claim: ObjectName | None = None
    host_path: MountPath | None = None

    @model_validator(mode="after")
    def _is_one(self) -> StateVolume:
        if (self.persistent_volume_claim is None) == (self.host_path is None):
            raise ValueError("must have exactly one of persistent_volume_claim, host_path")
        return self


STATE_SCHEMES = ("s3", "s3a", "s3p", "hdfs", "gs", "abfs", "abfss", "wasb", "wasbs", "oss", "file")


class StateLocation(_Model):
    """Where checkpoints, savepoints, high availability and output go: a URI, and the volume of a file:// one."""

    location: str = Field(max_length=500)
    volume: StateVolume | None = None

    @model_validator(mode="after")
    def _pods_share_it(self) -> StateLocation:
        parts = _split(self.location)
        if parts is None or parts.scheme not in STATE_SCHEMES or _CONTROL.search(self.location) or " " in self.location:
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


class JobRequest(_Model):
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
    args: tuple[Annotated[str, Field(max_length=30_000)], ...] = Field((), max_length=1000)
    env: Mapping[EnvName, EnvValue] = Field(default_factory=dict)
    env_from: tuple[EnvFrom, ...] = ()
    image: Image | None = None
    flink_version: FlinkVersion | None = None
    profile: str | None = Field(None, max_length=100)
    resources: Resources = Resources()
    parallelism: int = Field(1, ge=1, le=32_768)
    flink_configuration: Mapping[str, str] = Field(default_factory=dict)
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    pod: PodFields = PodFields()
    state: StateLocation | None = None
    namespace: KubernetesName | None = None
    service_account: ObjectName | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, body: Any) -> Any:
        return _normalized(body) if isinstance(body, Mapping) else body

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
        nested = [key for key, value in configuration.items() if isinstance(value, Mapping | list)]
        if nested:
            raise ValueError(f"must be flat: write {nested[0]}.<key>: value")
        return {str(key): _as_flink_text(value) for key, value in configuration.items()}

    @field_validator("flink_configuration")
    @classmethod
    def _configuration_is_allowed(cls, configuration: Mapping[str, str]) -> Mapping[str, str]:
        for key, value in configuration.items():
            if key in FORBIDDEN_CONFIGURATION:
                raise ValueError(f"{key} may not be set: {FORBIDDEN_CONFIGURATION[key]}")
            if not re.fullmatch(r"[A-Za-z$][A-Za-z0-9_.$-]{0,250}", key):
                raise ValueError(f"{key[:80]!r} is no Flink option: letters, digits, '.', '_' and '-'")
            if _CONTROL.search(value):
                raise ValueError(f"{key} may hold no line break or control character: it would set another option")
        secret = secret_configuration_key(configuration)
        if secret:
            raise ValueError(
                f"{secret} looks like a secret, and Flink's configuration is there for everybody to read: give it to "
                "the pods by env and secret_key_ref (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3)"
            )
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
    def _args_are_no_secrets(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        place = secret_argument(args)
        if place is not None:
            raise ValueError(
                f"args.{place} looks like a secret, and arguments are there for everybody to read: give it by env and "
                "secret_key_ref, and read it from the environment"
            )
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

    def source_files(self) -> tuple[SourceFile, ...]:
        """Every file that travels with the request, the script first."""
        own = (self.script,) if isinstance(self.script, SourceFile) else ()
        sql = (SourceFile.model_validate({"name": SQL_FILE, "content": self.sql}),) if self.sql is not None else ()
        return (*own, *sql, *self.files)


SQL_FILE = "job.sql"
REQUIREMENTS = "requirements.txt"


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


def checked_url(url: str, ending: str = "") -> str:
    """A URL that the fetcher takes: http(s) of a host, or local:// of the image. Raises ValueError."""
    parts = _split(url)
    if parts is None or _CONTROL.search(url) or " " in url:
        raise ValueError("must be a URL")
    if parts.scheme == "local":
        if parts.netloc or not re.fullmatch(r"(/[A-Za-z0-9_.+-]+)+", parts.path) or ".." in parts.path.split("/"):
            raise ValueError("must be local:///a/path/in/the/image")
    elif parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an http or https URL, local:///a/path/in/the/image, or a file from your disk")
    if parts.username or parts.password or "@" in parts.netloc:
        raise ValueError("must carry no user name or password in its URL")
    if ending and not parts.path.endswith(ending):
        raise ValueError(f"must end with {ending}")
    return url


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it raises where it is no number
        return parts
    except ValueError:
        return None


def _normalized(body: Mapping[str, Any]) -> dict[str, Any]:
    """Other spellings of one thing: script_path, env SCRIPT_URL and --script-url are the script; JAR_FILES in env,
    and text with commas, are the jar_files."""
    fields = dict(body)
    given = fields.get("env")
    env: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    if fields.get("type", JobType.PYTHON_SCRIPT) == JobType.PYTHON_SCRIPT:
        url, fields["args"] = _without_script_url(fields.get("args", ()))
        named = {"script_path": fields.pop("script_path", None), "env.SCRIPT_URL": env.get("SCRIPT_URL"), "args": url}
        for spelling, script in named.items():
            if script is not None and fields.get("script") not in (None, script):
                raise ValueError(f"{spelling} and script name different scripts: give one of them")
            fields["script"] = script if script is not None else fields.get("script")
    if fields.get("jar_files") is None and env.get("JAR_FILES"):
        fields["jar_files"] = env["JAR_FILES"]
    if fields.get("jar_files") is not None:
        fields["jar_files"] = _jar_files(fields["jar_files"])
    return {key: value for key, value in fields.items() if not (value is None and key in ("script", "jar_files"))}


def _without_script_url(args: Any) -> tuple[Any, Any]:
    """`--script-url X` is ours where it stands before the first `--`; everything else is the script's own."""
    if not isinstance(args, list | tuple):
        return None, args
    ours = args[: args.index("--")] if "--" in args else args
    for place, argument in enumerate(ours):
        if argument == "--script-url" and place + 1 < len(ours):
            return ours[place + 1], [*args[:place], *args[place + 2 :]]
        if isinstance(argument, str) and argument.startswith("--script-url="):
            return argument.partition("=")[2], [*args[:place], *args[place + 1 :]]
    return None, args


def _jar_files(listed: Any) -> Any:
    if isinstance(listed, str):
        listed = [url.strip() for url in listed.split(",") if url.strip()]
    if not isinstance(listed, list | tuple):
        return listed
    return [{"url": each} if isinstance(each, str) else each for each in listed]


class Template(_Model):
    """One immutable version of a template. `version` is set by the store, from 1; `body` is as it was registered,
    with its `${parameters}` in place."""

    template_id: TemplateId
    version: int = Field(1, ge=1)
    parameters: Mapping[ParameterName, Parameter] = Field(default_factory=dict)
    body: Mapping[str, Any]

    def is_like(self, other: Template) -> bool:
        """Whether both say the same, whatever their versions."""
        return (self.template_id, self.parameters, self.body) == (other.template_id, other.parameters, other.body)


OVERRIDABLE = frozenset({*JobRequest.model_fields, "script_path"}) - {"type", "namespace"}
"""What job_config may set; `env`, `labels`, `flink_configuration`, `resources` and `pod` are merged, others are not."""

_MERGED = ("env", "labels", "flink_configuration", "resources", "pod")
_TEMPLATE_FIELDS = ("template_id", "parameters", "version")


def parse_template(body: Mapping[str, Any]) -> Template:
    """A template from its YAML or JSON form (the fields of JobRequest beside template_id and parameters).

    The whole is checked with the parameters' defaults and examples of those that have none. Raises InvalidRequest.
    """
    fields = {key: value for key, value in body.items() if key not in _TEMPLATE_FIELDS}
    try:
        template = Template.model_validate(
            {"template_id": body.get("template_id"), "parameters": body.get("parameters") or {}, "body": fields}
        )
    except ValidationError as error:
        raise InvalidRequest(problems_of(error, Template)) from error
    problems = declaration_problems(template.parameters, fields)
    if problems:
        raise InvalidRequest(problems)
    request = _validated(substituted(fields, template.parameters, _examples(template)), "", _TEMPLATE_FIELDS)
    if not template.parameters:
        fields = request.as_json()
    return template.model_copy(update={"body": fields})


def _examples(template: Template) -> dict[str, Any]:
    """A value for each parameter: enough to see whether the rest of a template holds."""
    by_type: Mapping[str, Any] = {"STRING": "example", "INTEGER": 1, "NUMBER": 1.5, "BOOLEAN": True}
    return {
        name: parameter.default
        if parameter.default is not None
        else (parameter.allowed_values or (by_type[parameter.type],))[0]
        for name, parameter in template.parameters.items()
    }


def template_body(template: Template) -> dict[str, Any]:
    """The JSON form that parse_template takes, with its version."""
    parameters = {name: p.model_dump(mode="json", exclude_none=True) for name, p in template.parameters.items()}
    named = {"template_id": template.template_id, "version": template.version}
    return {**named, **({"parameters": parameters} if parameters else {}), **template.body}


def parse_request(body: Mapping[str, Any]) -> JobRequest:
    """A job request from its JSON form. Raises InvalidRequest that names each field."""
    return _validated(body, "")


def resolve(
    template: Template | None, job_config: Mapping[str, Any], parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of the request that a template, its parameters' values and overrides give, not yet validated whole.

    Raises InvalidRequest, fields named `job_config.…` and `parameters.…`.
    """
    allowed = OVERRIDABLE if template else OVERRIDABLE | {"type"}
    problems = {f"job_config.{key}": unknown(key, allowed) for key in job_config if key not in allowed}
    values, wrong = checked_values(template.parameters if template else {}, parameters or {})
    problems |= {f"parameters.{name}": words for name, words in wrong.items()}
    if problems:
        raise InvalidRequest(problems)
    body = substituted(template.body, template.parameters, values) if template else {}
    for key, value in job_config.items():
        body[key] = merged(body.get(key), value) if key in _MERGED else value
    for one, other in (("sql", "script"), ("script", "sql")):
        if one in job_config and other not in job_config:
            body.pop(other, None)  # the one takes the other's place
    return body


def parse_resolved(body: Mapping[str, Any]) -> JobRequest:
    """What `resolve` gave, validated. Raises InvalidRequest, fields named `job_config.…`."""
    return _validated(body, "job_config.")


def _validated(body: Mapping[str, Any], prefix: str, more: tuple[str, ...] = ()) -> JobRequest:
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


def merged(below: Any, above: Any) -> Any:
    """`above` laid over `below`, key by key; anything but two objects is replaced."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}
    return above


def _as_text(value: Any) -> Any:
    return _as_flink_text(value) if isinstance(value, bool | int | float) else value


def _as_flink_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
