"""`python -m beat`: sends what is due until SIGTERM. Keeps its schedule in memory: two Beats are harmless."""

from __future__ import annotations

import sys

from celery.beat import Scheduler

from beat.app import make_app
from headrace import logs
from headrace import settings as settings_module
from headrace.errors import ConfigurationError


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong."""
    try:
        settings = settings_module.load()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    logs.configure(settings, "beat")
    logs.say_start(settings, "beat")
    make_app(settings).Beat(scheduler_cls=Scheduler, loglevel=settings.log_level, quiet=True).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
