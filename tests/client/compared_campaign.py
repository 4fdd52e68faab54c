"""A campaign of two servers that answer differently and one that refuses, which has come to its end."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_process import client
from double import Double, status
from google.rpc import code_pb2
from mmlu import write_benchmark
from scoring.v1 import scoring_pb2 as pb
from tokenizer_kinds import byte_level, tokenizer_files

SUBJECTS = {"alpha": 13, "beta": 9}
NOTICE = "made up: no model"
CELLS = ("first+all+r1", "first+all+r2", "second+all+r1", "second+all+r2", "third+all+r1")
FINISHED = CELLS[:4]
BASELINE_OF = {
    "second+all+r1": "first+all+r1",
    "second+all+r2": "first+all+r2",
    "third+all+r1": "first+all+r1",
}


@dataclass(frozen=True)
class ComparedCampaign:
    """A campaign's folder, and what its client printed."""

    file: Path
    folder: Path
    done: subprocess.CompletedProcess[str]

    def cell(self, name: str) -> Path:
        return self.folder / "cells" / name


def _other_letters(request: pb.ScoreRequest, response: pb.ScoreResponse) -> None:
    """Choose another letter where a prompt's length is odd."""
    for prompt, score in zip(request.prompts, response.scores, strict=True):
        if len(prompt.token_ids.ids) % 2:
            told = list(score.candidate_logprobs)
            score.candidate_logprobs[:] = [*told[1:], told[0]]


def run_compared_campaign(folder: Path) -> ComparedCampaign:
    write_benchmark(folder / "data", SUBJECTS)
    tokenizer = tokenizer_files(byte_level())
    refusal = status(code_pb2.INVALID_ARGUMENT, "told to \x1b[31mrefuse <it>")
    with (
        Double(tokenizer, notice=NOTICE) as first,
        Double(tokenizer, notice=NOTICE, change=_other_letters, joules_a_reading=10.0) as second,
        Double(tokenizer, lambda number: refusal if number == 3 else None, notice=NOTICE) as third,
    ):
        file = folder / "compared.yaml"
        file.write_text(
            "servers:\n"
            f"  first: {{url: '{first.url}'}}\n"
            f"  second: {{url: '{second.url}'}}\n"
            f"  third: {{url: '{third.url}'}}\n"
            "workloads:\n  all: {data: data}\n"
            "matrix: {servers: [first, second]}\n"
            "include: [{server: third, repetition: r1}]\n"
            "client-flags: {bs: 1, concurrency: 1}\n"
            "repetitions: 2\n"
            "attempts: 1\n"
            "baseline: {server: first}\n"
        )
        done = client("campaign", file, "--output", folder / "out", "--parallel", "2")
    return ComparedCampaign(file, folder / "out", done)


def json_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of campaign.json by the cell's name."""
    found = json.loads((folder / "campaign.json").read_text())
    return {row["name"]: row for row in found}
