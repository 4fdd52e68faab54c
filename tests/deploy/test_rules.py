"""Prometheus' own tools on the configuration and the rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tools.watching.prometheus import CONFIGURATION

CASES = Path(__file__).with_name("rules.test.yml")


def test_prometheus_accepts_the_configuration_and_the_rules(promtool: str) -> None:
    checked = run(promtool, "check", "config", "--lint-fatal", str(CONFIGURATION / "prometheus.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_fires_where_it_should_and_not_before(promtool: str) -> None:
    tested = run(promtool, "test", "rules", str(CASES))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    cases = [case for test in read(CASES)["tests"] for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts()
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    # Failing requests have theirs in a server of the same case that has none.
    assert quiet == alerts() - {"TrtServerRequestsFail"}


def test_the_documentation_names_every_alert() -> None:
    page = (CONFIGURATION.parents[1] / "docs" / "watching.md").read_text()
    assert set(re.findall(r"`(TrtServer\w+)`", page)) == alerts()


def alerts() -> set[str]:
    groups = read(CONFIGURATION / "rules" / "alerts.yml")["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
