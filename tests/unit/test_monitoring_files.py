"""The alert rules, the dashboard and their pages say what the code tells: every metric is one, every expression parses,
every alert has its page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from headrace import metrics, task_names

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s-deploy" / "monitoring"
RULES = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS_PAGE = (ROOT / "docs" / "alerts.md").read_text()
MONITORING_PAGE = (ROOT / "docs" / "monitoring.md").read_text()
NAME = re.compile(r"headrace_[a-z_]+")
TARGETS_LABEL = "namespace"
"""Prometheus gives it to every target, and so to each of its series: it tells installations apart."""
PARTS = ("**It means**", "**Headrace shows**", "**Do**")


def series() -> Iterator[tuple[str, frozenset[str]]]:
    """Every series that /metrics may have, with its labels."""
    for each in vars(metrics).values():
        if isinstance(each, Counter):
            yield f"{each._name}_total", frozenset(each._labelnames)
        elif isinstance(each, Histogram):
            for end in ("bucket", "sum", "count"):
                yield f"{each._name}_{end}", frozenset([*each._labelnames, *(["le"] if end == "bucket" else [])])
        elif isinstance(each, Gauge):
            yield each._name, frozenset(each._labelnames)
        elif isinstance(each, metrics.Fact):
            yield each.name + "_total" * (each.kind == "counter"), frozenset({each.label} - {""})


SERIES = dict(series())
TARGETS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in RULES), *TARGETS]
every_expression = pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[each for each, _ in EXPRESSIONS])


def nodes(node: Any) -> Iterator[Any]:
    """Every part of an expression."""
    yield node
    for name in ("vector_selector", "expr", "lhs", "rhs", "param"):
        below = getattr(node, name, None)
        if below is not None and not isinstance(below, str):
            yield from nodes(below)
    for below in getattr(node, "args", ()) or ():
        yield from nodes(below)


def parsed(expression: str) -> Any:
    """As Prometheus reads it; Grafana puts an interval in the variable's place."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of series in an expression."""
    return (each for each in nodes(node) if isinstance(each, promql_parser.VectorSelector))


@every_expression
def test_an_expression_parses_and_asks_for_series_that_there_are(where: str, expression: str) -> None:
    found = list(selectors(parsed(expression)))
    assert {each.name for each in found} == set(NAME.findall(expression)), where
    for each in found:
        assert each.name in SERIES, where
        asked = {matcher.name for matcher in each.matchers.matchers} - {TARGETS_LABEL}
        assert asked <= SERIES[each.name], f"{where}: {each.name} has no label {asked - SERIES[each.name]}"


@every_expression
def test_it_groups_by_labels_that_the_series_have(where: str, expression: str) -> None:
    grouped = {word for group in re.findall(r"\bby \(([^)]*)\)", expression) for word in re.findall(r"\w+", group)}
    has = set().union(*(SERIES[name] for name in NAME.findall(expression)))
    assert grouped - {TARGETS_LABEL} <= has, where


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_judges_each_installation_by_itself(rule: dict[str, Any]) -> None:
    """Else what is dead in one of them hides behind another one's."""
    parts = list(nodes(parsed(rule["expr"])))
    for each in parts:
        if isinstance(each, promql_parser.AggregateExpr):
            assert each.modifier is not None, rule["expr"]
            assert each.modifier.type == promql_parser.AggModifierType.By
            assert TARGETS_LABEL in each.modifier.labels
    assert any(isinstance(each, promql_parser.AggregateExpr) for each in parts)


@pytest.mark.parametrize(("panel", "expression"), TARGETS, ids=[each for each, _ in TARGETS])
def test_a_panel_shows_the_installation_that_was_chosen(panel: str, expression: str) -> None:
    for each in selectors(parsed(expression)):
        asked = {matcher.name: matcher.value for matcher in each.matchers.matchers}
        assert asked[TARGETS_LABEL] == "$namespace", panel
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "namespace"]
    assert variable["query"] == "label_values(headrace_store_up, namespace)"


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_has_its_page_with_what_it_means_what_shows_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Headrace[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    section = ALERTS_PAGE.partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]
    assert [part for part in PARTS if part not in section] == []


def test_what_nobody_tells_any_more_and_what_nobody_takes_have_alerts() -> None:
    """The consumer's lag goes with the consumer, and a launcher tells nothing that the workers do not tell too."""
    asks = {rule["alert"]: {each.name for each in selectors(parsed(rule["expr"]))} for rule in RULES}
    assert asks["HeadraceConsumerAway"] == {"headrace_consumer_lag_records"}
    assert asks["HeadraceLauncherAway"] == {"headrace_queue_length", "headrace_tasks_total"}
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    assert f'queue="{task_names.LAUNCHES_QUEUE}"' in expressions["HeadraceLauncherAway"]
    assert f'name="{task_names.LAUNCH}"' in expressions["HeadraceLauncherAway"]


def test_the_page_has_no_alert_that_there_is_not_and_each_once() -> None:
    assert re.findall(r"^## (\w+)$", ALERTS_PAGE, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_pages_name_metrics_that_there_are_and_all_of_them() -> None:
    told = set(SERIES) | {name.removesuffix("_bucket") for name in SERIES if name.endswith("_bucket")}
    assert set(NAME.findall(ALERTS_PAGE)) - told == set()
    rows = re.findall(r"^\| `(headrace_\w+)` \|([^|]*)\|", MONITORING_PAGE, re.MULTILINE)
    whole = {re.sub(r"_(bucket|sum|count)$", "", name): labels - {"le"} for name, labels in SERIES.items()}
    assert {name: frozenset(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == whole
    assert len(rows) == len(whole)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name) for _, expression in TARGETS for name in NAME.findall(expression)
    }
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERIES} - shown == set()


def test_facts_that_every_api_tells_are_never_added_up() -> None:
    """`increase` of what stands still is 0 however often it is added; a sum of jobs is as many times too large."""
    told = {each.name for each in metrics.FACTS if each.kind == "gauge"}
    for where, expression in EXPRESSIONS:
        summed = re.findall(r"\bsum(?: by \([^)]*\))? \(?(headrace_\w+)", expression)
        assert set(summed) & told == set(), where


def test_the_rules_are_the_spec_of_a_prometheus_rule() -> None:
    """As docs/monitoring.md makes one of them."""
    indented = "".join(f"  {line}" for line in (MONITORING / "alerts.yaml").read_text().splitlines(keepends=True))
    made = yaml.safe_load(f"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nspec:\n{indented}")
    assert [rule for group in made["spec"]["groups"] for rule in group["rules"]] == RULES


def test_the_dashboard_asks_for_its_prometheus_and_has_one_panel_an_id() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"} == {"${datasource}"}
