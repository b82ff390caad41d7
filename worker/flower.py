"""`python -m worker.flower`: Flower on the loopback, fed by the workers' events."""

from __future__ import annotations

import os

import flower.events

from headrace import logs
from worker.app import app, settings
from worker.shown_events import ShownEvents


def main() -> None:
    """Runs until SIGTERM."""
    logs.configure(settings(), "flower")
    logs.say_start(settings(), "flower")
    # Without this Flower's API answers 401 unless a login is set up. It is bound to the loopback unless told otherwise.
    os.environ.setdefault("FLOWER_UNAUTHENTICATED_API", "true")
    flower.events.EventsState = ShownEvents
    app.start(
        [
            "flower",
            f"--address={settings().flower_host}",
            f"--port={settings().flower_port}",
            "--enable_events=true",
            "--read_only=true",
            "--purge_offline_workers=60",
        ]
    )


if __name__ == "__main__":
    main()
