"""The API server's address and who we are to it: from a kubeconfig, or from the pod's service account.

The `kubernetes` package reads both. Here is what it leaves open: credentials are asked for again once they expired or
were refused, and whoever is named in a kubeconfig is never anonymous for want of a token. It knows no request.
"""

from __future__ import annotations

import base64
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
import yaml

from headrace.adapters.kubernetes.exec_plugin import Plugin, PluginFailure, Printed
from headrace.errors import ConfigurationError, Unavailable

CONNECTIONS = 32
IN_A_POD = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True)
class Access:
    """What one reading gave: where, over which connections, as whom, and until when that is good."""

    host: str
    pool: urllib3.PoolManager
    headers: Mapping[str, str]
    expires_at: datetime | None

    def has_expired(self) -> bool:
        """Whether it said itself that it is good no more."""
        return self.expires_at is not None and datetime.now(UTC) >= self.expires_at


class Credentials:
    """Read at the first use and after any fork; read anew, all of it, once they expired or were forgotten."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self._kubeconfig = kubeconfig
        self._lock = threading.Lock()
        self._access: Access | None = None
        self._failure, self._failed_at = "", 0.0

    def check(self) -> None:
        """Raises ConfigurationError where no use could come right: nobody is asked for a token yet."""
        try:
            _read(self._kubeconfig, asking=False)
        except Exception as error:
            raise ConfigurationError(self._words(error)) from error

    def access(self) -> Access:
        """What holds now. Raises Unavailable where a plugin, a token's file or the kubeconfig does not give it: each
        may do so at the next call."""
        asked_at = time.monotonic()
        with self._lock:
            if self._access is None or self._access.has_expired():
                self._access = None
                self._access = self._read_anew(asked_at)
            return self._access

    def forget(self, access: Access) -> None:
        """These were refused: the next call reads anew, unless somebody has already."""
        with self._lock:
            if self._access is access:
                self._access = None

    def _read_anew(self, asked_at: float) -> Access:
        """Who waited while another's try failed takes that for an answer: a plugin that hangs holds up each once."""
        if self._failed_at > asked_at:
            raise Unavailable(self._failure)
        try:
            return _read(self._kubeconfig)
        except Exception as error:
            self._failure, self._failed_at = self._words(error), time.monotonic()
            raise Unavailable(self._failure) from error

    def _words(self, error: Exception) -> str:
        where = str(self._kubeconfig) if self._kubeconfig else f"it is not set; {_default()}"
        return f"HEADRACE_KUBECONFIG: {where}: {_line(error)}"


class _Unusable(Exception):
    """What is wrong, in words of ours."""


def _line(error: Exception) -> str:
    """One line. The package's own words may repeat an entry of the file, token and all: they end where one begins."""
    from kubernetes.config import ConfigException

    if isinstance(error, _Unusable | PluginFailure):
        return str(error)
    text = " ".join(str(error).partition("{")[0].split())[:300]
    if isinstance(error, ConfigException | OSError | yaml.YAMLError):
        return text
    return f"it cannot be read as a kubeconfig: {type(error).__name__}: {text}"


def _default() -> str:
    """What is read where no kubeconfig is named."""
    return "the pod's service account" if os.environ.get(IN_A_POD) else os.environ.get("KUBECONFIG", "~/.kube/config")


def _read(kubeconfig: Path | None, *, asking: bool = True) -> Access:
    """One reading, whatever it raises. Without `asking` it leaves out what may come right a moment later."""
    from kubernetes import client, config  # 1.1 s and 75 MB: only in processes that talk to Kubernetes

    configuration, expires_at = client.Configuration(), None
    if kubeconfig is None and os.environ.get(IN_A_POD):
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    else:
        expires_at = _read_kubeconfig(str(kubeconfig or _default()), configuration, asking)
    _try_certificates(configuration)
    if not configuration.verify_ssl:  # the kubeconfig says so: a warning a request tells nobody anything
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    configuration.connection_pool_maxsize = CONNECTIONS
    pool = client.ApiClient(configuration).rest_client.pool_manager
    return Access(configuration.host, pool, _headers(configuration), expires_at)


