"""Dashboard, alert rules and their tests against the metrics that are really exported."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from guard.policy import Action
from guard.verdict import Verdict
from online.admission.queued import FATES
from online.registry.release_record import Stage
from serving.metrics import RELEASE_OUTCOMES, ROUTES, UNREPORTED, UPDATE_OUTCOMES, Metrics
from tests.deploy.promtool import check_exposition, promtool

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = json.loads((DEPLOY / "grafana" / "sirl-guard.json").read_text())
GROUPS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RULE_TESTS = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
ANNOTATIONS = DASHBOARD["annotations"]["list"]
DASHBOARD_EXPRESSIONS = [target["expr"] for _, target in TARGETS] + [entry["expr"] for entry in ANNOTATIONS]

VLLM = {"vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_bucket"}
"""Metrics of vLLM that we rely on; `test_vllm_exports_what_we_use` looks for them in vLLM itself."""
CLOSED = {
    "verdict": {verdict.value for verdict in Verdict},
    "action": {action.value for action in Action},
    "outcome": {*UPDATE_OUTCOMES, *RELEASE_OUTCOMES},
    "stage": set(get_args(Stage)),
    "side": {"serving", "new"},
    "reason": set(UNREPORTED),
    "fate": set(FATES),
    "route": set(ROUTES),
}


def exported() -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return Metrics(registry), registry


def families(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Names of the samples of each metric, without the creation times that come of themselves."""
    return {
        metric.name: {sample.name for sample in metric.samples if not sample.name.endswith("_created")}
        for metric in registry.collect()
    }


def names(expression: str) -> set[str]:
    """The metrics of ours and of vLLM in an expression, strings and label matchers left out."""
    return set(re.findall(r"\b(?:sirl_\w+|vllm:[\w:]+)", re.sub(r"\{[^}]*\}", "", expression)))


def substituted(expression: str) -> str:
    """A dashboard's expression as Grafana sends it."""
    variables = {"job": "sirl-guard", "instance": ".+", "verdict": "refusal|plain", "__rate_interval": "1m"}
    for name, value in variables.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression, expression
    return expression


def alerts_in(test: dict) -> set[str]:
    samples = [sample for query in test["promql_expr_test"] for sample in query["exp_samples"]]
    return {re.search(r'alertname="(\w+)"', sample["labels"])[1] for sample in samples}


# ------------------------------------------------------------------------------------------------ names


def test_every_metric_used_exists():
    known = set().union(*families(exported()[1]).values()) | VLLM
    for expression in [*DASHBOARD_EXPRESSIONS, *(rule["expr"] for rule in RULES)]:
        used = names(expression)
        assert used or 'up{job="sirl-guard"}' in expression, expression
        assert used <= known, f"{used - known} in {expression}"


def test_variables_ask_for_metrics_that_exist():
    known = set().union(*families(exported()[1]).values())
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            assert names(variable["definition"]) and names(variable["definition"]) <= known
            assert variable["query"]["query"] == variable["definition"]


def test_every_metric_is_on_the_dashboard():
    shown = set().union(*map(names, (target["expr"] for _, target in TARGETS)))
    for family, samples in families(exported()[1]).items():
        assert shown & samples, f"{family} is on no panel"


def test_vllm_exports_what_we_use():
    vllm = find_spec("vllm")
    if vllm is None:
        pytest.skip("vLLM is not installed")
    source = (Path(vllm.submodule_search_locations[0]) / "v1" / "metrics" / "loggers.py").read_text()
    for name in VLLM:
        assert f'"{name.removesuffix("_total").removesuffix("_bucket")}"' in source, name


# ------------------------------------------------------------------------------------------------ dashboard


def test_dashboard_can_be_imported():
    assert DASHBOARD["id"] is None and DASHBOARD["uid"] and DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 39
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "job", "instance", "verdict"}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["verdict"]["query"].split(",") == [verdict.value for verdict in Verdict]


