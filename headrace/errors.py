"""Every error that Headrace raises on purpose. Knows nothing of ours but what is printable.

HeadraceError                      something a person may have to read
├── PermanentError                 trying again changes nothing
│   ├── InvalidRequest             a field has a value that is not allowed
│   │   └── Unforeseen             our own code met something in it that nobody foresaw
│   ├── NotFound                   the thing named does not exist
│   ├── Conflict                   the thing named is in a state that forbids this
│   │   ├── IdempotencyConflict    the same key came with another body
│   │   └── NameTaken              another job's record has the name of the deployment
│   ├── Unauthorized               no key came, or one that opens nothing
│   ├── Forbidden                  the key's role may not do this
│   ├── TooMany                    a bound is reached; it may be asked again when something has ended
│   ├── Refused                    a server understood and said no (403, 422, admission)
│   │   ├── CrdMissing             the cluster has no FlinkDeployment CRD
│   │   └── MissingRight           our own account may not do this in the cluster
│   └── StaleWriter                a newer sequence, or another uid, stands on the deployment
├── TransientError                 trying again may help
│   ├── Unavailable                a server did not answer within its bound
│   │   └── Unanswered             one job's own server did not, and others may well
│   ├── HistoryGone                a watch cannot resume from where it was; list again
│   ├── Unopenable                 no key here opens a secret; one may be on its way
│   ├── Unreadable                 what a server holds does not have the form that it should have
│   └── LostRace                   somebody else changed the record first; read again
└── ConfigurationError             a setting is missing or wrong; the process cannot start
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from headrace.printable import printable

MOST_PROBLEMS = 20
MOST_FIELD_CHARACTERS = 200
MOST_WORDS_CHARACTERS = 1000


class HeadraceError(Exception):
    """The root. `str(error)` is one sentence for a person: what happened, to what, why, what to do."""


class PermanentError(HeadraceError):
    """Trying again changes nothing."""


class TransientError(HeadraceError):
    """Trying again, later, may help."""


class ConfigurationError(HeadraceError):
    """A setting is missing or wrong. Raised at start-up only."""


class InvalidRequest(PermanentError):
    """A value that the caller sent is not allowed. `problems` maps a field's path to what is wrong with it: the first
    20, each of bounded length and printable, whatever was sent, since they go into answers, headers and logs."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = {
            _shown(field, MOST_FIELD_CHARACTERS): _shown(words, MOST_WORDS_CHARACTERS)
            for field, words in islice(problems.items(), MOST_PROBLEMS)
        }
        if len(problems) > MOST_PROBLEMS:
            self.problems["…"] = "and further problems"
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in self.problems.items()))


class Unforeseen(InvalidRequest):
    """Code of ours raised over an input what nobody foresaw (`__cause__`). The input is refused like any other that
    cannot be used; who answers it logs where it happened, since that is a mistake of ours."""


class NotFound(PermanentError):
    """The job, operation or template that was named does not exist."""


class Conflict(PermanentError):
    """What was named is in a state that forbids the request."""


class IdempotencyConflict(Conflict):
    """An idempotency key came again with another body."""


class NameTaken(Conflict):
    """Another job of this cluster and namespace has the wanted name of a deployment, by the records."""


class Unauthorized(PermanentError):
    """Who asks brings no API key, or one that is unknown, revoked or expired."""


class Forbidden(PermanentError):
    """Who asks is known, and the role of the key may not do this."""


class TooMany(PermanentError):
    """A bound on what may be open at once is reached: the same request may be taken later."""


class Refused(PermanentError):
    """A server understood the request and said no."""


class CrdMissing(Refused):
    """The cluster has no FlinkDeployment CRD: the CRD itself was asked for, and is not there."""

    def __init__(self) -> None:
        super().__init__("this cluster has no FlinkDeployment CRD: install the Flink Kubernetes Operator")


class MissingRight(Refused):
    """Our own account lacks a right in the cluster. The request is not at fault: whoever runs the cluster can give the
    right, and then the same request is taken."""

    def __init__(self, words: str) -> None:
        super().__init__(f"{words}; give this account the right by a Role and a RoleBinding in that namespace")


class StaleWriter(PermanentError):
    """The deployment carries a newer sequence or another uid; the writer must not try again."""


class Unavailable(TransientError):
    """A server did not answer within its bound. The message names the server and its setting."""


class Unanswered(Unavailable):
    """The JobManager of one job did not answer, though it ought to: it is asked again before that says anything of the
    job, and nothing is wrong with any other."""


class HistoryGone(TransientError):
    """The resourceVersion that a watch should resume from is no longer kept (410): list again."""


class Unreadable(TransientError):
    """What a server holds does not have the form that it should have, and can be read once somebody has mended it."""


class Unopenable(TransientError):
    """No key that this process has opens a secret: another process may have sealed it with a key that is still on its
    way here."""


class LostRace(TransientError):
    """A record was changed by somebody else between a read and a compare-and-set. Read again."""


INPUTS_FAULT = (InvalidRequest, NotFound, Conflict)
"""What is refused at once, since the input is at fault. Everything else is ours or a server's, and is waited for."""


def unforeseen(error: BaseException) -> BaseException | None:
    """The exception that nobody foresaw, where this one is that or was made of it; None for one that we raised."""
    if isinstance(error, Unforeseen):
        return error.__cause__
    return None if isinstance(error, HeadraceError) else error


def _shown(text: str, most: int) -> str:
    return printable(text if len(text) <= most else f"{text[:most]}…")


def class_of(error: BaseException) -> str:
    """The class of the tree above that an error is of; Unforeseen for one that nobody raised on purpose."""
    named = (each.__name__ for each in type(error).__mro__ if each.__module__ == __name__)
    return next(named, Unforeseen.__name__)
