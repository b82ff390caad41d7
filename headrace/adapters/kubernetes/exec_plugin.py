"""An exec plugin of a kubeconfig: a program that prints credentials.

The `kubernetes` package runs one without a bound, and only logs what goes wrong with it. It knows no kubeconfig.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SECONDS = 30.0
"""A plugin that takes longer is ended, with what it has started."""


class PluginFailure(Exception):
    """No credentials came. Says why, in one line, and nothing of what the plugin printed on stdout."""


@dataclass(frozen=True)
class Printed:
    """What a plugin gave: a token, a client certificate with its key, or both; and until when."""

    token: str
    certificate: str
    key: str
    expires_at: datetime | None


@dataclass(frozen=True)
class Plugin:
    """How it is started. `cluster` is what it is told of the cluster, where the kubeconfig wants that."""

    argv: Sequence[str]
    env: Mapping[str, str]
    folder: str | None
    api_version: str
    cluster: Mapping[str, Any] | None
    install_hint: str

    def ask(self, seconds: float = SECONDS) -> Printed:
        """Runs it. Raises PluginFailure."""
        code, printed, errors = self._run(seconds)
        if code != 0:
            raise PluginFailure(f"{self._named} ended with {code}: {_line(errors) or 'it said nothing'}")
        try:
            answer = json.loads(printed)
            found = _printed(answer["status"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PluginFailure(f"{self._named} printed no ExecCredential with a status") from error
        if answer.get("apiVersion") != self.api_version:
            raise PluginFailure(f"{self._named} printed another apiVersion than the kubeconfig's {self.api_version}")
        if not found.token and not (found.certificate and found.key):
            raise PluginFailure(f"{self._named} printed neither a token nor a client certificate with its key")
        return found

    def _run(self, seconds: float) -> tuple[int, bytes, bytes]:
        try:
            process = self._start()
        except OSError as error:
            hint = f"; {_line(self.install_hint.encode())}" if self.install_hint else ""
            raise PluginFailure(f"{self._named} could not be started: {error.strerror}{hint}") from error
        with process:
            try:
                printed, errors = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                raise PluginFailure(f"{self._named} did not end within {seconds:.0f} s") from error
        return process.returncode, printed, errors

    def _start(self) -> subprocess.Popen[bytes]:
        told = {"interactive": False, **({"cluster": self.cluster} if self.cluster is not None else {})}
        info = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": told}
        return subprocess.Popen(
            list(self.argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={**self.env, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            start_new_session=True,
        )

    @property
    def _named(self) -> str:
        return f"the plugin {self.argv[0]}"


def _printed(status: Mapping[str, Any]) -> Printed:
    certificate, key = (str(status.get(name) or "") for name in ("clientCertificateData", "clientKeyData"))
    until = status.get("expirationTimestamp")
    expires_at = datetime.fromisoformat(until) if until else None
    if expires_at is not None and expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    return Printed(str(status.get("token") or ""), certificate, key, expires_at)


def _line(text: bytes) -> str:
    """The end of a text, as one line."""
    return " ".join(text.decode(errors="replace").split())[-300:]
