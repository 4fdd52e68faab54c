"""Terminals and locales that are not UTF-8: figures are printed all the same, and files are UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from client_process import SECONDS
from double import Double
from mmlu import write_benchmark
from tokenizer_kinds import byte_level, tokenizer_files
from trt_common.installed_program import program

TOKENIZER = tokenizer_files(byte_level())
NOTICE = "Gewichte zufällig ≠ gelernt"
# A locale that has ASCII alone, which Python must not mend.
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [program("mmlu-client"), *map(str, arguments)],
        capture_output=True,
        timeout=SECONDS,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "gbk"])
def test_what_a_terminal_cannot_show_is_replaced(tmp_path: Path, encoding: str) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 2}), tmp_path / "run"
    with Double(TOKENIZER, notice=NOTICE) as double:
        arguments = ("--url", double.url, "--data", data, "--output", output)
        done = run({"PYTHONIOENCODING": encoding}, *arguments)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert "| tool" in shown
    assert NOTICE.encode(encoding, "replace").decode(encoding) in shown
    assert "?" in shown
    assert b"Traceback" not in done.stderr
    assert NOTICE in (output / "summary.md").read_text(encoding="utf-8")
    assert run({"PYTHONIOENCODING": encoding}, "--help").returncode == 0


def test_files_are_utf_8_in_any_locale(tmp_path: Path) -> None:
    """Written and read in a locale of ASCII alone; no file is left to the locale."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 2}), tmp_path / "run"
    (tmp_path / "run.yaml").write_text("# zwei Fragen ≠ alle\nlimit: 2\n", encoding="utf-8")
    environment = {**ASCII_LOCALE, "PYTHONWARNDEFAULTENCODING": "1"}
    with Double(TOKENIZER, notice=NOTICE) as double:
        arguments = ("--url", double.url, "--data", data, "--output", output)
        made = run(environment, "--config", tmp_path / "run.yaml", *arguments)
        resumed = run(environment, "--resume", output)
    for done in (made, resumed, run(environment, "report", output)):
        assert done.returncode == 0, done.stderr
        assert "| tool" in done.stdout.decode("ascii")
        warned = [line for line in done.stderr.splitlines() if b"EncodingWarning" in line]
        assert not [line for line in warned if b"mmlu_client" in line]
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["model"]["notice"] == NOTICE
