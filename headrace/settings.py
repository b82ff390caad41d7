"""The only reader of the environment: frozen, typed, grouped settings. Knows nothing of ours but errors.

Each field is set by the variable named beside it. A process reads them once, in bootstrap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.errors import ConfigurationError

_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?|[0-9a-f:.]+")


def listed(text: str) -> tuple[str, ...]:
    """The entries of a setting that is a list with commas."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def _list(description: str) -> Any:
    return Field("", description=f"{description} With commas; a name with * at its end means all that begin so.")


class Settings(BaseSettings):
    """Everything that a process may be told from outside; the variable is HEADRACE_ and the field's name in capitals.

    Times are in seconds. URLs may carry credentials: `described()` is what may be logged.
    """

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    tenant: str = Field("default", description="Whose jobs these are: an installation has one.")
    cluster: str = Field("default", description="The name of the Kubernetes cluster, as records have it.")
    namespace: str = Field("default", description="The namespace that deployments go to; a tenant has its own.")
    runtimes: str = Field(
        "operator",
        description="How jobs may run, with commas, the first unless they say: `operator`, by the Flink Kubernetes "
        "Operator; `native`, by Flink's own native mode, without one.",
    )

    kubeconfig: Path | None = Field(None, description="Unset: the pod's service account, else ~/.kube/config.")
    kubernetes_timeout_seconds: float = Field(10.0, description="The longest that one call of Kubernetes may take.")
    flink_rest_url: str = Field(
        "",
        description="Where JobManagers have their REST API, with {namespace} and {name} in it. Unset: the Service "
        "`<name>-rest` by its DNS name; with a kubeconfig set, the API server's proxy to that Service.",
    )
    flink_rest_timeout_seconds: float = Field(5.0, description="The longest that one call of a JobManager may take.")

    mongodb_url: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017"),
        description="Login and TLS are its options: mongodb://USER:PASSWORD@HOST/?tls=true&tlsCAFile=/ca.pem.",
    )
    mongodb_database: str = Field("headrace", description="The database; headrace-migrate makes what it needs.")
    mongodb_timeout_seconds: float = Field(5.0, description="The longest that one call may take, retries included.")

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="redis://:PASSWORD@HOST:PORT/0, rediss:// for TLS."
    )
    redis_ca_file: Path | None = Field(None, description="PEM of who signed Redis' certificate. Unset: the system's.")
    redis_timeout_seconds: float = Field(3.0, description="The longest that one call of Redis may take.")

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="As Kafka's bootstrap.servers.")
    kafka_topic: str = Field(
        "headrace.operations", description="Where operations are read; dead letters go to NAME.dead-letters."
    )
    kafka_group: str = Field("headrace", description="The consumer group.")
    kafka_timeout_seconds: float = Field(10.0, description="The longest that one call of Kafka may take.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As Kafka's security.protocol."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="As Kafka's sasl.mechanism."
    )
    kafka_username: str = Field("", description="The login of a SASL_ protocol.")
    kafka_password_file: Path | None = Field(None, description="One line, for its owner alone: that login's password.")
    kafka_ca_file: Path | None = Field(None, description="PEM of who signed the brokers. Unset: the system's.")
    kafka_certificate_file: Path | None = Field(None, description="PEM of our own certificate, where brokers ask.")
    kafka_key_file: Path | None = Field(None, description="PEM of its key.")

    api_host: str = Field("127.0.0.1", description="Loopback unless told otherwise.")
    api_port: int = Field(8080, description="The port of the HTTP API.")
    grpc_port: int = Field(
        0, ge=0, le=65535, description="Where the API is served by gRPC too, on its host; 0: nowhere."
    )
    api_keys_file: Path | None = Field(
        None, description="One admin's key a line, of 20 characters at least; the API needs one, to make others with."
    )
    api_requests_per_minute: int = Field(
        6000, ge=0, le=1_000_000, description="How many requests an API key may send to one process; 0: any number."
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Where /metrics of worker, sync, Beat and consumer is; the API has it on its own port."
    )
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="Its port, another for each process of a machine; 0: none is served."
    )
    wait_limit_seconds: float = Field(60.0, description="The longest that ?wait= may hold a request.")
    follow_limit_seconds: float = Field(600.0, description="The longest that a log is followed by one request.")
    flower_host: str = Field("127.0.0.1", description="Loopback unless told otherwise.")
    flower_port: int = Field(5555, description="The port of Flower.")
    flower_login_file: Path | None = Field(None, description="One user:password a line; required by Flower.")

    flink_image: str = Field("headrace/flink:2.2.1", description="The image of jobs that name no other (flink_app/).")
    flink_version: str = Field("v2_2", description="That image's Flink, as the operator's spec.flinkVersion.")
    flink_state_location: str = Field(
        "file:///opt/headrace/state", description="A URI below which checkpoints, savepoints, HA and output go."
    )
    flink_state_volume: str | None = Field(
        None,
        description="hostPath:/dir or pvc:claim, mounted at flink_state_location's path; empty for object storage. "
        "Unset: pvc:headrace-state for a file:// location, none for others.",
    )
    flink_service_account: str = Field("flink", description="The service account of jobs' pods.")
    flink_allowed_hosts: str = Field("", description="Where scripts may come from, with commas; host or host:port.")
    flink_max_artifact_bytes: int = Field(
        50 * 1024 * 1024, description="How large a script or jar may be that a pod fetches."
    )

    allowed_images: str = _list("Images beyond HEADRACE_FLINK_IMAGE: registry.example.com/team/*.")
    allowed_service_accounts: str = _list("Service accounts beyond HEADRACE_FLINK_SERVICE_ACCOUNT.")
    allowed_secrets: str = _list("Secrets of the namespace that env, env_from, volumes and pull secrets may name.")
    allowed_config_maps: str = _list("ConfigMaps of the namespace that env_from and volumes may name.")
    allowed_claims: str = _list("Claims beyond the one of HEADRACE_FLINK_STATE_VOLUME.")
    allowed_host_paths: str = Field(
        "", description="Folders of nodes, each with what is below it, beyond the one of HEADRACE_FLINK_STATE_VOLUME."
    )
    allowed_annotations: str = _list("Keys of annotations on pods: prometheus.io/*.")
    allowed_tolerations: str = Field(
        "", description="Taints that pods may tolerate: key, key=value, each also with :effect; * for any."
    )
    allowed_priority_classes: str = _list("Priority classes of pods.")
    allowed_flink_configuration: str = Field(
        "", description="Options, or their beginnings up to a dot, beyond those that every job may set."
    )

    resource_profiles_file: Path | None = Field(
        None, description="YAML: a profile's name -> resources as in a template. Unset: small, medium and large."
    )
    sealing_keys_file: Path | None = Field(
        None,
        description="Keys of 64 bytes in base64, one a line, the newest first: plain secrets are stored sealed. "
        "For its owner alone. Unset: a plain secret is refused. Needed by all that accepts, and by workers.",
    )

    flink_home: Path | None = Field(
        None,
        validation_alias=AliasChoices("flink_home", "FLINK_HOME"),
        description="A Flink distribution, whose `bin/flink` starts jobs of the native runtime: for workers that take "
        "the launches' queue alone.",
    )
    java_home: Path | None = Field(
        None,
        validation_alias=AliasChoices("java_home", "JAVA_HOME"),
        description="The Java that runs it. Unset: the `java` that is found.",
    )
    launch_timeout_seconds: float = Field(
        120.0, gt=0, le=600, description="The longest that one run of `bin/flink` may take."
    )

    worker_threads: int = Field(8, description="How many tasks a worker has at once; the sync's has one.")
    operation_deadline_seconds: float = Field(
        900.0, description="How much time an operation may spend before it ends FAILED, whatever its kind."
    )
    failure_grace_seconds: float = Field(
        60.0, description="How long a JobManager that cannot start, or a failing upgrade, is given to mend itself."
    )
    sync_period_seconds: float = Field(5.0, description="How often Beat asks for the watch of deployments.")
    relist_period_seconds: float = Field(120.0, description="How often the sync lists all of them all the same.")
    redeliver_period_seconds: float = Field(10.0, description="How often what is open and due is woken again.")
    prune_period_seconds: float = Field(120.0, description="How often what runs out is looked for and removed.")
    ended_runs_kept_hours: float = Field(
        168.0,
        ge=0,
        le=876_000,
        description="How long what an ended run left in the cluster is kept, unless its job says; of a native one that "
        "has FINISHED nothing is.",
    )
    deleted_jobs_kept_days: float = Field(
        30.0,
        ge=0,
        le=36_500,
        description="How long a DELETED job's records are kept, until when UNDELETE brings it back.",
    )
    savepoint_every_minutes: int = Field(
        0, ge=0, le=525_600, description="How often a RUNNING job's state is kept by itself, unless it says; 0: never."
    )
    savepoint_blackout: str = Field(
        "", description="Times of each day in which that does not happen: 22:00-06:00 Europe/Berlin,12:00-13:00 (UTC)."
    )
    savepoints_kept: int | None = Field(
        None, ge=1, le=10_000, description="How many of a job's savepoints are kept, unless it says. Unset: all."
    )
    savepoints_kept_days: float | None = Field(
        None, gt=0, le=36_500, description="For how long they are kept, unless the job says. Unset: forever."
    )
    savepoint_disposal_notice_seconds: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="How long before a savepoint goes that is known: longer than an accept lasts.",
    )
    stale_after_seconds: float = Field(30.0, description="How old an observation may be before readers see it STALE.")

    health_folder: Path | None = Field(
        None,
        description="Where worker, sync, Beat and consumer say that they live, for `python -m headrace.health`. "
        "Unset: nowhere.",
    )

    log_level: str = Field("INFO", description="The least that is logged: DEBUG, INFO, WARNING or ERROR.")
    log_json: bool = Field(False, description="One JSON object a line, instead of text.")

    @field_validator("runtimes")
    @classmethod
    def _runtimes_are_known(cls, names: str) -> str:
        found = listed(names)
        if not found or len(set(found)) != len(found) or not set(found) <= {"operator", "native"}:
            raise ValueError("must be operator, native, or both with a comma, the default first")
        return names

    @field_validator("allowed_host_paths")
    @classmethod
    def _host_paths_are_absolute(cls, folders: str) -> str:
        for folder in listed(folders):
            if not folder.startswith("/") or {".", ".."} & set(folder.split("/")):
                raise ValueError("must be absolute paths, without . and ..")
        return folders

    @field_validator(
        *("allowed_images", "allowed_service_accounts", "allowed_secrets", "allowed_config_maps", "allowed_claims"),
        *("allowed_annotations", "allowed_priority_classes"),
    )
    @classmethod
    def _a_star_stands_last(cls, names: str) -> str:
        if any("*" in name[:-1] for name in listed(names)):
            raise ValueError("a name may hold one *, at its end: all names that begin so")
        return names

    @field_validator("flink_rest_url")
    @classmethod
    def _rest_url_is_a_template(cls, url: str) -> str:
        try:
            url.format(namespace="n", name="n")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may hold {namespace} and {name}, and no other braces") from error
        return url

    @field_validator("flink_allowed_hosts")
    @classmethod
    def _hosts_are_named_in_full(cls, listed: str) -> str:
        """What the fetcher in the pods refuses is a mistake at this process' start."""
        for entry in filter(None, (each.strip().lower() for each in listed.split(","))):
            if not _HOST.fullmatch(entry):
                raise ValueError(f"{entry!r} is no host and no host:port; each host is named in full, with no *")
        return listed

    @property
    def dead_letters_topic(self) -> str:
        """Where records go that cannot be used."""
        return f"{self.kafka_topic}.dead-letters"

    @property
    def state_volume(self) -> str:
        """The volume of the state's location; empty where it needs none."""
        if self.flink_state_volume is not None:
            return self.flink_state_volume
        return "pvc:headrace-state" if self.flink_state_location.startswith("file:") else ""

    def described(self) -> dict[str, str]:
        """What a process talks to, without credentials: for its start-up line."""
        return {
            "runtimes": self.runtimes,
            "cluster": self.cluster,
            "namespace": self.namespace,
            "image": self.flink_image,
            "kubernetes": str(self.kubeconfig or "in-cluster or ~/.kube/config"),
            "mongodb": without_credentials(self.mongodb_url.get_secret_value()),
            "redis": without_credentials(self.redis_url.get_secret_value()),
            "kafka": without_credentials(self.kafka_bootstrap_servers),
            "state": without_credentials(self.flink_state_location),
        }


def without_credentials(url: str) -> str:
    """The URL without what stands before its `@`, and without its query, whose options may hold passwords."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}"


def load(said: Mapping[str, str] | None = None) -> Settings:
    """Reads the environment; `said` stands before it, by the variables' names. Raises ConfigurationError that names
    each variable and what is wrong with it."""
    given = {variable.removeprefix("HEADRACE_").lower(): value for variable, value in (said or {}).items()}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        problems = (f"HEADRACE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise ConfigurationError("; ".join(problems)) from error