def test_panels_are_distinct_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["w"] > 0 and place["h"] > 0 and place["x"] + place["w"] <= 24
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y, f"{one['title']!r} overlaps {other['title']!r}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_is_complete(panel):
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    heatmap = panel["type"] == "heatmap"
    assert (panel["options"]["yAxis"] if heatmap else panel["fieldConfig"]["defaults"])["unit"]
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["legendFormat"]
        for opening, closing in ("()", "[]", "{}"):
            assert target["expr"].count(opening) == target["expr"].count(closing)
        selectors = re.findall(r"\{([^}]*)\}", target["expr"])
        assert selectors and all('job=~"$job", instance=~"$instance"' in selector for selector in selectors)


def test_dashboard_and_rules_draw_the_same_lines():
    lines = {
        panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"]
        for panel in PANELS
        if "thresholds" in panel["fieldConfig"]["defaults"]
    }
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    assert f"sirl_entropy_gap_nats < {lines['Entropy gap']} " in expressions["SirlEntropyGapLost"]
    waiting = lines["Contested prompts waiting"]
    assert f"sirl_contested_prompts_waiting >= {waiting}\n" in expressions["SirlLearnerStuck"]


def test_dashboard_expressions_parse(tmp_path):
    rules = [
        {"record": f"panel:expression_{number}:check", "expr": substituted(expression)}
        for number, expression in enumerate(DASHBOARD_EXPRESSIONS)
    ]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = promtool("check", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(rules)} rules found" in result.stdout


# ------------------------------------------------------------------------------------------------ rules


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_is_complete(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+m", rule["for"])
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert all(text.strip() for text in rule["annotations"].values())


def test_each_alert_is_shown_firing_and_silent():
    alerts = [rule["alert"] for rule in RULES]
    assert len(set(alerts)) == len(alerts)
    fired = set().union(*map(alerts_in, RULE_TESTS))
    assert fired == set(alerts)
    for test in RULE_TESTS:
        silent = any(not query["exp_samples"] for query in test["promql_expr_test"])
        assert silent, f"{test['name']!r} never shows silence"
    healthy = next(test for test in RULE_TESTS if test["name"] == "a healthy day")
    covered = {re.match(r"[\w:]+", series["series"])[0] for series in healthy["input_series"]}
    used = set().union(*(names(rule["expr"]) for rule in RULES)) | {"up"}
    assert used <= covered and not alerts_in(healthy)


def test_the_readme_explains_each_alert():
    readme = (DEPLOY / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", readme, flags=re.MULTILINE)
    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]


def test_rules_and_configuration_are_sound():
    for arguments in (
        ("check", "rules", PROMETHEUS / "alerts.yml"),
        ("check", "config", PROMETHEUS / "prometheus.yml"),
    ):
        result = promtool(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr


def test_rules_fire_and_stay_silent():
    result = promtool("test", "rules", PROMETHEUS / "alerts.test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


# ------------------------------------------------------------------------------------------------ exposition


def test_exposition_is_sound():
    check_exposition(generate_latest(exported()[1]).decode())


VLLM_LINT = "# TYPE vllm:odd counter\nvllm:odd 1\n"


def test_faults_of_vllm_are_not_ours():
    check_exposition(VLLM_LINT + generate_latest(exported()[1]).decode())


@pytest.mark.parametrize(
    "text",
    [
        "# HELP sirl_odd Odd.\n# TYPE sirl_odd counter\nsirl_odd 1\n",
        "# TYPE sirl_odd gauge\nsirl_odd 1\n",
        "sirl_odd one\n",
        VLLM_LINT,
    ],
    ids=["counter without _total", "no help", "not a number", "nothing of ours"],
)
def test_faults_of_ours_are_found(text):
    with pytest.raises(AssertionError):
        check_exposition(text)


def test_labels_are_closed_sets():
    metrics, registry = exported()
    metrics.live("v7")
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert len(samples) < 400
    seen: dict[str, set[str]] = {}
    for sample in samples:
        for label, value in sample.labels.items():
            seen.setdefault(label, set()).add(value)
    for bound in seen.pop("le"):
        float(bound)
    assert seen.pop("adapter") == {"v7"}
    assert seen == CLOSED
