"""Unit tests open no socket: the world outside is the in-memory ports."""

from __future__ import annotations

import pytest

from headrace.bootstrap import wired
from headrace.settings import Settings
from headrace.testing import (
    FixedClock,
    InMemoryJobManager,
    InMemoryQueue,
    InMemoryRuntime,
    InMemoryStore,
    ReversingSealer,
)
from tests.support.world import World


@pytest.fixture(autouse=True)
def _no_sockets(socket_disabled: None) -> None:
    """Every test here runs with sockets blocked."""


@pytest.fixture
def world() -> World:
    store, runtime, queue = InMemoryStore(), InMemoryRuntime(), InMemoryQueue()
    job_manager, clock = InMemoryJobManager(), FixedClock()
    store.clock = clock
    settings = Settings(flink_allowed_hosts="files.example.com", allowed_secrets="db", _env_file=None)
    services = wired(
        settings,
        store=store,
        queue=queue,
        runtime=runtime,
        job_manager=job_manager,
        clock=clock,
        sealer=ReversingSealer(),
    )
    return World(services, store, runtime, queue, job_manager, clock)
