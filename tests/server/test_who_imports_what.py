"""Which module of the server may import what, as docs/architecture.md has it: at its top or in a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "server" / "trt_server"


def imports(file: Path) -> Iterator[str]:
    """Every module that the file names in an import."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str, folder: str = "") -> set[str]:
    """The files below a folder that import a module or one that lies in it."""
    return {
        file.relative_to(PACKAGE).as_posix()
        for file in (PACKAGE / folder).rglob("*.py")
        if any(name == module or name.startswith(f"{module}.") for name in imports(file))
    }


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("torch", {"engines/torch.py"}),
        ("onnxruntime", {"engines/onnxruntime.py"}),
        ("openvino", {"engines/openvino.py", "engines/openvino_model.py"}),
        ("tensorrt", {"engines/tensorrt/library.py"}),
        ("prometheus_client", {"observe/prometheus.py"}),
    ],
)
def test_a_library_is_imported_by_its_own_modules_alone(library: str, modules: set[str]) -> None:
    assert importers(library) == modules


def test_cuda_is_known_to_tensorrts_engine_alone() -> None:
    assert {Path(file).parts[:2] for file in importers("pycuda")} == {("engines", "tensorrt")}


@pytest.mark.parametrize(
    ("folder", "above"),
    [
        ("devices", "engines"),
        ("devices", "model"),
        ("model", "engines"),
        ("model/files", "model.graph"),
        ("engines/tensorrt/plan", "engines.tensorrt.run"),
        ("engines", "loading"),
        ("engines", "scheduling"),
    ],
)
def test_a_folder_imports_nothing_of_what_is_made_of_it(folder: str, above: str) -> None:
    assert importers(f"trt_server.{above}", folder) == set()
