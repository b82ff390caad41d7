"""Keeping plain secrets out of every record: what looks secret in a request is sealed before anything is stored.

Knows no cipher: that is ports.Sealer's.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from headrace.domain.environment import secret_variables
from headrace.domain.operations import KindName, Source, hash_of
from headrace.domain.parameters import PLACEHOLDER, Parameter
from headrace.domain.said import is_said, plain_of
from headrace.domain.sealed import sealed_env
from headrace.domain.secret_names import looks_secret
from headrace.domain.secrets import found_in, is_none, is_secret, shown_name
from headrace.domain.templates import Template
from headrace.errors import InvalidRequest, Unopenable
from headrace.ports import Owner, Sealer, Store

THROUGH_A_BROKER = ("celery", "kafka")
"""Ways in whose messages are stored as they were sent: no secret belongs into one."""

HASH_KEY = "key-of-hashes"
"""The name of the key that requests with secrets are hashed by. It is kept sealed, and outlives the sealing keys."""

NO_KEY = "looks like a secret: use secret_key_ref, or set HEADRACE_SEALING_KEYS_FILE so that it can be sealed"
SAY_SO = "where it is none, say so: {value: …, secret: false}"


class Sealing:
    """Seals what a request brings; without a sealer a plain secret is refused."""

    def __init__(self, sealer: Sealer | None, store: Store) -> None:
        self._sealer = sealer
        self._store = store
        self._hash_keys: dict[str, bytes] = {}

    def check_submit(self, config: Mapping[str, Any], other: Mapping[str, Any], source: Source) -> None:
        """Refuses what no submit may bring: a sealed text, and, in a broker's message, a secret in `env`; `other` are
        texts by their fields, which may show none. Raises InvalidRequest."""
        env = _env_of(config)
        _refuse_sealed(env, "job_config.env")
        if source.via in THROUGH_A_BROKER:
            for name in secret_variables(env):
                raise InvalidRequest({f"job_config.env.{shown_name(name)}": _in_a_message(source)})
        refuse_secrets(other)

    def check_parameters(self, template: Template | None, values: Mapping[str, Any], source: Source) -> None:
        """Refuses a secret among a broker message's parameters: by its declaration, its name, its value, or the
        variable that it goes into. Raises InvalidRequest."""
        if source.via not in THROUGH_A_BROKER:
            return
        for name, value in values.items():
            if _brings_a_secret(template, name, value):
                raise InvalidRequest({f"parameters.{shown_name(name)}": _in_a_message(source)})

    def without_secrets(self, template: Template, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of parameters that may be kept as they are: those of no secret."""
        return {name: value for name, value in values.items() if not _brings_a_secret(template, name, value)}

    def hash_of_submit(self, kind: KindName, named: str, asked: Mapping[str, Any], tenant: str) -> str:
        """What tells a submit from another under one idempotency key: the same before and after a rotation of the
        sealing keys, and no help to whoever guesses at a secret in it. Raises Unopenable."""
        may_hold_one = bool(asked.get("parameters")) or bool(secret_variables(_env_of(asked["job_config"])))
        if self._sealer is None or not may_hold_one:
            return hash_of(kind, named, asked)
        text = json.dumps([kind, named, asked], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hmac.new(self._hash_key(tenant), text.encode(), sha256).hexdigest()

    def of_request(self, body: Mapping[str, Any], template: Template | None, owner: Owner) -> dict[str, Any]:
        """A resolved body with its plain secrets sealed for the job: variables that look like it or that their user
        says are secret, and those that a secret parameter went into. Raises InvalidRequest."""
        found = secret_variables(_env_of(body), _filled_by_secrets(template))
        return {**body, "env": {**body["env"], **self._sealed(found, "job_config.env", owner)}} if found else dict(body)

    def of_template(self, body: Mapping[str, Any], tenant: str) -> dict[str, Any]:
        """A template's body with its plain secrets sealed for it. A value with a placeholder in it is none yet, but the
        text beside the placeholder may be. A parameter that is called like a secret is one. Raises InvalidRequest."""
        env, parameters = _env_of(body), _with_secret_names(body.get("parameters"))
        _refuse_sealed(env, "env")
        _check_parameters(parameters)
        body = {**body, "parameters": parameters} if parameters else dict(body)
        filled = {name: value for name, value in env.items() if parameters and _has_placeholder(value)}
        _refuse_beside_placeholders(filled)
        found = secret_variables({name: value for name, value in env.items() if name not in filled})
        if not found:
            return body
        texts = {
            name: PLACEHOLDER.sub(lambda f: f[0][1:], text) if parameters else text for name, text in found.items()
        }
        owner = Owner.template(tenant, str(body.get("template_id")))
        return {**body, "env": {**env, **self._sealed(texts, "env", owner, self._known(owner))}}

    def opened(self, sealed: Mapping[str, str], owners: Sequence[Owner]) -> dict[str, str]:
        """The secrets again, by the names of their variables: each was sealed for one of the owners. Raises Unopenable:
        the key may be on its way."""
        if not sealed:
            return {}
        if self._sealer is None:
            raise Unopenable("its secrets were sealed, and HEADRACE_SEALING_KEYS_FILE is not set: set it here too")
        return {name: self._sealer.open(owners, name, text) for name, text in sealed.items()}

    def _sealed(
        self, found: Mapping[str, str], field: str, owner: Owner, known: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """What is known already stays as it is: the same content is the same version after a rotation too."""
        if self._sealer is None:
            raise InvalidRequest({f"{field}.{shown_name(next(iter(found)))}": f"{NO_KEY}; {SAY_SO}"})
        same = {
            name: text for name, text in (known or {}).items() if self._opens_to(owner, name, text, found.get(name))
        }
        return {
            name: {"sealed": same.get(name) or self._sealer.seal(owner, name, text)} for name, text in found.items()
        }

    def _known(self, owner: Owner) -> dict[str, str]:
        newest = self._store.template(owner.tenant, owner.name)
        return sealed_env(newest.body.get("env")) if newest is not None else {}

    def _opens_to(self, owner: Owner, name: str, sealed: str, text: str | None) -> bool:
        assert self._sealer is not None  # noqa: S101 - the caller has looked
        try:
            return text is not None and self._sealer.open([owner], name, sealed) == text
        except Unopenable:
            return False

    def _hash_key(self, tenant: str) -> bytes:
        """Made once, by whoever needs it first, and kept sealed beside the records that it serves."""
        assert self._sealer is not None  # noqa: S101 - the caller has looked
        if tenant not in self._hash_keys:
            owner = Owner.installation(tenant)
            kept = self._store.kept_key(owner.tenant, HASH_KEY)
            if kept is None:
                made = self._sealer.seal(owner, HASH_KEY, secrets.token_hex(32))
                kept = self._store.keep_key(owner.tenant, HASH_KEY, made)
            self._hash_keys[tenant] = bytes.fromhex(self._sealer.open([owner], HASH_KEY, kept))
        return self._hash_keys[tenant]


def refuse_secrets(texts: Mapping[str, Any]) -> None:
    """Refuses texts, by their fields, that show a secret where none belongs. Raises InvalidRequest."""
    for field, text in texts.items():
        found = found_in(text) if isinstance(text, str) else None
        if found:
            raise InvalidRequest({field: f"holds {found}, and it is kept and shown"})


def _env_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    env = body.get("env")
    return env if isinstance(env, Mapping) else {}


def _in_a_message(source: Source) -> str:
    words = f"looks like a secret, and a {source.via} message is stored as it was sent: use secret_key_ref"
    return f"{words}, or send it by HTTP; {SAY_SO}"


def _refuse_sealed(env: Mapping[str, Any], field: str) -> None:
    for name, value in env.items():
        if isinstance(value, Mapping) and "sealed" in value:
            words = "a sealed text is made here and taken from nobody: give the value itself, or secret_key_ref"
            raise InvalidRequest({f"{field}.{shown_name(name)}": words})


def _with_secret_names(parameters: Any) -> Any:
    """The declarations, those secret that are called like one and do not say otherwise."""
    if not isinstance(parameters, Mapping):
        return parameters
    return {
        name: {**each, "secret": True}
        if isinstance(each, Mapping) and "secret" not in each and looks_secret(str(name))
        else each
        for name, each in parameters.items()
    }


def _check_parameters(parameters: Any) -> None:
    for name, each in (parameters if isinstance(parameters, Mapping) else {}).items():
        refuse_secrets({"parameters": name})
        if not isinstance(each, Mapping):
            continue
        if each.get("secret") is True and looks_secret(str(name)) and {"default", "allowed_values"} & set(each):
            words = "is called like a secret, and so has no default and no allowed_values, which would be stored"
            raise InvalidRequest({f"parameters.{shown_name(name)}": f"{words}; where it is none, add secret: false"})
        allowed = each.get("allowed_values")
        given = [each.get("default"), *(allowed if isinstance(allowed, list | tuple) else ())]
        if each.get("secret") is not False:
            refuse_secrets(
                {f"parameters.{shown_name(name)}": next((t for t in given if isinstance(t, str) and found_in(t)), None)}
            )
        refuse_secrets({f"parameters.{shown_name(name)}.description": each.get("description")})


def _has_placeholder(value: Any) -> bool:
    text = plain_of(value)
    return text is not None and any(not found[0].startswith("$$") for found in PLACEHOLDER.finditer(text))


def _refuse_beside_placeholders(env: Mapping[str, Any]) -> None:
    """A template's text is stored: no secret may stand beside what a parameter fills in later."""
    for name, value in env.items():
        left = PLACEHOLDER.sub("", plain_of(value) or "")
        says_secret = is_said(value) and value.get("secret") is True
        if not is_none(left) and (says_secret or is_secret(name, left)):
            words = "holds text beside a placeholder, and may be a secret: make the whole value one secret parameter"
            raise InvalidRequest({f"env.{shown_name(name)}": f"{words}; {SAY_SO}"})


def _filled_by_secrets(template: Template | None) -> Collection[str]:
    """The variables of a template that a secret parameter goes into, whatever they are called."""
    parameters: Mapping[str, Parameter] = template.parameters if template else {}
    secret = {name for name, parameter in parameters.items() if parameter.secret}
    return {name for name, names in _placeholders(template).items() if secret & names}


def _brings_a_secret(template: Template | None, name: str, value: Any) -> bool:
    """By its declaration, its name, its value, or the variable that it goes into."""
    declared, text = template.parameters if template else {}, plain_of(value) or ""
    is_declared = declared[name].secret if name in declared else looks_secret(name)
    return bool(is_declared or found_in(text) or _goes_into_a_secret(template, name, text))


def _goes_into_a_secret(template: Template | None, parameter: str, text: str) -> bool:
    """Whether a variable that this value of a parameter goes into will be sealed."""
    env = _env_of(template.body) if template else {}
    into = {name: env[name] for name, names in _placeholders(template).items() if parameter in names}
    return any(
        is_secret(name, text) or (is_said(value) and value.get("secret") is True) for name, value in into.items()
    )


def _placeholders(template: Template | None) -> dict[str, set[str]]:
    """The names of parameters in each variable of a template, where its user has not said that it is no secret."""
    env = _env_of(template.body) if template else {}
    texts = {name: plain_of(value) or "" for name, value in env.items()}
    return {name: {found[1] for found in PLACEHOLDER.finditer(text)} for name, text in texts.items()}
