"""The manifests: against the published schemas, and against what the server really is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import DOCKERFILE, ROOT, instructions
from server_flags import environment_names
from trt_server.command_line import parse_settings, parser
from trt_server.server import LAST_WRITES_SECONDS

from tools.watching.observed_run import ObservedRun

FOLDER = DOCKERFILE.parent / "kubernetes"
OVERLAYS = ("cpu", "gpu")
NAME = {"app.kubernetes.io/name": "trt-server"}


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Kind → manifest, as `kubectl apply --kustomize` would send them."""
    return build(request.param)


@pytest.fixture(scope="module")
def gpu() -> dict[str, Any]:
    return build("gpu")


@pytest.fixture(scope="module", params=OVERLAYS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same with tokens and TLS, in an overlay of a site's own."""
    folder = tmp_path_factory.mktemp("site")
    base, component = (
        os.path.relpath(FOLDER / each, folder) for each in (f"overlays/{request.param}", "components/access")
    )
    own = {"resources": [base], "components": [component]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return build(folder)


def build(overlay: str | Path) -> dict[str, Any]:
    """overlay: the name of one of ours, or the folder of another."""
    if (kubectl := shutil.which("kubectl")) is not None:
        command = [kubectl, "kustomize"]
    elif (kustomize := shutil.which("kustomize")) is not None:
        command = [kustomize, "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    built = subprocess.run(
        [*command, str(FOLDER / "overlays" / overlay if isinstance(overlay, str) else overlay)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert built.returncode == 0, built.stderr
    assert not built.stderr
    documents = list(yaml.safe_load_all(built.stdout))
    kinds = {document["kind"]: document for document in documents}
    assert len(kinds) == len(documents)
    return kinds


def test_every_manifest_fits_its_published_schema(manifests: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for kind, manifest in manifests.items():
        # The Prometheus operator's own kind: not among Kubernetes' schemas.
        if kind != "ServiceMonitor":
            validate.validate(manifest, "1.30", strict=True)


def test_the_schema_refuses_what_is_not_in_it(manifests: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    with pytest.raises(validate.ValidationError):
        validate.validate({**manifests["Service"], "spec": {"portz": []}}, "1.30", strict=True)


def test_service_budget_and_monitor_select_the_servers(manifests: dict[str, Any]) -> None:
    pods = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert pods == manifests["Service"]["spec"]["selector"] == NAME
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == NAME
    if "ServiceMonitor" in manifests:
        monitor = manifests["ServiceMonitor"]["spec"]
        assert monitor["selector"]["matchLabels"] == manifests["Service"]["metadata"]["labels"] == NAME
        # The rules ask for job="trt-server".
        assert NAME[monitor["jobLabel"]] == "trt-server"
        ports = {port["name"] for port in manifests["Service"]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports


def test_ports_are_those_of_the_server_and_of_the_image(manifests: dict[str, Any]) -> None:
    grpc_port, metrics_port = (parser().get_default(f"{port}_port") for port in ("grpc", "metrics"))
    expected = {"grpc": grpc_port, "metrics": metrics_port}
    server = container(manifests)
    assert {port["name"]: port["containerPort"] for port in server["ports"]} == expected
    assert {port["name"]: port["port"] for port in manifests["Service"]["spec"]["ports"]} == expected
    assert all(port["targetPort"] == port["name"] for port in manifests["Service"]["spec"]["ports"])
    exposed = {int(port) for line in instructions() if line.name == "EXPOSE" for port in line.text.split()}
    assert exposed == set(expected.values())
    probes = [server[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "readiness", "liveness")]
    assert probes == [grpc_port] * 3


def test_the_service_gives_every_servers_address(manifests: dict[str, Any]) -> None:
    assert manifests["Service"]["spec"]["clusterIP"] == "None"


def test_settings_are_flags_and_the_server_takes_them(
    manifests: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = manifests["ConfigMap"]["data"]
    assert settings.keys() <= environment_names()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert parser().parse_args([]).drain_timeout == float(settings["TRT_SERVER_DRAIN_TIMEOUT"])
    (source,) = container(manifests)["envFrom"]
    assert source["configMapRef"]["name"] == manifests["ConfigMap"]["metadata"]["name"]


def test_a_pod_may_take_as_long_to_stop_as_its_drain(manifests: dict[str, Any]) -> None:
    drain = float(manifests["ConfigMap"]["data"]["TRT_SERVER_DRAIN_TIMEOUT"])
    command, seconds = container(manifests)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    grace = manifests["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > float(seconds) + drain + LAST_WRITES_SECONDS


def test_plans_and_weights_lie_on_a_volume_that_all_gpu_servers_share(gpu: dict[str, Any]) -> None:
    claim = gpu["PersistentVolumeClaim"]
    assert volumes(gpu)["cache"] == {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_servers_on_the_processor_need_no_storage_class() -> None:
    cpu = build("cpu")
    assert "PersistentVolumeClaim" not in cpu
    assert set(map(str, volumes(cpu).values())) == {"{'emptyDir': {}}"}


def test_plans_and_weights_lie_on_the_volume(manifests: dict[str, Any]) -> None:
    (mount,) = (
        mount["mountPath"] for mount in container(manifests)["volumeMounts"] if mount["name"] == "cache"
    )
    environment = next(
        line.text for line in instructions() if line.name == "ENV" and "TRT_SERVER_CACHE" in line.text
    )
    for variable in ("TRT_SERVER_CACHE", "HF_HOME"):
        found = re.search(rf"{variable}=(\S+)", environment)
        assert found is not None
        assert found[1].startswith(f"{mount}/")


def test_the_user_is_that_of_the_image(manifests: dict[str, Any]) -> None:
    (user,) = (line.text for line in instructions() if line.name == "USER")
    security = manifests["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["fsGroup"] == security["runAsGroup"]


def test_the_image_is_a_target_of_the_dockerfile(manifests: dict[str, Any]) -> None:
    stages = {line.text.split(" AS ")[1] for line in instructions() if line.name == "FROM"}
    assert container(manifests)["image"].partition(":")[2] in stages


def test_each_replica_asks_for_a_gpu(gpu: dict[str, Any]) -> None:
    assert container(gpu)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in container(build("cpu"))["resources"]["limits"]


def test_the_autoscaler_and_nobody_else_says_how_many_there_are(gpu: dict[str, Any]) -> None:
    spec = gpu["HorizontalPodAutoscaler"]["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": gpu["Deployment"]["apiVersion"],
        "kind": "Deployment",
        "name": gpu["Deployment"]["metadata"]["name"],
    }
    assert "replicas" not in gpu["Deployment"]["spec"]
    assert gpu["PodDisruptionBudget"]["spec"]["maxUnavailable"] < spec["minReplicas"]


def test_the_autoscalers_metric_is_what_the_adapters_rule_gives(
    gpu: dict[str, Any], observed_run: ObservedRun
) -> None:
    """The rule's query, filled in as the adapter does it, asked of a Prometheus that watched a run."""
    (metric,) = gpu["HorizontalPodAutoscaler"]["spec"]["metrics"]
    values = read(FOLDER / "components" / "autoscaling" / "adapter-values.yaml")
    (rule,) = values["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    query = (
        rule["metricsQuery"]
        .replace("<<.GroupBy>>", "instance")
        .replace("<<.LabelMatchers>>", 'instance=~".+"')
    )
    (series,) = observed_run.prometheus.query(query, observed_run.end)
    # Little's law: four in flight on a server that takes one at a time wait for three others at most.
    assert 0 < series.values[0][1] < 4 * observed_run.summary["latency_p99_seconds"]
    selector = rule["seriesQuery"].replace(',namespace!="",pod!=""', "")
    assert observed_run.prometheus.query(selector, observed_run.end)


def test_the_documented_command_makes_the_operator_a_rule_of_each_file() -> None:
    page = (ROOT / "docs" / "deploying.md").read_text()
    found = re.search(r"^ +for rules in .*?^ +done", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    made = subprocess.run(
        ["bash", "-c", found[0]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    documents = [document for document in yaml.safe_load_all(made.stdout) if document is not None]
    files = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    names = [f"trt-server-{file.stem}" for file in files]
    assert [document["metadata"]["name"] for document in documents] == names
    assert [document["spec"] for document in documents] == [read(file) for file in files]
    assert {document["kind"] for document in documents} == {"PrometheusRule"}


def test_tokens_and_certificates_come_from_one_secret(
    guarded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for kind in ("Deployment", "Service"):
        validate.validate(guarded[kind], "1.30", strict=True)
    secret = volumes(guarded)["access"]["secret"]["secretName"]
    (mount,) = (each for each in container(guarded)["volumeMounts"] if each["name"] == "access")
    environment = {each["name"]: each.get("value") for each in container(guarded)["env"]}
    for name in environment.keys() & environment_names():
        monkeypatch.setenv(name, environment[name])
    settings = parse_settings([])
    files = (settings.token_file, settings.tls_cert, settings.tls_key)
    assert {str(file and file.parent) for file in files} == {mount["mountPath"]}
    assert settings.metrics_tls
    assert settings.metrics_token
    made = (FOLDER / "components" / "access" / "kustomization.yaml").read_text()
    assert f"create secret generic {secret} " in made
    keys = re.findall(r"--from-file (\S+)", made)
    assert {file.name for file in files if file} <= set(keys)
    if "ServiceMonitor" in guarded:
        (endpoint,) = guarded["ServiceMonitor"]["spec"]["endpoints"]
        asked = (endpoint["tlsConfig"]["ca"]["secret"], endpoint["authorization"]["credentials"])
        assert [(each["name"], each["key"] in keys) for each in asked] == [(secret, True)] * 2
        assert (endpoint["scheme"], endpoint["port"]) == ("https", "metrics")
        # Clients find the servers by the same name.
        assert endpoint["tlsConfig"]["serverName"] == guarded["Service"]["metadata"]["name"]


def test_probes_under_tls_are_the_health_check_of_the_image(guarded: dict[str, Any]) -> None:
    (line,) = (line.text for line in instructions() if line.name == "HEALTHCHECK")
    command = json.loads(line[line.index("[") :])
    for kind in ("startup", "readiness", "liveness"):
        probe = container(guarded)[f"{kind}Probe"]
        assert probe["exec"]["command"] == command
        assert "grpc" not in probe


def volumes(manifests: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → what it is."""
    each = manifests["Deployment"]["spec"]["template"]["spec"]["volumes"]
    return {
        volume["name"]: {kind: what for kind, what in volume.items() if kind != "name"} for volume in each
    }


def container(manifests: dict[str, Any]) -> dict[str, Any]:
    (only,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
