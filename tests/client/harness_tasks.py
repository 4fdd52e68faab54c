"""Tasks of lm-eval in the shapes of known ones, with data of their own: YAML files and JSON lines."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WORDS = (
    *("river", "sand", "beach", "sea", "stone", "court", "minor", "party", "contract", "group", "order"),
    *("prime", "number", "question", "answer", "true", "false", "Earth", "Sun", "turn", "carry", "build"),
    *("hold", "void", "time", "largest", "following", "choice", "statement", "one", "two", "three", "four"),
)

# The documents of each task that are asked.
COUNTS = {
    "endings": 11, "pronouns": 7, "letters": 9, "last_words": 8, "pages": 3, "unconditional": 11, "own": 9,
}  # fmt: skip

METRIC = """
  - metric: {name}
    aggregation: {aggregation}
    higher_is_better: {better}"""


def write_tasks(folder: Path) -> Path:
    """Write the tasks into a folder, which is returned: one of each shape, and a group."""
    folder.mkdir(parents=True)
    law = random.Random(5)
    for name, made in (
        ("endings", [_ending(law) for _ in range(COUNTS["endings"])]),
        ("endings_train", [_ending(law) for _ in range(6)]),
        ("pronouns", [_pronoun(law) for _ in range(COUNTS["pronouns"])]),
        ("pronouns_train", [_pronoun(law) for _ in range(5)]),
        ("letters", [_letters(law) for _ in range(COUNTS["letters"])]),
        ("letters_train", [_letters(law) for _ in range(5)]),
        ("last_words", [{"text": _sentence(law, 12)} for _ in range(COUNTS["last_words"])]),
        ("pages", [{"page": _sentence(law, count)} for count in (5, 260, 40)]),
    ):
        _write_lines(folder / f"{name}.jsonl", made)
    _task(
        folder,
        "endings",
        "multiple_choice",
        'doc_to_text: "{{ctx}}"\ndoc_to_target: label\ndoc_to_choice: endings',
        ("acc", "acc_norm", "acc_bytes"),
    )
    (folder / "pronoun_text.py").write_text(
        "def doc_to_text(doc):\n    return {'1': 0, '2': 1}[doc['answer']]\n\n\n"
        "def doc_to_target(doc):\n    return doc['sentence'].split('_')[1].strip()\n\n\n"
        "def doc_to_choice(doc):\n    place = doc['sentence'].index('_')\n"
        "    return [doc['sentence'][:place] + doc[each] for each in ('option1', 'option2')]\n"
    )
    _task(
        folder,
        "pronouns",
        "multiple_choice",
        "\n".join(
            f"doc_to_{part}: !function pronoun_text.doc_to_{part}" for part in ("text", "target", "choice")
        ),
        ("acc",),
    )
    _task(
        folder,
        "letters",
        "multiple_choice",
        'doc_to_text: "{{question}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\n'
        'D. {{choices[3]}}\\nAnswer:"\ndoc_to_choice: ["A", "B", "C", "D"]\ndoc_to_target: answer',
        ("acc",),
    )
    _task(
        folder,
        "last_words",
        "loglikelihood",
        "doc_to_text: \"{{text.split(' ')[:-1]|join(' ')}}\"\ndoc_to_target: \"{{' '+text.split(' ')[-1]}}\"",
        ("perplexity", "acc"),
    )
    _task(
        folder,
        "pages",
        "loglikelihood_rolling",
        'doc_to_text: ""\ndoc_to_target: page',
        ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    )
    _task(
        folder,
        "unconditional",
        "multiple_choice",
        'doc_to_text: "{{ctx}}"\ndoc_to_target: label\ndoc_to_choice: endings',
        ("acc", "acc_mutual_info"),
        data="endings",
    )
    (folder / "own_metric.py").write_text(
        "def process_results(doc, results):\n"
        "    return {'margin': max(each for each, _ in results) - results[doc['answer']][0]}\n\n\n"
        "def median_of_three(values):\n    return sorted(values)[len(values) // 3]\n"
    )
    _task(
        folder,
        "own",
        "multiple_choice",
        'doc_to_text: "{{question}}"\ndoc_to_choice: choices\ndoc_to_target: answer\n'
        "process_results: !function own_metric.process_results\nmetric_list:\n  - metric: margin\n"
        "    aggregation: !function own_metric.median_of_three\n    higher_is_better: false",
        (),
        data="letters",
    )
    _task(
        folder,
        "essays",
        "generate_until",
        'doc_to_text: "{{page}}"\ndoc_to_target: page\ngeneration_kwargs:\n  until: ["."]',
        (),
        data="pages",
    )
    (folder / "choices.yaml").write_text(
        "group: choices\ntask:\n  - endings\n  - letters\naggregate_metric_list:\n  - metric: acc\n"
        "    aggregation: mean\n    weight_by_size: true\nmetadata:\n  version: 2.0\n"
    )
    return folder


def _task(folder: Path, name: str, kind: str, texts: str, metrics: Iterable[str], *, data: str = "") -> None:
    """Write the YAML file of a task."""
    known = {
        "perplexity": ("perplexity", False),
        "word_perplexity": ("weighted_perplexity", False),
        "byte_perplexity": ("weighted_perplexity", False),
        "bits_per_byte": ("bits_per_byte", False),
    }
    lines = "".join(
        METRIC.format(name=each, aggregation=aggregation, better=str(better).lower())
        for each in metrics
        for aggregation, better in [known.get(each, ("mean", True))]
    )
    train = folder / f"{name}_train.jsonl"
    shots = f"    train: {train}\n" if train.exists() else ""
    split = "training_split: train\nfewshot_split: train\n" if train.exists() else ""
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {folder / (data or name)}.jsonl\n{shots}"
        f"{split}test_split: test\noutput_type: {kind}\n{texts}\n"
        + (f"metric_list:{lines}\n" if lines else "")
        + "metadata:\n  version: 1.5\n"
    )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _sentence(law: random.Random, words: int) -> str:
    return " ".join(law.choice(WORDS) for _ in range(words))


def _ending(law: random.Random) -> dict[str, Any]:
    endings = [_sentence(law, law.randrange(1, 9)) for _ in range(4)]
    # A space at the end goes to the endings.
    return {
        "ctx": _sentence(law, 9) + law.choice(["", ". ", " "]),
        "endings": endings,
        "label": law.randrange(4),
    }


def _pronoun(law: random.Random) -> dict[str, Any]:
    return {
        "sentence": f"{_sentence(law, 5)} _ {_sentence(law, 4)}",
        "option1": law.choice(WORDS),
        "option2": _sentence(law, 2),
        "answer": law.choice("12"),
    }


def _letters(law: random.Random) -> dict[str, Any]:
    return {
        "question": _sentence(law, 6),
        "choices": [law.choice(WORDS) for _ in range(4)],
        "answer": law.randrange(4),
    }
