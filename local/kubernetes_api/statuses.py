"""The Status objects of refusals: a constructor for each reason, worded as the real server does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Cause:
    """One field's error, as `details.causes` lists it; `text` is the message with the field in front."""

    reason: str
    field: str
    message: str

    @property
    def text(self) -> str:
        return f"{self.field}: {self.message}"


class StatusError(Exception):
    """A refusal that becomes the body and the code of the response."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        self.body = status_body(code, reason, message, details)


def status_body(code: int, reason: str, message: str, details: Json | None = None) -> Json:
    """A Status with `status: Failure`."""
    body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    body["reason"] = reason
    if details is not None:
        body["details"] = details
    return body | {"code": code}


def bad_request(message: str) -> StatusError:
    return StatusError(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def path_not_found() -> StatusError:
    return StatusError(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource", details={})


def method_not_allowed() -> StatusError:
    return StatusError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        details={},
    )


def unsupported_media_type(accepted: Sequence[str]) -> StatusError:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return StatusError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)


def _details(group: str, plural: str, name: str) -> Json:
    return {"name": name} | ({"group": group} if group else {}) | {"kind": plural}


def not_found(group: str, plural: str, name: str) -> StatusError:
    message = f'{_qualified(plural, group)} "{name}" not found'
    return StatusError(HTTPStatus.NOT_FOUND, "NotFound", message, details=_details(group, plural, name))


def already_exists(group: str, plural: str, name: str) -> StatusError:
    message = f'{_qualified(plural, group)} "{name}" already exists'
    return StatusError(HTTPStatus.CONFLICT, "AlreadyExists", message, details=_details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return StatusError(HTTPStatus.CONFLICT, "Conflict", message, details=_details(group, plural, name))


def expired(message: str) -> StatusError:
    return StatusError(HTTPStatus.GONE, "Expired", message)


def unusable_patch() -> StatusError:
    """A JSON patch that cannot be applied, a failed `test` included: the real server does not say which."""
    message = "the server rejected our request due to an error in our request"
    return StatusError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, details={})


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> StatusError:
    texts = [each.text for each in causes]
    listed = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details = {"name": name} | ({"group": group} if group else {}) | {"kind": kind}
    details_with_causes: Json = details | {
        "causes": [{"reason": each.reason, "message": each.message, "field": each.field} for each in causes]
    }
    message = f'{_qualified(kind, group)} "{name}" is invalid: {listed}'
    return StatusError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, details=details_with_causes)


def _qualified(name: str, group: str) -> str:
    return f"{name}.{group}" if group else name
