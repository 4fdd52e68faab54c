"""Fixtures that several of the client's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared_campaign import ComparedCampaign, run_compared_campaign
from mmlu import write_benchmark
from tokenizer_kinds import byte_level, write_tokenizer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two subjects of different sizes; a module that needs others has a fixture of its own."""
    return write_benchmark(tmp_path / "data", {"alpha": 7, "beta": 4})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder that a run is to be written to; it is not there yet."""
    return tmp_path / "run"


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer's files."""
    return write_tokenizer(byte_level(), tmp_path_factory.mktemp("tokenizer") / "files")


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> ComparedCampaign:
    """A campaign that has come to its end, for tests that only read its folder."""
    return run_compared_campaign(tmp_path_factory.mktemp("compared"))
