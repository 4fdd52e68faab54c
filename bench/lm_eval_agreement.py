"""trt-server and mmlu-client against EleutherAI's lm-evaluation-harness, question by question.

    python -m bench.lm_eval_agreement --data FOLDER [--model demo] [--limit 10] [--few-shots 5] [--bs 1]
                                      [--lm-eval-python PYTHON]

Both ask the first `--limit` questions of every subject of MMLU: the harness with its own task `mmlu` and its
own `hf` backend, PyTorch in float32; we with `mmlu-client --prompt-format lm-eval`. Compared are the token
ids of each prompt, those of the four letters, the letters' log-probabilities, the letter chosen, and the
results files, with the tables that the harness makes of them.

FOLDER has MMLU in the hub's layout (all/test-*.parquet, all/dev-*.parquet). PYTHON is one that has the
harness (`pip install 'lm_eval[hf]'`), by default this one. No network is needed. Exit status 1 where a
prompt, a letter, a choice or an entry of the results files differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.prompt import Prompt
from mmlu_client.prompts.tokenizer import named_tokenizer
from trt_common.command_line.values import count
from trt_server.model.checkpoint import open_checkpoint
from trt_server.model.source import resolve_model

from bench.agreement import Agreement, Document, Place, Scored, print_agreement
from tools.server_process import ServerProcess, program


@dataclass(frozen=True)
class Run:
    """What `mmlu-client` left behind.

    Attributes:
        max_prompt_tokens: The limit on its prompts.
    """

    records: list[dict[str, Any]]
    max_prompt_tokens: int


def main() -> None:
    """Run both programs, and print how far they agree."""
    options = _options()
    checkpoint = resolve_model(options.model, "fp32").folder
    with tempfile.TemporaryDirectory() as folder:
        document, run = run_ours(options, checkpoint, Path(folder))
        noted = run_harness(options, checkpoint, Path(folder))
    ours = our_answers(run, built_prompts(options, checkpoint, run.max_prompt_tokens))
    theirs = harness_answers(noted)
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())
        sys.exit(f"bench.lm_eval_agreement: {len(odd)} questions have one answer only, as {odd[0]}")
    agreement = Agreement(
        {place: (theirs[place], ours[place]) for place in sorted(ours)},
        (noted["document"], document),
        (noted["tables"]["theirs"], noted["tables"]["ours"]),
    )
    _print_run(options, list(ours.values()), noted["libraries"])
    print_agreement(agreement)
    sys.exit(any(same < all_ for same, all_ in agreement.counts().values()))


def _options() -> argparse.Namespace:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", type=Path, required=True)
    parse.add_argument("--model", default="demo", help="demo, or a checkpoint folder with a tokenizer")
    parse.add_argument("--limit", type=count, help="questions a subject; all by default")
    parse.add_argument("--few-shots", type=int, default=5)
    parse.add_argument("--bs", type=count, default=1, help="prompts a request, on our side")
    parse.add_argument("--lm-eval-python", default=sys.executable)
    options = parse.parse_args()
    if not any(options.data.glob("all/test-*.parquet")):
        parse.error(f"--data {options.data} has no all/test-*.parquet")
    command = [options.lm_eval_python, "-c", "import lm_eval, torch, accelerate"]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        parse.error(f"--lm-eval-python {options.lm_eval_python}: {error.strerror}")
    if found.returncode:
        reason = found.stderr.strip().splitlines()[-1]
        parse.error(f"{options.lm_eval_python} has no harness ({reason}): pip install 'lm_eval[hf]' there")
    return options


def run_ours(options: argparse.Namespace, checkpoint: Path, folder: Path) -> tuple[Document, Run]:
    """Return the results file, which is also written to `ours.json` in `folder`, and the run."""
    command = [program("mmlu-client"), "--data", str(options.data), "--prompt-format", "lm-eval"]
    command += ["--few-shots", str(options.few_shots), "--bs", str(options.bs), "--format", "lm-eval"]
    command += ["--output", str(folder / "run"), *_limit(options)]
    with ServerProcess("--model", str(checkpoint), "--max-batch-size", str(options.bs)) as server:
        done = subprocess.run([*command, "--url", server.address], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"bench.lm_eval_agreement: mmlu-client ended with status {done.returncode}")
    (folder / "ours.json").write_text(done.stdout)
    lines = (folder / "run" / "records.jsonl").read_text().splitlines()
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    run = Run([json.loads(line) for line in lines], manifest["limits"]["max_prompt_tokens"])
    return json.loads(done.stdout), run


def built_prompts(options: argparse.Namespace, checkpoint: Path, max_tokens: int) -> dict[Place, Prompt]:
    """Build the prompts again with the client's builder, because a run keeps no token ids."""
    benchmark = load_benchmark(str(options.data))
    subjects = benchmark.pick_subjects(None)
    builder = PromptBuilder(
        named_tokenizer(str(checkpoint)),
        FORMATS["lm-eval"],
        benchmark.shots(subjects, options.few_shots),
        max_tokens,
        open_checkpoint(checkpoint).geometry.vocabulary_size,
    )
    built = builder.build(benchmark.questions(subjects, options.limit))
    prompts = [prompt for prompt in built if isinstance(prompt, Prompt)]
    return {(prompt.item.subject, prompt.item.index): prompt for prompt in prompts}


