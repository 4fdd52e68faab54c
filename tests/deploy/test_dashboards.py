"""Every panel of every dashboard, asked of a Prometheus that watched a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from observed_campaign import ObservedCampaign
from processes import ServerProcess

from tools.watching.dashboard import FOLDER, Dashboard, Panel, Query, dashboards
from tools.watching.observed_run import ObservedRun
from tools.watching.prometheus import CONFIGURATION, Prometheus, Series

CAMPAIGN = "campaign"
# What no processor tells: in a row of its own that is closed at first.
GPU_ROW = "GPU"
# As Grafana takes it: four scrapes.
RATE_INTERVAL = "4s"
PANELS = [
    pytest.param(dashboard, panel, id=f"{dashboard.uid}: {panel.row}, {panel.title}")
    for dashboard in dashboards()
    for panel in dashboard.panels
]


def is_of_gpus(parameters: Any) -> bool:
    _, panel = parameters.values
    return bool(panel.row == GPU_ROW)


def is_of_campaigns(parameters: Any) -> bool:
    dashboard, _ = parameters.values
    return bool(dashboard.uid == CAMPAIGN)


@pytest.mark.parametrize(("dashboard", "panel"), [each for each in PANELS if is_of_campaigns(each)])
def test_a_panel_has_data_while_a_campaign_is_on(
    dashboard: Dashboard, panel: Panel, observed_campaign: ObservedCampaign
) -> None:
    seen = observed_campaign
    for query in panel.queries:
        expression = query.filled(variables(dashboard, ""))
        if query.instant:
            series = seen.prometheus.query(expression, seen.end)
        else:
            series = seen.prometheus.query_range(expression, seen.start, seen.end, 0.5)
        assert_tells(query, series)


@pytest.mark.parametrize(
    ("dashboard", "panel"), [each for each in PANELS if not (is_of_gpus(each) or is_of_campaigns(each))]
)
def test_a_panel_has_data_while_a_run_is_on(
    dashboard: Dashboard, panel: Panel, observed_run: ObservedRun
) -> None:
    for query in panel.queries:
        expression = query.filled(variables(dashboard, observed_run.client))
        run, prometheus = observed_run, observed_run.prometheus
        if query.instant:
            series = prometheus.query(expression, run.end)
        else:
            series = prometheus.query_range(expression, run.start, run.end, 1.0)
        assert_tells(query, series)


@pytest.mark.parametrize(("dashboard", "panel"), [each for each in PANELS if is_of_gpus(each)])
def test_a_panel_of_gpus_has_data_where_there_is_one(
    dashboard: Dashboard, panel: Panel, gpu_prometheus: Prometheus
) -> None:
    for query in panel.queries:
        assert_tells(query, gpu_prometheus.query(query.filled(variables(dashboard, ""))))


@pytest.mark.parametrize(("dashboard", "panel"), [each for each in PANELS if is_of_gpus(each)])
def test_a_panel_of_gpus_has_data_of_each(
    dashboard: Dashboard, panel: Panel, gpu_prometheus: Prometheus
) -> None:
    devices = {one.labels["device"] for one in gpu_prometheus.query("trt_server_device_energy_joules_total")}
    assert len(devices) == 2
    for device in devices:
        chosen = {**variables(dashboard, ""), "device": as_chosen(device)}
        for query in panel.queries:
            assert_tells(query, gpu_prometheus.query(query.filled(chosen)))


def test_two_devices_can_be_told_apart(gpu_prometheus: Prometheus) -> None:
    (dashboard,) = (one for one in dashboards() if one.uid == "trt-server")
    for query in (query for panel in dashboard.panels for query in panel.queries):
        series = gpu_prometheus.query(query.filled(variables(dashboard, "")))
        names = [query.name_of(one.labels) for one in series]
        assert len(set(names)) == len(names), f"legends that cannot be told apart: {names}"
    (memory,) = (panel for panel in dashboard.panels if panel.title == "Device memory" and panel.height > 5)
    assert len(gpu_prometheus.query(memory.queries[-1].filled(variables(dashboard, "")))) == 2


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_asks_for_nothing_that_no_code_exports(
    dashboard: Dashboard, panel: Panel, exported: set[str]
) -> None:
    values = dict.fromkeys(dashboard.variables, "x") | {"__rate_interval": RATE_INTERVAL}
    for query in panel.queries:
        assert names_in(query.filled(values)) <= exported


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_query_of_chosen_devices_is_of_no_others(
    dashboard: Dashboard,  # noqa: ARG001
    panel: Panel,
    watched_server: ServerProcess,
) -> None:
    """A ratio's two sides are of the same devices."""
    labelled = watched_server.metrics(by_device=True).keys() - watched_server.metrics().keys()
    told = {name.partition("{")[0] for name in labelled}
    assert "trt_server_tokens_total" in told
    for query in (query for query in panel.queries if "$device" in query.expression):
        for name, selector in re.findall(r"\b(trt_server\w+)\{([^}]*)\}", query.expression):
            assert name not in told or 'device=~"$device"' in selector


def test_rules_ask_for_nothing_that_no_code_exports(exported: set[str]) -> None:
    for rule in rules():
        assert names_in(rule["expr"]) <= exported


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_says_what_it_shows(dashboard: Dashboard, panel: Panel) -> None:  # noqa: ARG001
    assert panel.description.endswith(".")
    assert panel.defaults["unit"]
    assert panel.defaults["thresholds"]["steps"]
    if panel.kind == "timeseries":
        assert all(query.legend for query in panel.queries)


