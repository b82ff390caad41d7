"""Shared by every test: hypothesis without a clock, since these machines are shared and slow at times, and signals
that reach what a test starts also where they are ignored here: by a shell that runs tests in the background, by nohup.
"""

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.support.patience import PATIENCE

settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same-draws", settings.get_profile("headrace"), derandomize=True)
"""For CI: what it refuses is what a change did, and not what was drawn for it. Everywhere else each run draws anew."""
settings.load_profile("headrace")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)  # still nothing here, and what is started inherits no handler


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's own limit is as patient as what it waits for."""
    otherwise = float(config.getini("timeout"))
    for item in items:
        own = item.get_closest_marker("timeout")
        seconds = own.args[0] if own is not None else otherwise
        item.add_marker(pytest.mark.timeout(seconds * PATIENCE), append=False)
