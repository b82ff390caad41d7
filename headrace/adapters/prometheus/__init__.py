"""What a process counts and what the installation looks like, in Prometheus' words. Knows no web framework."""

from headrace.adapters.prometheus.counting import counted
from headrace.adapters.prometheus.facts import FactsPage
from headrace.adapters.prometheus.serving import serve

__all__ = ["FactsPage", "counted", "serve"]
