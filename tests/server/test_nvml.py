"""Which NVIDIA device is read, and what stands where it tells nothing. NVML itself is a fake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gpu_machine import gpu_machine

NAME = "NVIDIA A100-SXM4-40GB"
PROGRAM = """
import json, logging, sys
from dataclasses import asdict
from trt_server.devices.nvml import gpu_device
logging.basicConfig()
device = gpu_device(*json.loads(sys.argv[1]))
reading = device.read()
print(json.dumps({"name": device.name, **asdict(device.read())}))
"""


def read(tmp_path: Path, *arguments: str, **environment: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **gpu_machine(tmp_path), **environment},
        timeout=120,
    )
    return json.loads(done.stdout), done.stderr


def test_units_and_what_is_absent(tmp_path: Path) -> None:
    reading, _ = read(tmp_path, NAME, "0000:00:1E.0")
    assert reading == {
        "name": NAME,
        "memory_used_bytes": 2 * 1024**3,
        "memory_peak_bytes": 2 * 1024**3,
        "memory_total_bytes": 8 * 1024**3,
        "memory_used_by_all_bytes": 3 * 1024**3,
        "power_watts": 250.5,
        "energy_joules": None,
        "temperature_celsius": 61.0,
        "sm_clock_hertz": 1.41e9,
        "memory_clock_hertz": 1.593e9,
        "id": "GPU-1111-first",
        "part": None,
    }


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        ("0", NAME),
        ("1", f"{NAME} (second)"),
        ("1,0", f"{NAME} (second)"),
        ("GPU-2222-second", f"{NAME} (second)"),
        ("GPU-2222", f"{NAME} (second)"),
    ],
)
def test_first_visible_device(tmp_path: Path, visible: str, name: str) -> None:
    reading, _ = read(tmp_path, NAME, CUDA_VISIBLE_DEVICES=visible)
    assert reading["name"] == name


def test_device_that_nvml_does_not_find_tells_its_name_alone(tmp_path: Path) -> None:
    reading, errors = read(tmp_path, NAME, CUDA_VISIBLE_DEVICES="GPU-3333")
    assert reading.pop("name") == NAME
    assert set(reading.values()) == {None}
    assert "NVML says Not Found" in errors
