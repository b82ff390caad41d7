"""`python -m api`: the HTTP service, and gRPC beside it where a port is set, on the loopback unless told otherwise."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from api import access
from api.app import create_app
from api.connections import BoundedConnection
from headrace import bootstrap, logs
from headrace import settings as settings_module
from headrace.bootstrap import Services
from headrace.errors import ConfigurationError
from headrace.settings import Settings

if TYPE_CHECKING:
    from api.rpc.server import RpcServer

MOST_HEADER_BYTES = 32 * 1024

STOP_SECONDS = 10
"""What is under way when we are stopped has so long, by HTTP and by gRPC."""


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong or a port is taken."""
    try:
        settings = settings_module.load()
        keys = access.read_keys(settings.api_keys_file)
        services = bootstrap.services(settings)
        gate = access.gate(services, keys, settings.api_requests_per_minute)
        rpc = _rpc_server(settings, services, gate)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    logs.configure(settings, "api")
    logs.say_start(settings, "api")
    app = create_app(services, gate, tenant=settings.tenant, wait_limit_seconds=settings.wait_limit_seconds)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        http=BoundedConnection,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    Server(config, rpc).run()
    return 0


class Server(uvicorn.Server):
    """Serves by HTTP, and stops what serves by gRPC at the same time as itself: uvicorn ends the process by the signal
    that stopped it, so nothing comes after it."""

    def __init__(self, config: uvicorn.Config, rpc: RpcServer | None) -> None:
        super().__init__(config)
        self._rpc = rpc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        stopped = self._rpc.stop(STOP_SECONDS) if self._rpc is not None else None
        await super().shutdown(sockets)
        if stopped is not None:
            await asyncio.to_thread(stopped.wait, STOP_SECONDS)


def _rpc_server(settings: Settings, services: Services, gate: access.Gate) -> RpcServer | None:
    """What serves by gRPC, under way; None where no port is set for it. Raises ConfigurationError."""
    if not settings.grpc_port:
        return None
    from api.rpc.server import RpcServer

    rpc = RpcServer(
        services,
        gate,
        tenant=settings.tenant,
        wait_limit_seconds=settings.wait_limit_seconds,
        host=settings.api_host,
        port=settings.grpc_port,
    )
    rpc.start()
    return rpc


if __name__ == "__main__":
    raise SystemExit(main())
