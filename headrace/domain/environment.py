"""A job's environment variables: plain text, references to Secrets, and secrets that were sealed. No I/O here.

A plain value under a name that looks secret never reaches a record: it is sealed before it is stored, and travels to
the pod in a Secret that the deployment owns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from headrace.domain.pod_fields import DataKey, ObjectName, PodPart
from headrace.domain.validation import matching

EnvName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,249}", "must be letters, digits and '_', no digit first")]

RESERVED_ENV = (
    *("HEADRACE_OUTPUT", "HEADRACE_JOB_ID", "HEADRACE_SQL_SETTINGS", "PATH", "PYTHONPATH", "PYTHONHOME", "JAVA_HOME"),
    *("FLINK_HOME", "FLINK_CONF_DIR", "FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR", "FLINK_BIN_DIR"),
    *("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "PYFLINK_GATEWAY_PORT", "PYFLINK_GATEWAY_SECRET"),
    "FLINK_PROPERTIES",
)
"""What Headrace or the image sets; another value would break the job in ways that nobody would look for."""

_SECRET_NAME = re.compile(
    r"(pass(word|wd|phrase)?($|[^a-z])|passw|secret|token|(api|access|private|account)[_.-]?key|credential|_pwd$|^pwd$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"^(true|false|\d+(\.\d+)?(\s*[a-z]{1,3})?)?$", re.IGNORECASE)


def looks_secret(name: str) -> bool:
    """Whether something of this name most likely holds a secret."""
    return bool(_SECRET_NAME.search(name))


class SecretKeySelector(PodPart):
    """core/v1 SecretKeySelector: a key of a Secret in the job's namespace."""

    name: ObjectName
    key: DataKey
    optional: bool | None = None


class SecretReference(PodPart):
    """An environment variable's value from a Secret."""

    secret_key_ref: SecretKeySelector


class Sealed(PodPart):
    """A secret as it is stored: only a process that has the sealing key can open it."""

    sealed: str = Field(max_length=100_000)


def _kind(value: Any) -> str:
    if isinstance(value, Sealed) or (isinstance(value, Mapping) and "sealed" in value):
        return "env-sealed"
    return "env-reference" if isinstance(value, SecretReference | Mapping) else "env-text"


EnvValue = Annotated[
    Annotated[str, Field(max_length=30_000), Tag("env-text")]
    | Annotated[SecretReference, Tag("env-reference")]
    | Annotated[Sealed, Tag("env-sealed")],
    Discriminator(_kind),
]


class ObjectReference(PodPart):
    """A Secret or ConfigMap by its name."""

    name: ObjectName
    optional: bool | None = None


class EnvFrom(PodPart):
    """core/v1 EnvFromSource: every key of a Secret or ConfigMap as a variable."""

    secret_ref: ObjectReference | None = None
    config_map_ref: ObjectReference | None = None
    prefix: EnvName | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> EnvFrom:
        if (self.secret_ref is None) == (self.config_map_ref is None):
            raise ValueError("must have exactly one of secret_ref, config_map_ref")
        return self


def plain_secrets(env: Any) -> list[str]:
    """The names of variables whose plain value most likely is a secret; `env` as it came from outside."""
    if not isinstance(env, Mapping):
        return []
    return [str(name) for name, value in env.items() if isinstance(value, str) and looks_secret(str(name)) and value]


def sealed_env(env: Mapping[str, Any], seal: Callable[[str, str], str], also: Collection[str] = ()) -> dict[str, Any]:
    """The variables with every plain secret, and every plain one of `also`, sealed; `seal` takes name and value."""
    secret = {*plain_secrets(env), *(name for name in also if isinstance(env.get(name), str))}
    return {name: {"sealed": seal(name, value)} if name in secret else value for name, value in env.items()}


def secret_argument(args: Sequence[Any]) -> int | None:
    """The place of the first argument that most likely is a secret: `--password X`, `--password=X`, `db.token=X`."""
    for place, argument in enumerate(args):
        name, separator, value = str(argument).partition("=")
        if separator and looks_secret(name) and not _NO_SECRET.match(value):
            return place
        follows = str(args[place - 1]) if place else ""
        if follows.startswith("-") and "=" not in follows and looks_secret(follows) and not name.startswith("-"):
            return place
    return None


def secret_configuration_key(configuration: Mapping[str, str]) -> str | None:
    """The first Flink option whose plain value most likely is a secret. Options of Kubernetes' own secrets are none."""
    exempt = ("kubernetes.", "security.delegation.", "security.kerberos.")
    for key, value in configuration.items():
        if looks_secret(key) and not key.startswith(exempt) and not _NO_SECRET.match(value):
            return key
    return None
