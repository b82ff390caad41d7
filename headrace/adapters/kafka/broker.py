"""Where Kafka is and how one speaks to it: the options that every client of ours begins with. Knows no topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace import key_files
from headrace.adapters.prometheus.errors import count_error
from headrace.errors import ConfigurationError, Unavailable

PASSWORD_VARIABLE = "HEADRACE_KAFKA_PASSWORD_FILE"  # noqa: S105 - a setting's name


@dataclass(frozen=True)
class Broker:
    """The bootstrap servers, and the options of librdkafka that open them. They hold a password: never shown."""

    servers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def client(self) -> dict[str, str | int | bool]:
        """What each client's configuration begins with."""
        return {"bootstrap.servers": self.servers, **self.options}

    def silent(self, error: object) -> Unavailable:
        """That it did not do what it was asked for, and why."""
        words = f"Kafka at {self.servers} did not answer (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}"
        count_error("kafka", found := Unavailable(words))
        return found


@dataclass(frozen=True, kw_only=True)
class Security:
    """How one speaks to a broker, in Kafka's own words: `security.protocol`, `sasl.mechanism`, and files of PEM."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


def broker(servers: str, security: Security) -> Broker:
    """The broker that the settings name. Raises ConfigurationError for what could never open it: a file that is not
    there, a login without a password, a login or a certificate that the protocol would not send."""
    options = {} if security.protocol == "PLAINTEXT" else {"security.protocol": security.protocol}
    return Broker(servers, {**options, **_of_tls(security), **_of_sasl(security)})


def _of_sasl(security: Security) -> dict[str, str]:
    if not security.protocol.startswith("SASL_"):
        if security.username or security.password_file:
            raise _never_sent("HEADRACE_KAFKA_USERNAME and the password", "a SASL_ protocol", security)
        return {}
    if not security.username:
        raise ConfigurationError(f"HEADRACE_KAFKA_USERNAME is not set, and {security.protocol} needs one")
    password = key_files.read_secret(security.password_file, PASSWORD_VARIABLE)
    return {
        "sasl.mechanism": security.mechanism,
        "sasl.username": security.username,
        "sasl.password": password,
    }


def _of_tls(security: Security) -> dict[str, str]:
    """Without a file of authorities those of the system count."""
    files = {
        "ssl.ca.location": ("HEADRACE_KAFKA_CA_FILE", security.ca_file),
        "ssl.certificate.location": ("HEADRACE_KAFKA_CERTIFICATE_FILE", security.certificate_file),
        "ssl.key.location": ("HEADRACE_KAFKA_KEY_FILE", security.key_file),
    }
    given = {option: named for option, named in files.items() if named[1] is not None}
    if given and not security.protocol.endswith("SSL"):
        raise _never_sent(next(iter(given.values()))[0], "SSL or SASL_SSL", security)
    for variable, file in given.values():
        key_files.check_is_there(file, variable)
    return {option: str(file) for option, (_, file) in given.items()}


def _never_sent(what: str, protocol: str, security: Security) -> ConfigurationError:
    """To go on would be to send in the clear what was meant to be protected."""
    words = f"{what} is set, and HEADRACE_KAFKA_SECURITY_PROTOCOL is {security.protocol}"
    return ConfigurationError(f"{words}: set it to {protocol}, or take the other setting away")
