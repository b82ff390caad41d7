"""Keeping plain secrets out of every record: what looks secret in a request is sealed before anything is stored.

Knows no cipher: that is ports.Sealer's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from headrace.domain.environment import plain_secrets, sealed_env
from headrace.domain.operations import Source
from headrace.domain.parameters import PLACEHOLDER
from headrace.domain.templates import Template
from headrace.errors import InvalidRequest, Refused
from headrace.ports import Sealer

THROUGH_A_BROKER = ("celery", "kafka")
"""Ways in whose messages are stored as they were sent: no secret belongs into one."""


class Sealing:
    """Seals what a request brings; without a sealer a plain secret is refused."""

    def __init__(self, sealer: Sealer | None) -> None:
        self._sealer = sealer

    def of_submit(self, config: Mapping[str, Any], values: Mapping[str, Any], source: Source) -> dict[str, Any]:
        """What tells a submit from another: its overrides and parameters, without a readable secret in them.

        Raises InvalidRequest for a plain secret that came through a broker.
        """
        secrets = plain_secrets(config.get("env"))
        if secrets and source.via in THROUGH_A_BROKER:
            words = f"looks like a secret, and a {source.via} message is stored as it was sent: use secret_key_ref"
            raise InvalidRequest({f"job_config.env.{secrets[0]}": words})
        shown = {**config, "env": self._sealed(config["env"], "job_config.env")} if secrets else dict(config)
        # Any parameter may turn out to be declared secret.
        sealer = self._sealer
        given = {n: sealer.seal(n, repr(v)) if sealer else v for n, v in values.items()}
        return {"job_config": shown, "parameters": given} if given else {"job_config": shown}

    def of_request(self, body: Mapping[str, Any], template: Template | None) -> dict[str, Any]:
        """A resolved body with its plain secrets sealed: variables by their names, and those that a secret parameter
        went into. Raises InvalidRequest."""
        env = body.get("env")
        filled = _filled_by_secrets(template)
        if not isinstance(env, Mapping) or not (plain_secrets(env) or filled & set(env)):
            return dict(body)
        return {**body, "env": self._sealed(env, "job_config.env", filled)}

    def of_template(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A template's body with its plain secrets sealed; a value with a placeholder in it is none yet."""
        env = body.get("env")
        if not isinstance(env, Mapping):
            return dict(body)
        whole = {k: v for k, v in env.items() if not (isinstance(v, str) and PLACEHOLDER.search(v))}
        return {**body, "env": {**env, **self._sealed(whole, "env")}} if plain_secrets(whole) else dict(body)

    def opened(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """The secrets again, by the names of their variables. Raises Refused."""
        if self._sealer is None:
            raise Refused("its secrets were sealed, and HEADRACE_SEALING_KEYS_FILE is not set: set it to the same file")
        return {name: self._sealer.open(name, text) for name, text in sealed.items()}

    def _sealed(self, env: Mapping[str, Any], field: str, also: Collection[str] = ()) -> dict[str, Any]:
        if self._sealer is None:
            name = (plain_secrets(env) or sorted(also))[0]
            words = (
                "looks like a secret: use secret_key_ref, or set HEADRACE_SEALING_KEYS_FILE so that it can be sealed"
            )
            raise InvalidRequest({f"{field}.{name}": words})
        return sealed_env(env, self._sealer.seal, also)


def _filled_by_secrets(template: Template | None) -> set[str]:
    """The variables of a template that a secret parameter goes into, whatever they are called."""
    env = template.body.get("env") if template else None
    if template is None or not isinstance(env, Mapping):
        return set()
    secret = {name for name, parameter in template.parameters.items() if parameter.secret}
    texts = {name: value for name, value in env.items() if isinstance(value, str)}
    return {name for name, text in texts.items() if secret & {found[1] for found in PLACEHOLDER.finditer(text)}}
