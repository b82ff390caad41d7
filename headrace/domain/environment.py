"""A job's environment variables: plain text, references to Secrets, and secrets that were sealed. No I/O here.

A plain value that looks secret, by its name or by itself, never reaches a record: it is sealed before it is stored, and
travels to the pod in a Secret that the deployment owns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from headrace.domain.pod_fields import DataKey, ObjectName, PodPart
from headrace.domain.said import EnvText, is_said, plain_of
from headrace.domain.secrets import is_secret
from headrace.domain.validation import matching

EnvName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,249}", "must be letters, digits and '_', no digit first")]

RESERVED_ENV = (
    *("HEADRACE_OUTPUT", "HEADRACE_JOB_ID", "HEADRACE_SQL_SETTINGS", "PATH", "PYTHONPATH", "PYTHONHOME", "JAVA_HOME"),
    *("FLINK_HOME", "FLINK_CONF_DIR", "FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR", "FLINK_BIN_DIR"),
    *("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "PYFLINK_GATEWAY_PORT", "PYFLINK_GATEWAY_SECRET"),
    "FLINK_PROPERTIES",
)
"""What Headrace or the image sets; another value would break the job in ways that nobody would look for."""


class SecretKeySelector(PodPart):
    """core/v1 SecretKeySelector: a key of a Secret in the job's namespace."""

    name: ObjectName
    key: DataKey
    optional: bool | None = None


class SecretReference(PodPart):
    """An environment variable's value from a Secret."""

    secret_key_ref: SecretKeySelector

    @model_validator(mode="before")
    @classmethod
    def _is_of_a_secret(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and not {"secret_key_ref", "secretKeyRef"} & set(given):
            raise ValueError(
                "must be text, {value, secret} or {secret_key_ref: {name, key}}; "
                "a ConfigMap's keys come by env_from, and fields of the pod do not"
            )
        return given


class Sealed(PodPart):
    """A secret as it is stored: only a process that has the sealing key can open it."""

    sealed: str = Field(max_length=100_000)


def _kind(value: Any) -> str:
    if isinstance(value, Sealed) or (isinstance(value, Mapping) and "sealed" in value):
        return "env-sealed"
    is_text = is_said(value) or not isinstance(value, SecretReference | Mapping)
    return "env-text" if is_text else "env-reference"


EnvValue = Annotated[
    Annotated[EnvText, Tag("env-text")]
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


ALIASES = ("SCRIPT_URL", "JAR_FILES")
"""Variables that are other spellings of a field: they are judged as that."""


def secret_variables(env: Mapping[str, Any], also: Collection[str] = ()) -> dict[str, str]:
    """The variables whose value is to be sealed, with that: by their user's word, else by name and value; those of
    `also` whatever they look like. `env` as it came from outside."""
    found: dict[str, str] = {}
    for name, value in env.items():
        text = plain_of(value)
        if text is None or not isinstance(name, str) or name in ALIASES:
            continue
        said = is_said(value) and value.get("secret") is True
        if said or name in also or is_secret(name, text):
            found[name] = text
    return found
