"""Fixtures that more than one part's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from processes import PEAK, ServerProcess

# Of the tests that run ONNX Runtime themselves.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The tests' own calls go to this machine, and gRPC and urllib would ask a proxy of the environment for it.
NO_PROXY = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
os.environ["no_proxy"] = ",".join(filter(None, (NO_PROXY, "localhost,127.0.0.1,127.0.0.2,::1")))


# Files that take longest, which begin first: a worker that takes one of them last would be alone with it.
LONG = (
    "client/test_tasks.py",
    "torture/test_torture.py",
    "client/test_http_answers.py",
    "server/test_tensorrt.py",
    "server/test_request_memory.py",
    "server/test_lm_eval.py",
    "server/test_connections.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave the others in their order."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix()
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture
def measured_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of the servers that a test starts is measured."""
    monkeypatch.delenv(PEAK)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama checkpoint with a tokenizer."""
    return write_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def slow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that takes a noticeable part of a second for a long batch."""
    return write_checkpoint(
        tmp_path_factory.mktemp("slow"),
        "llama",
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
    )


@pytest.fixture(scope="session")
def http_server(llama_folder: Path) -> Iterator[ServerProcess]:
    """The same with an HTTP port."""
    with ServerProcess("--model", str(llama_folder), "--max-batch-size", "4", "--http-port", "0") as process:
        yield process.wait_until_serving()


@pytest.fixture(scope="session")
def server(llama_folder: Path) -> Iterator[ServerProcess]:
    """A server of the small checkpoint, for tests that leave it as it was."""
    with ServerProcess("--model", str(llama_folder), "--max-batch-size", "8") as process:
        yield process.wait_until_serving()
