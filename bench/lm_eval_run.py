"""The harness's half of bench.lm_eval_agreement, in a process of its own, which needs lm_eval alone.

    python lm_eval_run.py CHECKPOINT OURS.json OUTPUT.json --few-shots 5 [--limit 10]

Runs the task `mmlu` of lm-evaluation-harness with its `hf` backend, in float32 on the CPU, one prompt
at a time. Nothing of either is changed: what its tokenizer makes and what goes through its model is noted as
it passes. The task's data set is `cais/mmlu`, which is the folder of that name in the current one. OURS is
another program's results file, for the harness to make its tables of.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from lm_eval import simple_evaluate
from lm_eval.api.registry import register_model
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import make_table

TokenIds = tuple[int, ...]

_LIBRARIES = ("lm_eval", "transformers", "torch", "datasets", "numpy")


@register_model("hf-noted")
class NotedModel(HFLM):  # type: ignore[misc]
    """The `hf` backend, which notes what passes through it.

    Attributes:
        encoded: Context and continuation → their token ids.
        ran: The model's inputs.
    """

    encoded: ClassVar[dict[tuple[str, str], tuple[TokenIds, TokenIds]]] = {}
    ran: ClassVar[set[TokenIds]] = set()

    def _loglikelihood_tokens(self, requests: Any, *arguments: Any, **options: Any) -> Any:
        for texts, context_ids, continuation_ids in requests:
            self.encoded[texts] = (tuple(context_ids), tuple(continuation_ids))
        return super()._loglikelihood_tokens(requests, *arguments, **options)

    def _model_call(self, inps: Any, *arguments: Any, **options: Any) -> Any:
        self.ran.update(map(tuple, inps.tolist()))
        return super()._model_call(inps, *arguments, **options)


def main() -> None:
    """Run the task and write the output."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("checkpoint", type=Path)
    parse.add_argument("ours", type=Path)
    parse.add_argument("output", type=Path)
    parse.add_argument("--few-shots", type=int, required=True)
    parse.add_argument("--limit", type=int)
    options = parse.parse_args()
    document, samples = evaluate(options)
    ours = json.loads(options.ours.read_text())
    written = {
        "libraries": {name: version(name) for name in _LIBRARIES},
        "document": document,
        "tables": {"theirs": tables(document), "ours": tables(ours)},
        "questions": [noted(sample, document["max_length"]) for sample in samples],
    }
    options.output.write_text(json.dumps(written))


def evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the results file as the harness writes it, and its samples."""
    folder = options.output.with_suffix("")
    tracker = EvaluationTracker(output_path=str(folder))
    found = simple_evaluate(
        model="hf-noted",
        model_args={"pretrained": str(options.checkpoint), "dtype": "float32"},
        tasks=["mmlu"],
        num_fewshot=options.few_shots,
        batch_size=1,
        device="cpu",
        limit=options.limit,
        evaluation_tracker=tracker,
    )
    samples = [sample for task in found.pop("samples").values() for sample in task]
    tracker.save_results_aggregated(results=found)
    (file,) = folder.rglob("results_*.json")
    return json.loads(file.read_text()), samples


def noted(sample: dict[str, Any], max_length: int) -> dict[str, Any]:
    """Return one question.

    Its prompt_ids are what its model was run on, the last `max_length` ids of the context.
    """
    encodings = [NotedModel.encoded[tuple(pair[:2])] for pair in sample["arguments"]]
    whole = encodings[0][0]
    prompt = whole[-max_length:]
    if prompt not in NotedModel.ran:
        raise SystemExit(f"no input of the model is the end of this context: {sample['arguments'][0][0]!r}")
    return {
        "subject": sample["doc"]["subject"],
        "index": sample["doc_id"],
        "prompt_ids": prompt,
        "truncated": len(prompt) < len(whole),
        "candidate_ids": [continuation for _, continuation in encodings],
        "logprobs": [logprob for logprob, _ in sample["filtered_resps"]],
        "correct": bool(sample["acc"]),
    }


def tables(document: dict[str, Any]) -> list[str]:
    """Return the tables of tasks and of groups that the harness prints at its end."""
    return [make_table(document), make_table(document, "groups")]


if __name__ == "__main__":
    main()