def _read_kubeconfig(path: str, configuration: Any, asking: bool) -> datetime | None:
    """Fills in the configuration; returns when a plugin's answer expires."""
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

    files = KubeConfigMerger(path)  # type: ignore[no-untyped-call]
    if files.config is None:
        raise _Unusable("there is no such file")
    loader = KubeConfigLoader(  # type: ignore[no-untyped-call]
        files.config, config_base_path=None, config_persister=files.save_changes
    )
    context = loader.current_context["context"]
    cluster = files.config["clusters"].get_with_name(context["cluster"])["cluster"]
    if not str(cluster.safe_get("server")).startswith(("https://", "http://")):
        raise _Unusable(f"cluster {context['cluster']} needs a server that begins with https://")
    user = _user(files.config, context.get("user"))
    plugin = _plugin(user, cluster)
    expires_at = _put(plugin.ask(), user.value) if plugin and asking else None
    comes_later = not asking and _take_out_what_moves(user.value)
    loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    if not comes_later:
        _refuse_anonymity(context.get("user"), user.value, configuration)
    return expires_at


def _user(config: Any, name: str | None) -> Any:
    """The entry of the context's user. One without a name is empty: then nobody is meant to be anybody."""
    from kubernetes.config.kube_config import ConfigNode

    if not name:
        return ConfigNode("nobody", {})  # type: ignore[no-untyped-call]
    entry = config["users"].get_with_name(name, safe=True)
    if entry is None:
        raise _Unusable(f"its context names user {name}, and there is none of that name")
    user = entry["user"]
    if not isinstance(user, ConfigNode) or not isinstance(user.value, dict):
        raise _Unusable(f"user {name} is no mapping")
    if user.value.get("tokenFile"):
        user.value.pop("token", None)  # as kubectl has it: the file counts, since it is the one that is renewed
    return user


def _plugin(user: Any, cluster: Any) -> Plugin | None:
    """The user's plugin, where nothing stands before it."""
    from kubernetes.config.exec_provider import ExecProvider

    if not user.value.get("exec") or any(user.value.get(key) for key in ("auth-provider", "token", "tokenFile")):
        return None
    folder = str(Path(user.path).absolute().parent)
    provider = ExecProvider(user["exec"], folder, cluster)  # type: ignore[no-untyped-call]
    told = _told(cluster.value) if provider.cluster is not None else None
    hint = str(user.value["exec"].get("installHint") or "")
    return Plugin(provider.args, provider.env, provider.cwd, provider.api_version, told, hint)


def _told(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """What a plugin may know of its cluster, the part of the kubeconfig that is meant for it as `config`."""
    extensions = {each["name"]: each["extension"] for each in cluster.get("extensions") or ()}
    return {**cluster, "config": extensions.get("client.authentication.k8s.io/exec")}


def _put(printed: Printed, user: dict[str, Any]) -> datetime | None:
    """What a plugin printed, in its place, as if it stood in the kubeconfig; returns when it expires."""
    del user["exec"]
    if printed.token:
        user["token"] = printed.token
    if printed.certificate:
        user["client-certificate-data"] = base64.b64encode(printed.certificate.encode()).decode()
        user["client-key-data"] = base64.b64encode(printed.key.encode()).decode()
    return printed.expires_at


def _take_out_what_moves(user: dict[str, Any]) -> bool:
    """What a program, a file or another server gives, and may give later; whether there was any."""
    provider = user.get("auth-provider") or {}
    moving = ("exec", "tokenFile", *(["auth-provider"] if provider.get("name") in ("gcp", "oidc") else []))
    taken = [key for key in moving if user.pop(key, None)]
    return bool(taken)


def _refuse_anonymity(name: str | None, user: Mapping[str, Any], configuration: Any) -> None:
    """The package passes over what it does not know, and an empty token: the server would take us for nobody."""
    if not user or _headers(configuration) or any(key.startswith("client-certificate") for key in user):
        return
    if user.get("tokenFile"):
        raise _Unusable(f"the token file of user {name} is empty")
    raise _Unusable(f"user {name} has none of the credentials that are known here, only {', '.join(sorted(user))}")


def _headers(configuration: Any) -> dict[str, str]:
    """The authorization as a header; none where the token is empty. A token's file may end with a line's end."""
    words = str(configuration.api_key.get("BearerToken", "")).split()
    if not all(word.isascii() and word.isprintable() for word in words):
        raise _Unusable("the token holds what no token may hold: is it the right file?")
    return {"Authorization": " ".join(words)} if len(words) > 1 else {}


def _try_certificates(configuration: Any) -> None:
    """Opens them now: later a broken one would look like a server's fault."""
    authority, certificate, key = configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority:
            context.load_verify_locations(authority)
    except OSError as error:
        raise _Unusable(f"the certificate authority in {authority} cannot be used: {error}") from error
    try:
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise _Unusable(f"the client certificate in {certificate} and its key cannot be used: {error}") from error
