"""`python -m beat`: sends what is due until SIGTERM. Keeps its schedule in memory: two Beats are harmless."""

from __future__ import annotations

import sys

from beat.app import make_app
from beat.scheduler import Scheduler
from headrace import logs
from headrace import settings as settings_module
from headrace.adapters import prometheus
from headrace.errors import ConfigurationError
from headrace.health import Signs


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong or the port of /metrics is taken."""
    try:
        settings = settings_module.load()
        prometheus.serve(settings.metrics_host, settings.metrics_port)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    logs.configure(settings, "beat")
    logs.say_start(settings, "beat")
    app = make_app(settings)
    app.signs = Signs(settings.health_folder, "beat")
    app.Beat(scheduler_cls=Scheduler, loglevel=settings.log_level, quiet=True).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
