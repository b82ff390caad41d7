"""Dead letters, shown and replayed. Knows no framework and no Kafka client.

A letter has no value of its record, so that no secret is kept in it. What is replayed is the record itself, read again
from where it stood and handled under the very name that it had: however often, that is one operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace.domain.secrets import shown_name
from headrace.errors import NotFound
from headrace.ports import DeadLetter, LetterBox, NotThere
from headrace.services.handle_record import Handled, HandleRecord
from headrace.services.triggers import Triggers

MOST_LETTERS = 500


class Outcome(StrEnum):
    """What a replay came to."""

    ACCEPTED = "ACCEPTED"
    KNOWN = "KNOWN"  # it was accepted before
    PASSED_BY = "PASSED_BY"  # its triggers ask for nothing on it by now
    REFUSED = "REFUSED"
    NOT_REPLAYABLE = "NOT_REPLAYABLE"


@dataclass(frozen=True)
class Replayed:
    """What a letter's replay came to, the operations, and in words what is to be said of it."""

    letter_id: str
    outcome: Outcome
    operation_ids: Sequence[str] = ()
    reason: str = ""


class Replay:
    """Reads dead letters and handles their records again. A process without a broker has none."""

    def __init__(self, letter_box: LetterBox | None, handle_record: HandleRecord, triggers: Triggers) -> None:
        self._letter_box = letter_box
        self._handle_record = handle_record
        self._triggers = triggers

    def letters(self, limit: int) -> Sequence[DeadLetter]:
        """The newest letters, newest last."""
        return self._letter_box.newest(min(limit, MOST_LETTERS)) if self._letter_box else ()

    def replay(self, letter_id: str) -> Replayed:
        """Handles the letter's record again, by those of its triggers that there still are. Writes no letter. Raises
        NotFound, and what is trouble of ours or a server's."""
        letter = self._letter_box.letter(letter_id) if self._letter_box else None
        if letter is None or self._letter_box is None:
            raise NotFound(
                f"dead letter {shown_name(letter_id)}: there is none of this id; GET dead-letters lists them"
            )
        self._triggers.read_again()  # somebody may just have mended one
        hindrance = self._hindrance(letter)
        found = NotThere(hindrance) if hindrance else self._letter_box.record_of(letter)
        if isinstance(found, NotThere):
            return Replayed(letter.id, Outcome.NOT_REPLAYABLE, reason=found.reason)
        return _replayed(letter, self._handle_record.handle_any(found, only=letter.triggers))

    def _hindrance(self, letter: DeadLetter) -> str:
        """Why nothing could come of its record now: no other topics are read, whatever a letter says."""
        topic = letter.origin.topic
        if self._handle_record.takes_operations_from(topic):
            return ""
        if not letter.triggers:
            return f"topic {topic} is not where operations come from"
        if not set(letter.triggers) & {trigger.name for trigger in self._triggers.of_topic(topic)}:
            return (
                f"no trigger of topic {topic} is called {' or '.join(letter.triggers)} any more; apply it again first"
            )
        return ""


def _replayed(letter: DeadLetter, handled: Handled) -> Replayed:
    ids = [accepted.operation.id for accepted in handled.accepted]
    if handled.refused:
        words = "; ".join(f"{f'{name}: ' if name else ''}{error}" for name, error in handled.refused.items())
        return Replayed(letter.id, Outcome.REFUSED, ids, words)
    if not ids:
        return Replayed(letter.id, Outcome.PASSED_BY, reason="its triggers ask for nothing on this event by now")
    is_new = any(accepted.created for accepted in handled.accepted)
    words = "" if is_new else "it was accepted before: nothing new was asked for"
    return Replayed(letter.id, Outcome.ACCEPTED if is_new else Outcome.KNOWN, ids, words)
