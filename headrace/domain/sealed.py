"""Sealed texts and whose they are: what each was sealed for, and where records hold them. Pure; knows no cipher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Owner:
    """What a secret was sealed for: nobody else opens it. `kind` is job, template or installation."""

    tenant: str
    kind: str
    name: str

    @classmethod
    def job(cls, tenant: str, job_id: str) -> Owner:
        """A job, whatever its run."""
        return cls(tenant, "job", job_id)

    @classmethod
    def template(cls, tenant: str, template_id: str) -> Owner:
        """A template, whatever its version: its jobs open what was sealed for it."""
        return cls(tenant, "template", template_id)

    @classmethod
    def installation(cls, tenant: str) -> Owner:
        """What is none of a job's."""
        return cls(tenant, "installation", "")


@dataclass(frozen=True)
class SealedText:
    """A sealed text in a record: where it stands, in words, and the owners that it may have been sealed for."""

    place: str
    owners: Sequence[Owner]
    name: str
    text: str


Anew = Callable[[SealedText], str]
"""Gives what is to stand in the place of a sealed text; the text itself where it stays."""


def sealed_env(env: Any) -> dict[str, str]:
    """The sealed texts of a request's variables, by name; `env` as a record has it."""
    held = env if isinstance(env, Mapping) else {}
    return {name: each["sealed"] for name, each in held.items() if isinstance(each, Mapping) and "sealed" in each}


def owners_of_job(tenant: str, job_id: str, template_id: str | None) -> Sequence[Owner]:
    """Whom a job's secrets were sealed for: itself, and the template that it is made from."""
    job = Owner.job(tenant, job_id)
    return (job, Owner.template(tenant, template_id)) if template_id else (job,)


def resealed(request: Mapping[str, Any], place: str, owners: Sequence[Owner], anew: Anew) -> dict[str, Any]:
    """A stored request with `anew` of each of its sealed texts."""
    put = {
        name: {"sealed": anew(SealedText(f"{place}, env.{name}", owners, name, text))}
        for name, text in sealed_env(request.get("env")).items()
    }
    return {**request, "env": {**request["env"], **put}} if put else dict(request)
