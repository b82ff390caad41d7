"""How long a connection may take: to send a request, and to read what was answered. Knows no route.

uvicorn bounds neither: idle, half-sent and unread connections would stay for as long as their client likes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
BODY_SECONDS = 60.0
READER_SECONDS = 30.0
"""How long a client may leave unread what was written to it."""


class BoundedConnection(H11Protocol):
    """A connection that is cut where its client keeps it waiting."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._awaited: object = None
        self._until: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._await(self.conn.their_state)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._await(self.conn.their_state)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._await(None)
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._unread = self.loop.call_later(READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _await(self, part: object) -> None:
        """The part of a request that is waited for now, if one is. Its time begins with it, not with each byte."""
        if part is self._awaited:
            return
        if self._until is not None:
            self._until.cancel()
        seconds = {h11.IDLE: HEADER_SECONDS, h11.SEND_BODY: BODY_SECONDS}.get(part)  # type: ignore[call-overload]
        self._until = self.loop.call_later(seconds, self.transport.abort) if seconds is not None else None
        self._awaited = part
