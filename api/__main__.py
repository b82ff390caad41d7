"""`python -m api`: the HTTP service, on the loopback unless told otherwise."""

from __future__ import annotations

import sys

import uvicorn

from api.access import read_keys
from api.app import create_app
from api.connections import BoundedConnection
from headrace import bootstrap, logs
from headrace import settings as settings_module
from headrace.errors import ConfigurationError

CONNECTIONS_AT_ONCE = 512
"""Below what a process may have open; more are answered 503."""

MOST_HEADER_BYTES = 32 * 1024


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong or the port is taken."""
    try:
        settings = settings_module.load()
        keys = read_keys(settings.api_keys_file)
        services = bootstrap.services(settings)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    logs.configure(settings, "api")
    logs.say_start(settings, "api")
    app = create_app(
        services,
        tenant=settings.tenant,
        keys=keys,
        wait_limit_seconds=settings.wait_limit_seconds,
        requests_per_minute=settings.api_requests_per_minute,
    )
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        http=BoundedConnection,
        limit_concurrency=CONNECTIONS_AT_ONCE,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