@pytest.mark.parametrize("dashboard", [pytest.param(one, id=one.uid) for one in dashboards()])
def test_panels_lie_beside_each_other(dashboard: Dashboard) -> None:
    for one, other in combinations(dashboard.panels, 2):
        apart = (
            one.x + one.width <= other.x
            or other.x + other.width <= one.x
            or one.y + one.height <= other.y
            or other.y + other.height <= one.y
        )
        assert apart, f"{one.title} and {other.title}"
    assert all(panel.x + panel.width <= 24 for panel in dashboard.panels)


@pytest.mark.parametrize("file", [pytest.param(file, id=file.name) for file in sorted(FOLDER.glob("*.json"))])
def test_panels_ask_the_datasource_that_is_chosen(file: Path) -> None:
    content = json.loads(file.read_text())
    assert file.stem == content["uid"]
    chosen, *others = content["templating"]["list"]
    assert (chosen["name"], chosen["type"]) == ("datasource", "datasource")
    panels = [panel for item in content["panels"] for panel in (item, *item.get("panels", []))]
    for asking in (*others, *(panel for panel in panels if panel["type"] != "row")):
        assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)


def test_the_campaigns_variable_offers_its_name(observed_campaign: ObservedCampaign) -> None:
    seen = observed_campaign
    assert offered(FOLDER / f"{CAMPAIGN}.json", seen.prometheus, seen.end) == {"campaign": "watched"}


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, id=file.name) for file in sorted(FOLDER.glob("*.json")) if file.stem != CAMPAIGN],
)
def test_variables_offer_what_the_run_had(file: Path, observed_run: ObservedRun) -> None:
    assert offered(file, observed_run.prometheus, observed_run.end)


def offered(file: Path, prometheus: Prometheus, at: float) -> dict[str, str]:
    """A value of each variable of a dashboard, each chosen among what those before it leave."""
    chosen: dict[str, str] = {}
    for variable in json.loads(file.read_text())["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        selector = re.sub(r"\$(\w+)", lambda name: chosen[name[1]], found[1])
        values = {
            series.labels[found[2]] for series in prometheus.query(selector, at) if found[2] in series.labels
        }
        assert values, variable["name"]
        chosen[variable["name"]] = as_chosen(values.pop())
    return chosen


def test_grafana_is_provisioned_with_what_is_there() -> None:
    provisioning = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yml").read_text())["providers"]
    compose = yaml.safe_load((CONFIGURATION.parent / "compose.yaml").read_text())
    grafana, prometheus = compose["services"]["grafana"], compose["services"]["prometheus"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in grafana["volumes"])
    assert (CONFIGURATION.parent / mounts[provider["options"]["path"]]).resolve() == FOLDER
    assert (CONFIGURATION.parent / mounts["/etc/grafana/provisioning"]).resolve() == provisioning
    assert source["url"] == "$PROMETHEUS_URL"
    assert grafana["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"
    assert prometheus["ports"][0].endswith(":9090")
    scrape = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / Path(home).name).is_file()


@pytest.fixture(scope="session")
def exported(watched_server: ServerProcess) -> set[str]:
    """Every name that a server, a client or a rule gives a sample."""
    from mmlu_client.campaign.watch.metrics import CampaignMetrics
    from mmlu_client.watch.metrics import Metrics as ClientMetrics
    from trt_server.observe.device_metrics import DEVICE_READINGS
    from trt_server.observe.metrics import Metrics as ServerMetrics

    registries = (ClientMetrics().registry, CampaignMetrics("any").registry, ServerMetrics().registry)
    families = [family for registry in registries for family in registry.collect()]
    names = {name for family in families for name in suffixed(family.name, family.type)}
    names |= {f"trt_server_device_{name}" for name in DEVICE_READINGS}
    names.add("trt_server_device_energy_joules_total")
    scraped = {name.partition("{")[0] for name in watched_server.metrics()}
    assert {name for name in scraped if not name.endswith("_created")} <= names
    return names | {rule["record"] for rule in rules() if "record" in rule} | {"up"}


def suffixed(name: str, kind: str) -> Iterator[str]:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    return (name + suffix for suffix in suffixes.get(kind, [""]))


def names_in(expression: str) -> set[str]:
    """The metrics that a query of ours asks for: they are the only words with these beginnings."""
    without_labels = re.sub(r"\{[^}]*\}|\b(?:by|without|on|ignoring) \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:trt_server|mmlu_client|mmlu_campaign)[\w:]*|\bup\b", without_labels))


def rules() -> list[dict[str, Any]]:
    files = sorted((CONFIGURATION / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def variables(dashboard: Dashboard, client: str) -> dict[str, str]:
    instance = client if dashboard.uid == "mmlu-client-run" else ".*"
    chosen = dict.fromkeys(("engine", "device", "campaign"), ".*")
    return {**chosen, "instance": instance, "__rate_interval": RATE_INTERVAL}


def as_chosen(value: str) -> str:
    """A variable's value as Grafana puts it into a query's regular expression."""
    return re.escape(value).replace("\\", "\\\\")


def assert_tells(query: Query, series: Sequence[Series]) -> None:
    """It has an answer, and legends that can be told apart."""
    assert series, f"nothing answers {query.expression}"
    values = [value for one in series for _, value in one.values]
    assert not all(math.isnan(value) for value in values), f"only NaN answers {query.expression}"
    names = [query.name_of(one.labels) for one in series]
    assert len(set(names)) == len(names), f"legends that cannot be told apart: {names}"
