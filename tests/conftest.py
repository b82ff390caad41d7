"""Shared by every test: hypothesis without a clock, since these machines are shared and slow at times."""

from hypothesis import HealthCheck, settings

settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headrace")
