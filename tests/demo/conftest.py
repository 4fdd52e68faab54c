"""What the demo's tests share: the shipped files and the tools that made them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from trt_common import demo as demo_checkpoint

ROOT = Path(__file__).parents[2]
# The tools are no installed package.
sys.path.insert(0, str(ROOT))

from tools.demo_model.split import Split, split  # noqa: E402
from tools.demo_model.subjects import all_subjects  # noqa: E402


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return demo_checkpoint.FOLDER


@pytest.fixture(scope="session")
def benchmark_folder() -> Path:
    return ROOT / "client" / "mmlu_client" / "data" / "demo"


@pytest.fixture(scope="session")
def splits() -> list[Split]:
    return [split(subject) for subject in all_subjects()]
