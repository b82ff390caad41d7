"""Triggers: kept, shown, removed, and told to who reads events. Knows no framework and no Kafka client."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from headrace.domain.inputs import blamed_on_input
from headrace.domain.secrets import shown_name
from headrace.domain.triggers import Trigger, parse_trigger
from headrace.errors import InvalidRequest, NotFound
from headrace.ports import Clock, Scope, Store

MOST_AGE = timedelta(seconds=3)
"""How long what was read of the triggers counts: who reads events sees a changed one after that."""


class Triggers:
    """An installation's triggers. Who reads events asks `of_topic` for each: one read of the store in three seconds."""

    def __init__(self, store: Store, scope: Scope, clock: Clock, own_topics: Collection[str]) -> None:
        self._store = store
        self._scope = scope
        self._clock = clock
        self._own_topics = own_topics
        self._read: Sequence[Trigger] = ()
        self._read_at: datetime | None = None

    @property
    def place(self) -> tuple[str, str]:
        """The cluster and the namespace whose triggers these are."""
        return self._scope.cluster, self._scope.namespace

    def apply(self, body: Mapping[str, Any]) -> Trigger:
        """Keeps a trigger in the place of the one of its name. Raises InvalidRequest that names each field, TooMany."""
        with blamed_on_input("trigger"):
            trigger = parse_trigger(body)
        if trigger.topic in self._own_topics:
            words = "is Headrace's own: what it reads there are operations; an event has a topic of its own"
            raise InvalidRequest({"topic": words})
        stored = self._store.put_trigger(self._scope, replace(trigger, updated_at=self._clock.now()))
        self.read_again()
        return stored

    def one(self, name: str) -> Trigger:
        """Raises NotFound."""
        found = self._store.trigger(self._scope, name)
        if found is None:
            raise NotFound(f"trigger {shown_name(name)}: there is none of this name; GET triggers lists those that are")
        return found

    def all(self) -> Sequence[Trigger]:
        """By name."""
        return self._store.triggers(self._scope)

    def delete(self, name: str) -> None:
        """From then on its topic's events ask for nothing by it; what it asked for stays. Raises NotFound."""
        self.one(name)
        self._store.delete_trigger(self._scope, name)
        self.read_again()

    def read_again(self) -> None:
        """What was read of them so far counts no more."""
        self._read_at = None

    def topics(self) -> Collection[str]:
        """Whose events there are triggers for. Raises Unavailable."""
        return sorted({trigger.topic for trigger in self._current()})

    def of_topic(self, topic: str) -> Sequence[Trigger]:
        """The triggers of a topic, by name; three seconds old at most. Raises Unavailable."""
        return [trigger for trigger in self._current() if trigger.topic == topic]

    def _current(self) -> Sequence[Trigger]:
        now, read_at = self._clock.now(), self._read_at
        if read_at is None or abs(now - read_at) > MOST_AGE:
            self._read, self._read_at = self.all(), now
        return self._read
