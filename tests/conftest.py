"""Shared by every test: hypothesis without a clock, since these machines are shared and slow at times, and a Ctrl-C
that reaches what a test starts also where a shell runs the tests in the background and has it ignored."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headrace")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
