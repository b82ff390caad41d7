"""Errors as gRPC statuses, translated once: HTTP's sentence, a code, and details of google.rpc. Knows no rpc."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from headrace import metrics
from headrace.errors import (
    Conflict,
    Forbidden,
    HeadraceError,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    Refused,
    TooMany,
    TransientError,
    Unauthorized,
    class_of,
    unforeseen,
)
from headrace.logs import say_unforeseen

DOMAIN = "headrace"
RETRY_SECONDS = 2
"""As HTTP's Retry-After."""

MOST_WORDS_BYTES = 1000
MOST_VIOLATIONS_BYTES = 2400
"""What a client takes of trailers is 8 KiB by default: the sentence stands there twice, once with %XX, and the details
in base64."""

OURS = "this is a mistake of ours; it is in the log of the API's process"

CODE_OF: tuple[tuple[type[HeadraceError], StatusCode, str], ...] = (
    (InvalidRequest, StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    (NotFound, StatusCode.NOT_FOUND, "NOT_FOUND"),
    (IdempotencyConflict, StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT"),
    (Conflict, StatusCode.FAILED_PRECONDITION, "CONFLICT"),
    (Unauthorized, StatusCode.UNAUTHENTICATED, "UNAUTHORIZED"),
    (Forbidden, StatusCode.PERMISSION_DENIED, "FORBIDDEN"),
    (TooMany, StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY"),
    (Refused, StatusCode.FAILED_PRECONDITION, "REFUSED"),
    (TransientError, StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    (HeadraceError, StatusCode.INTERNAL, "ERROR"),
)

CODES: Mapping[int, StatusCode] = {code.value[0]: code for code in StatusCode}


def of(error: Exception, about: str) -> Status:
    """The status that an error is; one that nobody foresaw goes to the log, and its words nowhere."""
    metrics.ERRORS.labels("grpc", class_of(error)).inc()
    cause = unforeseen(error)
    if cause is not None:
        metrics.UNFORESEEN.labels("grpc").inc()
        say_unforeseen(cause, about)
    if not isinstance(error, HeadraceError):
        return _status(StatusCode.INTERNAL, OURS, [_reason("ERROR")])
    code, reason = next((c, r) for kind, c, r in CODE_OF if isinstance(error, kind))
    return _status(code, str(error), [_reason(reason), *_details(error)])


def _details(error: HeadraceError) -> list[Message]:
    if isinstance(error, InvalidRequest):
        return [_violations(error.problems)]
    if isinstance(error, TooMany | TransientError):
        (retry := RetryInfo()).retry_delay.seconds = RETRY_SECONDS
        return [retry]
    return []


def _violations(problems: Mapping[str, str]) -> BadRequest:
    """As many as there is room for."""
    found = BadRequest()
    for field, words in problems.items():
        found.field_violations.add(field=field, description=_cut(words))
        if found.ByteSize() > MOST_VIOLATIONS_BYTES:
            del found.field_violations[-1]
            break
    return found


def _reason(reason: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN)


def _status(code: StatusCode, words: str, details: list[Message]) -> Status:
    status = Status(code=code.value[0], message=_cut(words))
    for each in details:
        (packed := Packed()).Pack(each)
        status.details.append(packed)
    return status


def _cut(words: str) -> str:
    whole = words.encode()
    return words if len(whole) <= MOST_WORDS_BYTES else f"{whole[:MOST_WORDS_BYTES].decode(errors='ignore')}…"
