"""Figures in the forms that other programs read: FlagPerf, lm-evaluation-harness, CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, fields
from typing import Any

from mmlu_client.accuracy import Accuracy, accuracy_of, subject_accuracies
from mmlu_client.finished_run import FinishedRun
from mmlu_client.records import INFER
from mmlu_client.report import summary_page, table
from mmlu_client.summary import Summary

# The harness's groups of MMLU, after Hendrycks' categories.
STEM = "abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
STEM += "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
STEM += "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
STEM += "high_school_mathematics high_school_physics high_school_statistics machine_learning"
HUMANITIES = "formal_logic high_school_european_history high_school_us_history high_school_world_history "
HUMANITIES += "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy "
HUMANITIES += "prehistory professional_law world_religions"
SOCIAL = "econometrics high_school_geography high_school_government_and_politics "
SOCIAL += "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
SOCIAL += "professional_psychology public_relations security_studies sociology us_foreign_policy"
OTHER = "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
OTHER += "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"
GROUPS = {
    "mmlu_stem": STEM.split(),
    "mmlu_humanities": HUMANITIES.split(),
    "mmlu_social_sciences": SOCIAL.split(),
    "mmlu_other": OTHER.split(),
}


def formatted(run: FinishedRun, summary: Summary, form: str) -> str:
    """What `--format` prints."""
    if form == "flagperf":
        return flagperf(run, summary)
    if form == "lm-eval":
        return json.dumps(lm_eval(run), indent=2)
    if form == "csv":
        return comma_separated(summary)
    return summary_page(run, summary).rstrip()


def flagperf(run: FinishedRun, summary: Summary) -> str:
    """The suite's finish line, one dict under its own keys, and its Markdown row.

    A query is a token, and flops are a token's by the suite's arithmetic: two a parameter.
    """
    line = {
        "vendor": vendor(run.model.device.name),
        "compiler": summary.engine,
        "precision": summary.precision,
        "batchsize": summary.bs,
        "flops": 2 * run.model.parameters,
        "e2e_time(second)": summary.e2e_time,
        "p_validation_whole(qps)": summary.p_val_whole,
        "p_validation_core(qps)": summary.p_val_core,
        "p_inference_whole(qps)": summary.p_infer_whole,
        "*p_inference_core(qps)": summary.p_infer_core,
        "val_average_acc": summary.acc_val,
        "infer_average_acc": summary.acc,
    }
    return f"{line}\n\n{table(summary, run.model.notice)}"


def vendor(device: str) -> str:
    """Who made the device, as far as its name tells."""
    known = {
        "nvidia": "nvidia",
        "tesla": "nvidia",
        "geforce": "nvidia",
        "intel": "intel",
        "amd": "amd",
        "arm": "arm",
    }
    return next((maker for word, maker in known.items() if word in device.lower()), "unknown")


def lm_eval(run: FinishedRun) -> dict[str, Any]:
    """A results file of lm-evaluation-harness: subjects as tasks, groups weighted by their questions."""
    infer = run.records.phase(INFER)
    subjects = subject_accuracies(infer)
    groups = {
        name: _together([subjects[subject] for subject in members if subject in subjects])
        for name, members in GROUPS.items()
    }
    found = {name: group for name, group in groups.items() if group.answered}
    total = {"mmlu": _result("mmlu", accuracy_of(infer))}
    grouped = {
        **total,
        **{name: _result(f" - {name.removeprefix('mmlu_')}", each) for name, each in found.items()},
    }
    tasks = {f"mmlu_{name}": _result(f"  - {name}", each) for name, each in subjects.items()}
    return {
        "results": {**grouped, **tasks},
        "groups": grouped,
        "n-shot": dict.fromkeys(tasks, run.manifest["few_shots"]),
        "n-samples": {
            name: {"original": each["samples"], "effective": each["samples"]} for name, each in tasks.items()
        },
        "config": {
            "model": run.model.id,
            "model_args": f"engine={run.model.engine.name},precision={run.model.engine.precision}",
            "batch_size": run.batch_size,
            "limit": run.manifest["data"]["limit"],
            "random_seed": run.manifest["seeds"]["random_seed"],
        },
        "date": run.manifest["started"]["epoch_ns"] / 1e9,
    }


def comma_separated(summary: Summary) -> str:
    """A head and a row: every figure of summary.json."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(summary))
    writer.writerow(asdict(summary).values())
    return text.getvalue().rstrip("\n")


def _together(accuracies: list[Accuracy]) -> Accuracy:
    return Accuracy(sum(each.correct for each in accuracies), sum(each.answered for each in accuracies))


def _result(alias: str, accuracy: Accuracy) -> dict[str, Any]:
    return {
        "alias": alias,
        "samples": accuracy.answered,
        "acc,none": accuracy.share,
        "acc_stderr,none": accuracy.stderr,
    }
