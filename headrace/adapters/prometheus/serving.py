"""/metrics of a process that has no HTTP server of its own."""

from __future__ import annotations

from prometheus_client import start_http_server

from headrace.errors import ConfigurationError


def serve(host: str, port: int) -> None:
    """Answers scrapes in threads of its own from now on, whatever the process waits for; port 0 serves nobody. Called
    after any fork. Raises ConfigurationError where the address cannot be had."""
    if not port:
        return
    try:
        start_http_server(port, addr=host)
    except OSError as error:
        words = f"HEADRACE_METRICS_PORT: /metrics cannot be served on port {port} of {host}: {error.strerror}"
        raise ConfigurationError(words) from error