def our_answers(run: Run, prompts: Mapping[Place, Prompt]) -> dict[Place, Scored]:
    """Return each question with our answer."""
    answers = {}
    for record in run.records:
        place = (record["subject"], record["index"])
        prompt = prompts[place]
        if record["tokens"]["logical"] != len(prompt.token_ids):
            sys.exit(f"bench.lm_eval_agreement: {place} was sent another prompt than is built again")
        answers[place] = Scored(
            prompt_ids=tuple(prompt.token_ids),
            truncated=prompt.truncated,
            candidate_ids=prompt.candidate_ids,
            logprobs=tuple(record["logprobs"].values()),
            correct=record["correct"],
        )
    return answers


def run_harness(options: argparse.Namespace, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Run bench/lm_eval_run.py and return its output.

    It runs in `folder`, where the harness finds its data set by name.
    """
    write_data_set(options.data, folder / "cais" / "mmlu")
    script = Path(__file__).with_name("lm_eval_run.py").resolve()
    command = [options.lm_eval_python, str(script), str(checkpoint.resolve()), "ours.json", "theirs.json"]
    command += ["--few-shots", str(options.few_shots), *_limit(options)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **offline}, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"bench.lm_eval_agreement: the harness ended with status {done.returncode}")
    return dict(json.loads((folder / "theirs.json").read_text()))


def _limit(options: argparse.Namespace) -> list[str]:
    return [] if options.limit is None else ["--limit", str(options.limit)]


def write_data_set(data: Path, folder: Path) -> None:
    """Write a folder for each subject, and the README that makes each a configuration, as on the hub.

    Rows are copied from file to file without the client's reader, which is part of the comparison.
    """
    configurations: dict[str, list[dict[str, str]]] = {}
    for split in ("test", "dev"):
        rows = pq.read_table(sorted((data / "all").glob(f"{split}-*.parquet")))
        for subject in pc.unique(rows["subject"]).to_pylist():
            file = folder / subject / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows.filter(pc.equal(rows["subject"], subject)), file)
            written = {"split": split, "path": str(file.relative_to(folder))}
            configurations.setdefault(subject, []).append(written)
    entries = [{"config_name": subject, "data_files": files} for subject, files in configurations.items()]
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': entries})}\n---\n")


def harness_answers(noted: Mapping[str, Any]) -> dict[Place, Scored]:
    """Return each question with the harness's answer."""
    return {
        (question["subject"], question["index"]): Scored(
            prompt_ids=tuple(question["prompt_ids"]),
            truncated=question["truncated"],
            candidate_ids=tuple(token for ids in question["candidate_ids"] for token in ids),
            logprobs=tuple(question["logprobs"]),
            correct=question["correct"],
        )
        for question in noted["questions"]
    }


def _print_run(options: argparse.Namespace, scored: Sequence[Scored], libraries: Mapping[str, str]) -> None:
    tokens = sum(len(each.prompt_ids) for each in scored) / len(scored)
    print(
        f"\n{options.model}, {len(scored)} questions of {options.data}, {options.few_shots} shots, ", end=""
    )
    print(f"bs {options.bs}, {tokens:.0f} tokens a prompt, {sum(each.truncated for each in scored)} cut")
    versions = ", ".join(f"{name} {number}" for name, number in libraries.items())
    print(f"the harness: {versions}; ours: onnxruntime {version('onnxruntime')}\n")


if __name__ == "__main__":
    main()
