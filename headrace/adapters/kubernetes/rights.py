"""What our own account may do in a namespace, asked of the API server itself (SelfSubjectAccessReview)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from headrace.adapters.kubernetes.api_server import Answer, ApiServer, Unserved, refused

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """Verbs on a resource of an API group; the core's group is empty."""

    group: str
    resource: str
    verbs: Sequence[str]


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status


_review = msgspec.json.Decoder(_Review)


def lacking(api: ApiServer, namespace: str, rights: Sequence[Right]) -> list[str]:
    """Those of the rights that the account has not, in words. Raises Unavailable, and Refused where it may not even
    ask."""
    found = []
    for right in rights:
        missing = [verb for verb in right.verbs if not _may(api, namespace, right, verb)]
        if missing:
            place = f"{right.resource}.{right.group}" if right.group else right.resource
            right_to = f"the right to {', '.join(missing)} {place} in {namespace}"
            found.append(f"{right_to} is missing: a Role and a RoleBinding there give it")
    return found


def _may(api: ApiServer, namespace: str, right: Right, verb: str) -> bool:
    asked = {"namespace": namespace, "verb": verb, "group": right.group, "resource": right.resource}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    doing = f"asking whether {verb} of {right.resource} is allowed"
    with suppress(Unserved):
        answer = api.send("POST", REVIEWS, doing=doing, body=body)
        if answer.status != 404:
            return _is_allowed(answer, doing)
    return True  # a server without authorization, whichever 404 it has for that, lets everybody do everything


def _is_allowed(answer: Answer, doing: str) -> bool:
    if answer.status not in (200, 201):
        raise refused(answer, doing)
    return _review.decode(answer.body).status.allowed
