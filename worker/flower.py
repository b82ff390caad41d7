"""`python -m worker.flower`: Flower behind a login, on the loopback unless told otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import flower.events

from headrace import key_files, logs
from headrace.errors import ConfigurationError
from worker.app import app, settings
from worker.shown_events import ShownEvents

VARIABLE = "HEADRACE_FLOWER_LOGIN_FILE"


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong."""
    try:
        logins = read_logins(settings().flower_login_file)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    logs.configure(settings(), "flower")
    logs.say_start(settings(), "flower")
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)  # with it Flower lets every web page read its API
    flower.events.EventsState = ShownEvents
    app.start(
        [
            "flower",
            f"--address={settings().flower_host}",
            f"--port={settings().flower_port}",
            f"--basic-auth={','.join(logins)}",
            "--enable_events=true",
            "--read_only=true",
            "--purge_offline_workers=60",
        ]
    )
    return 0


def read_logins(file: Path | None) -> Sequence[str]:
    """The `user:password` lines. Raises ConfigurationError: who reads tasks reads what was asked of every job."""
    logins = key_files.read_keys(file, VARIABLE, "one user:password")
    for login in logins:
        user, _, password = login.partition(":")
        if not user or not password or "," in login:
            raise ConfigurationError(f"{VARIABLE}: {file}: a line is user:password, without commas")
        if trouble := key_files.weakness(password):
            raise ConfigurationError(f"{VARIABLE}: {file}: the password of {user} {trouble}")
    return logins


if __name__ == "__main__":
    raise SystemExit(main())
