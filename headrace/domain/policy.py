"""What an installation lets reach its cluster: one frozen value, asked of each resolved request. No I/O here.

What a list does not name is refused, so by default a job gets what is the installation's own. The policy is asked when
a request is accepted, and again when its manifest is rendered: what was accepted before stands under today's policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.domain.environment import SecretReference
from headrace.domain.flink_options import problems_of_configuration
from headrace.domain.flink_sql import ScriptError
from headrace.domain.job_requests import JobRequest, settings_of, sql_text
from headrace.domain.pod_fields import Toleration, Volume, is_within

OWN_SECRET = re.compile(r".*-env-([0-9a-f]{8}|[0-9a-f]{16})")
"""The name of a Secret that Headrace made for one job (headrace.domain.manifest.parts.secret_name)."""

Problems = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Policy:
    """The lists. An entry names one thing, or with `*` at its end all that begin so.

    `images` are names as a container runtime reads them; `host_paths` folders, each with what is below it;
    `tolerations` are taints: `key`, `key=value`, each also with `:effect`; `hosts` are those that programs are fetched
    from; `flink_configuration` keys, or their beginnings up to a dot, beyond what every job may set.
    """

    hosts: Sequence[str] = ()
    images: Sequence[str] = ()
    service_accounts: Sequence[str] = ()
    secrets: Sequence[str] = ()
    config_maps: Sequence[str] = ()
    claims: Sequence[str] = ()
    host_paths: Sequence[str] = ()
    annotations: Sequence[str] = ()
    tolerations: Sequence[str] = ()
    priority_classes: Sequence[str] = ()
    flink_configuration: Sequence[str] = ()

    def problems_of(self, request: JobRequest) -> Problems:
        """What of a request is outside of it, by field, in words that name the setting."""
        yield from self._program_problems(request)
        yield from self._environment_problems(request)
        yield from self._pod_problems(request)
        yield from self._state_problems(request)
        for key, words in problems_of_configuration(request.flink_configuration, self.flink_configuration):
            yield f"flink_configuration.{key}", words
        yield from self._setting_problems(request)

    def _setting_problems(self, request: JobRequest) -> Problems:
        try:
            for field, place, option in settings_of(request):
                for _, words in problems_of_configuration(option, self.flink_configuration):
                    yield field, f"{place}: SET {words}"
        except ScriptError as error:
            yield sql_text(request)[0], str(error)

    def _program_problems(self, request: JobRequest) -> Problems:
        for field, url in urls_of(request):
            if not _host_is_allowed(url, self.hosts):
                allowed = ", ".join(self.hosts) or "none: set HEADRACE_FLINK_ALLOWED_HOSTS"
                yield field, f"its host is not allowed; allowed: {allowed}"
        if request.image is not None and not _is_listed(image_name(request.image), map(image_name, self.images)):
            yield "image", _not_listed(self.images, "HEADRACE_ALLOWED_IMAGES")
        account = request.service_account
        if account is not None and not _is_listed(account, self.service_accounts):
            yield "service_account", _not_listed(self.service_accounts, "HEADRACE_ALLOWED_SERVICE_ACCOUNTS")

    def _environment_problems(self, request: JobRequest) -> Problems:
        for name, value in request.env.items():
            if isinstance(value, SecretReference):
                yield from self._secret(f"env.{name}.secret_key_ref.name", value.secret_key_ref.name)
        for place, source in enumerate(request.env_from):
            if source.secret_ref is not None:
                yield from self._secret(f"env_from.{place}.secret_ref.name", source.secret_ref.name)
            if source.config_map_ref is not None:
                yield from self._config_map(f"env_from.{place}.config_map_ref.name", source.config_map_ref.name)

    def _pod_problems(self, request: JobRequest) -> Problems:
        pod = request.pod
        for place, volume in enumerate(pod.volumes):
            yield from self._volume(f"pod.volumes.{place}", volume)
        for place, name in enumerate(pod.image_pull_secrets):
            yield from self._secret(f"pod.image_pull_secrets.{place}", name)
        for key in pod.annotations:
            if not _is_listed(key, self.annotations):
                yield f"pod.annotations.{key}", _not_listed(self.annotations, "HEADRACE_ALLOWED_ANNOTATIONS")
        for place, toleration in enumerate(pod.tolerations):
            if not any(_tolerates_no_more(toleration, entry) for entry in self.tolerations):
                yield f"pod.tolerations.{place}", _not_listed(self.tolerations, "HEADRACE_ALLOWED_TOLERATIONS")
        priority = pod.priority_class_name
        if priority is not None and not _is_listed(priority, self.priority_classes):
            yield "pod.priority_class_name", _not_listed(self.priority_classes, "HEADRACE_ALLOWED_PRIORITY_CLASSES")

    def _volume(self, field: str, volume: Volume) -> Problems:
        if volume.secret is not None:
            yield from self._secret(f"{field}.secret", volume.secret)
        if volume.config_map is not None:
            yield from self._config_map(f"{field}.config_map", volume.config_map)
        if volume.persistent_volume_claim is not None:
            yield from self._claim(f"{field}.persistent_volume_claim", volume.persistent_volume_claim)
        if volume.host_path is not None:
            yield from self._host_path(f"{field}.host_path", volume.host_path)

    def _state_problems(self, request: JobRequest) -> Problems:
        volume = request.state.volume if request.state is not None else None
        if volume is not None and volume.persistent_volume_claim is not None:
            yield from self._claim("state.volume.persistent_volume_claim", volume.persistent_volume_claim)
        if volume is not None and volume.host_path is not None:
            yield from self._host_path("state.volume.host_path", volume.host_path)

    def _secret(self, field: str, name: str) -> Problems:
        """One that Headrace made for another job is never meant by a `*`."""
        named = self.secrets if not OWN_SECRET.fullmatch(name) else [e for e in self.secrets if not e.endswith("*")]
        if not _is_listed(name, named):
            yield field, _not_listed(self.secrets, "HEADRACE_ALLOWED_SECRETS")

    def _config_map(self, field: str, name: str) -> Problems:
        if not _is_listed(name, self.config_maps):
            yield field, _not_listed(self.config_maps, "HEADRACE_ALLOWED_CONFIG_MAPS")

    def _claim(self, field: str, name: str) -> Problems:
        if not _is_listed(name, self.claims):
            yield field, _not_listed(self.claims, "HEADRACE_ALLOWED_CLAIMS")

    def _host_path(self, field: str, path: str) -> Problems:
        if not any(is_within(path, folder) for folder in self.host_paths):
            yield field, _not_listed(self.host_paths, "HEADRACE_ALLOWED_HOST_PATHS")


def urls_of(request: JobRequest) -> Iterator[tuple[str, str]]:
    """Every URL that is fetched from a host, with its field."""
    named = [("script", request.script), ("jar", request.jar)]
    named += [(f"jar_files.{place}.url", jar.url) for place, jar in enumerate(request.jar_files)]
    return ((field, url) for field, url in named if isinstance(url, str) and not url.startswith("local:"))


def _host_is_allowed(url: str, allowed: Sequence[str]) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return host in allowed or f"{host}:{parts.port}" in allowed


def image_name(name: str) -> str:
    """An image's name in full, as a container runtime reads it: `flink:2.2` is docker.io/library/flink:2.2."""
    first, separator, rest = name.partition("/")
    if name == "*":
        return name
    if not separator or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first in ("docker.io", "index.docker.io"):
        return f"docker.io/{rest}" if "/" in rest else f"docker.io/library/{rest}"
    return name


def _is_listed(name: str, entries: Iterator[str] | Sequence[str]) -> bool:
    return any(name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for entry in entries)


def _tolerates_no_more(toleration: Toleration, entry: str) -> bool:
    """Whether every taint that is tolerated is one that the entry names."""
    if entry == "*":
        return True
    taint, _, effect = entry.partition(":")
    key, _, value = taint.partition("=")
    if toleration.key is None or not _is_listed(toleration.key, [key]):
        return False
    if value and (toleration.operator, toleration.value) != ("Equal", value):
        return False
    return effect in ("", toleration.effect)


def _not_listed(entries: Sequence[str], setting: str) -> str:
    return f"is not among what the installation allows: {', '.join(entries) or 'none'} ({setting})"
