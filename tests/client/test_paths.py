"""Paths that no file can have, wherever one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from client_process import client, the_error

PLACES: dict[str, list[str]] = {
    "report": ["report", "PATH"],
    "compare": ["compare", "PATH", "PATH"],
    "compare --output": ["compare", "a", "b", "--output", "PATH"],
    "campaign": ["campaign", "PATH", "--dry-run"],
    "campaign --output": ["campaign", "FILE", "--output", "PATH"],
    "--output": ["--output", "PATH"],
    "--resume": ["--resume", "PATH"],
    "--data": ["--data", "PATH"],
    "--include-path": ["--task", "x", "--include-path", "PATH"],
    "--token-file": ["--token-file", "PATH"],
    "--api-key-file": ["--url", "http://localhost:1", "--api-key-file", "PATH"],
    "--tls-ca": ["--url", "grpcs://localhost:1", "--tls-ca", "PATH"],
    "--tls-cert": ["--url", "grpcs://localhost:1", "--tls-cert", "PATH"],
    "--tls-key": ["--url", "grpcs://localhost:1", "--tls-key", "PATH"],
    "--tokenizer": ["--tokenizer", "PATH"],
    "--model-config": ["--url", "http://localhost:1", "--model-config", "PATH"],
}
LONG = f"./{'a' * 300}"
CAMPAIGN = "models: [demo]\nworkloads: {a: {limit: 1}}\nloads: {one: {bs: 1}}\n"


@pytest.mark.parametrize("words", PLACES.values(), ids=PLACES)
def test_a_path_that_no_file_can_have_is_refused_in_one_line(tmp_path: Path, words: list[str]) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop.name)
    said = {
        "~nosuchuser/x": "'~nosuchuser/x' is no path: the home folder that it begins with is not known",
        LONG: "is no path: a name in it has 300 bytes, and 255 are the most",
        str(loop): "is no path: a link in it leads to itself",
    }
    for path, what in said.items():
        result = client(*(word.replace("PATH", path) for word in words))
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()  # each command puts its own name before it
        assert ": error: " in line
        assert what in line
    assert [each.name for each in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            CAMPAIGN.replace("demo", '"a\\0b"'),
            "1: `model` of a model holds characters that no argument can have",
        ),
        (CAMPAIGN.replace("demo", '"a\\uD800b"'), "1: `model` of a model holds characters that no argument"),
        (CAMPAIGN.replace("limit: 1", 'data: "a\\0b"'), "2: `data` of a workload holds characters that no"),
        (CAMPAIGN.replace("limit: 1", "data: ~nosuchuser/x"), "2: "),
        (CAMPAIGN.replace("limit: 1", f"data: {LONG}"), "2: "),
        (
            CAMPAIGN.replace("models: [demo]", 'servers: {s: {url: "a\\0b:1"}}'),
            "1: `url` has to be an address",
        ),
    ],
)
def test_a_campaigns_path_that_no_file_can_have(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(text)
    result = client("campaign", file, "--output", tmp_path / "campaign", "--dry-run")
    assert result.returncode == 2
    assert f"{file}:{said}" in the_error(result)
    if said == "2: ":
        assert "is no path: " in the_error(result)
    assert not (tmp_path / "campaign").exists()
