"""Registering a template: checked whole, its secrets sealed, then stored as a version. Knows no framework."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.domain.inputs import blamed_on_input
from headrace.domain.parameters import PLACEHOLDER
from headrace.domain.policy import Policy
from headrace.domain.templates import Template, example_of, parse_template, template_body
from headrace.errors import InvalidRequest
from headrace.ports import Store
from headrace.services.sealing import Sealing, refuse_secrets


class Register:
    """Takes templates in. The same content gives the version that has it."""

    def __init__(self, store: Store, sealing: Sealing, policy: Policy) -> None:
        self._store = store
        self._sealing = sealing
        self._policy = policy

    def template(self, body: Mapping[str, Any], tenant: str) -> Template:
        """Stores the template's next version. Raises InvalidRequest that names each field."""
        with blamed_on_input("template"):
            refuse_secrets({"template_id": body.get("template_id")})
            template = parse_template(self._sealing.of_template(body, tenant))
            json.dumps(template_body(template), allow_nan=False)  # what cannot be shown is not stored
            outside = dict(self._outside(template))
        if outside:
            raise InvalidRequest(outside)
        return self._store.put_template(template, tenant)

    def _outside(self, template: Template) -> Iterator[tuple[str, str]]:
        """What the installation's policy says of it. A field into which parameters are filled waits for its submit."""
        for field, words in self._policy.problems_of(example_of(template)):
            if not PLACEHOLDER.search(str(template.body.get(field.partition(".")[0]))):
                yield field, words
