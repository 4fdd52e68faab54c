"""Tests of the engine on a real device. Without one each is skipped with the reason.

    python -m pytest --confcutdir tests/gpu tests/gpu

confcutdir: the other tests' fixtures want PyTorch in this process, which a Python with TensorRT may lack. The
answers that are compared with come from transformers in another process, of the Python that REFERENCE_PYTHON
names (this one where it has PyTorch, else python3).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from continued_prompts import Tokens, packed
from gpu.families import (
    CONTINUED,
    FAMILIES,
    LARGE,
    LARGE_DEVIATION,
    PROMPTS,
    WIDE,
    WIDE_PROMPTS,
    WIDE_SIZES,
    write_family,
)
from numpy.typing import NDArray
from trt_server.engines.tensorrt.presence import Missing

from bench.found_gpu import find_gpu
from bench.reference_python import reference_environment, reference_python

HERE = Path(__file__).parent
Expected = dict[str, NDArray[np.float32]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = find_gpu()
    if isinstance(found, Missing):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"TensorRT cannot run here: {found.reason}"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all tests: later builds know the timings of earlier ones."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TRT_SERVER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family → a small random checkpoint of it; and LARGE."""
    root = tmp_path_factory.mktemp("checkpoints")
    folders = {family: write_family(root / family, family) for family in FAMILIES}
    return {**folders, LARGE: write_family(root / LARGE, "llama", LARGE_DEVIATION)}


@pytest.fixture(scope="session")
def expected(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expected]:
    """Family → prompt's number → log-probabilities of the whole vocabulary, from transformers in fp32."""
    return ask_reference(PROMPTS, folders, tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="session")
def continued_expected(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[Tokens, NDArray[np.float32]]]:
    """Family → text → log-probabilities of the token after it, for all texts that CONTINUED asks about."""
    contexts = list(dict.fromkeys(packed(CONTINUED).contexts))
    asked = [np.array(context, np.int32) for context in contexts]
    families = {family: folders[family] for family in FAMILIES}
    found = ask_reference(asked, families, tmp_path_factory.mktemp("reference"))
    return {
        family: {context: arrays[str(number)] for number, context in enumerate(contexts)}
        for family, arrays in found.items()
    }


@pytest.fixture(scope="session")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("checkpoints") / WIDE, "llama", sizes=WIDE_SIZES)


@pytest.fixture(scope="session")
def wide_expected(wide_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return ask_reference(WIDE_PROMPTS, {WIDE: wide_folder}, tmp_path_factory.mktemp("reference"))[WIDE]


def ask_reference(asked: list[NDArray[np.int32]], folders: dict[str, Path], out: Path) -> dict[str, Expected]:
    prompts = out / "prompts.npz"
    np.savez(prompts, *asked)
    paths = [HERE / "reference.py", prompts, out, *folders.values()]
    command = [reference_python(), *map(str, paths)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=reference_environment()
    )
    if done.returncode:
        pytest.fail(f"the reference failed ({reference_python()}): {done.stderr[-2000:]}")
    return {family: dict(np.load(out / f"{family}.npz")) for family in folders}
