"""A request as the worker shows it in its events, its logs and to whoever inspects it: whoever sent the task, its
arguments are shown by what they are, and not by what the sender wrote beside them. Knows no task.
"""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from headrace.domain.operations import KINDS
from headrace.domain.secrets import HIDDEN, may_be_shown

SHOWN = frozenset({"tenant", "job_id", "idempotency_key", *(name for kind in KINDS.values() for name in kind.shown)})
"""Arguments that may be shown in Flower and logs; others may carry what a user typed."""

NO_ARGUMENTS = "()"


class ShownRequest(Request):  # type: ignore[misc]  # celery has no types
    """Celery's request, with the sender's own words on its arguments, and on its name, replaced."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self.name = self._type
        self._argsrepr = NO_ARGUMENTS if not self._args else HIDDEN
        self._kwargsrepr = shown(self._kwargs)
        told = {"argsrepr": self._argsrepr, "kwargsrepr": self._kwargsrepr, "shadow": None}
        self._request_dict.update(told)

    def info(self, safe: bool = False) -> Any:
        """See celery: what an inspection gets, without the arguments themselves."""
        return super().info(safe=True)


def shown(arguments: Any) -> str:
    """The arguments as Flower and logs may have them."""
    if not isinstance(arguments, dict):
        return HIDDEN
    return repr({_name(name): _value(name, value) for name, value in arguments.items()})


def _name(name: Any) -> str:
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= 100 else HIDDEN


def _value(name: Any, value: Any) -> Any:
    return value if name in SHOWN and may_be_shown(name, value) else HIDDEN
