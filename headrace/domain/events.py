"""Kubernetes events of one deployment and of what was made for it. Pure; field names are the resource's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class InvolvedObject(msgspec.Struct, frozen=True, rename="camel"):
    """involvedObject."""

    kind: str = ""
    name: str = ""


class EventMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """metadata."""

    creation_timestamp: datetime | None = None


class EventSeries(msgspec.Struct, frozen=True, rename="camel"):
    """series: how the newer kind of event counts."""

    count: int = 1
    last_observed_time: datetime | None = None


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """An Event of core/v1."""

    metadata: EventMetadata = EventMetadata()
    involved_object: InvolvedObject = InvolvedObject()
    type: str = ""
    reason: str = ""
    message: str | None = None
    count: int | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None
    series: EventSeries | None = None


@dataclass(frozen=True)
class EventSeen:
    """Something that happened to an object, so many times; `at` is the last time."""

    at: datetime
    type: str
    reason: str
    message: str
    object: str
    count: int = 1


def event_seen(event: Event) -> EventSeen:
    """What a person is told of an event."""
    series, about = event.series or EventSeries(), event.involved_object
    times = (series.last_observed_time, event.last_timestamp, event.event_time, event.metadata.creation_timestamp)
    at = next((time for time in times if time is not None), LONG_AGO)
    count = max(event.count or 1, series.count)
    return EventSeen(at, event.type, event.reason, (event.message or "").strip(), f"{about.kind}/{about.name}", count)


def is_about(event: Event, deployment: str) -> bool:
    """Whether it is about this FlinkDeployment, its JobManager's Deployment or a pod that was made for it.

    Pods are told by their names, since those that are gone have no labels: a job `a` must not get what is of `a-2`.
    """
    about, name = event.involved_object, re.escape(deployment)
    if about.kind in ("FlinkDeployment", "Deployment"):
        return about.name == deployment
    if about.kind == "ReplicaSet":
        return re.fullmatch(rf"{name}-[0-9a-z]{{6,10}}", about.name) is not None
    if about.kind == "Pod":
        return re.fullmatch(rf"{name}-(taskmanager-\d+-\d+|[0-9a-z]{{6,10}}-[0-9a-z]{{1,5}})", about.name) is not None
    return False
