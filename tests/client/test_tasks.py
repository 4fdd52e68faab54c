"""--task: lm-eval's own tasks through a real server, held against lm-eval's own `hf` backend."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from client_process import SECONDS, the_error
from client_process import command as cold_command
from compared_campaign import json_rows, write_campaign_of
from double import Double
from harness_tasks import COUNTS, write_tasks
from processes import ServerProcess
from run_files import manifest, page, records, summary, wait_for_records
from test_client_metrics import scrape
from tokenizer_kinds import byte_level, tokenizer_files
from trt_common import demo
from trt_common.installed_program import program
from warm_commands import WarmCommands

pytest.importorskip("lm_eval", reason="lm-eval is not installed")
pytest.importorskip("accelerate", reason="lm-eval's hf backend wants accelerate")

ABSENT = Path(__file__).parents[1] / "fakes" / "absent"
POSITIONS = 80
# The group has the tasks `endings` and `letters`.
NAMES = "choices,pronouns,last_words,pages,unconditional,own"
WARM: list[tuple[dict[str, str], WarmCommands]] = []

HF = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable
for model, folder, names, shots, output in json.loads(sys.argv[1]):
    found = simple_evaluate(
        model=HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=2),
        tasks=names.split(","), num_fewshot=int(shots) if shots else None, bootstrap_iters=1000,
        task_manager=TaskManager(include_path=folder, include_defaults=False),
    )
    json.dump(found, open(output, "w"), default=handle_non_serializable)
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a machine without a network, and with no data from before."""
    return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path_factory.mktemp("hf"))}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It takes so few tokens that contexts are cut, and that long texts need several windows."""
    folder = tmp_path_factory.mktemp("short")
    return write_checkpoint(folder, "llama", max_position_embeddings=POSITIONS)


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", str(checkpoint), "--max-batch-size", "8") as process:
        yield process.wait_until_serving()


@pytest.fixture(scope="module")
def own_shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks, of which one says how many shots it has."""
    folder = write_tasks(tmp_path_factory.mktemp("own-shots") / "tasks")
    with (folder / "letters.yaml").open("a") as file:
        file.write("num_fewshot: 1\n")
    return folder


@pytest.fixture(scope="module")
def of_hf(
    checkpoint: Path, tasks: Path, own_shots: Path, environment: dict[str, str], tmp_path_factory: Any
) -> dict[str, Any]:
    """What lm-eval's `hf` backend makes of all that is asked here, in one process."""
    asked = {
        "all": (checkpoint, tasks, NAMES, "2"),
        "demo": (demo.FOLDER, tasks, "letters,last_words", "2"),
        "own shots": (checkpoint, own_shots, "letters,endings", ""),
    }
    folder = tmp_path_factory.mktemp("out")
    jobs = [[*map(str, job), str(folder / f"{name}.json")] for name, job in asked.items()]
    done = subprocess.run(
        [sys.executable, "-c", HF, json.dumps(jobs)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in asked}


@pytest.fixture(scope="module")
def hf(of_hf: dict[str, Any]) -> Any:
    """What lm-eval itself makes of all tasks with PyTorch, with two shots."""
    return of_hf["all"]


@pytest.fixture(scope="module")
def whole(
    scorer: ServerProcess, tasks: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run of all tasks with two shots."""
    output = tmp_path_factory.mktemp("whole") / "run"
    done = ask(scorer.url, tasks, NAMES, output, environment, "--few-shots", "2", "--format", "lm-eval")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"].keys() == {"choices", *COUNTS}
    return output


@pytest.fixture(scope="module", autouse=True)
def warm(environment: dict[str, str]) -> Iterator[None]:
    """What `command` runs."""
    commands = WarmCommands(environment)
    WARM.append((environment, commands))
    yield
    WARM.clear()
    commands.close()


def command(*arguments: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run mmlu-client to its end, where it makes no difference without importing lm-eval again."""
    ((usual, commands),) = WARM
    if environment == usual:
        return commands.run(*arguments)
    return cold_command(*arguments, environment=environment)


def ask(
    url: str, tasks: Path, names: str, output: Path, environment: dict[str, str], *flags: str
) -> subprocess.CompletedProcess[str]:
    places = ("--include-path", str(tasks), "--output", str(output))
    return command("--url", url, "--task", names, *places, *flags, environment=environment)


def check_scores(output: Path, expected: Any) -> None:
    """Every document's log-likelihoods and greedy flags are those of lm-eval."""
    written = records(output)
    samples = {(task, each["doc_id"]): each for task, of in expected["samples"].items() for each in of}
    assert {(each["subject"], each["index"]) for each in written} == samples.keys()
    for each in written:
        sample = samples[each["subject"], each["index"]]
        answers = [answer for (answer,) in sample["resps"]]
        pairs = [answer if isinstance(answer, list) else [answer, None] for answer in answers]
        assert each["error"] is None
        assert each["loglikelihoods"] == pytest.approx([pair[0] for pair in pairs], abs=1e-3)
        assert each["greedy"] == [pair[1] for pair in pairs]
        if each["predicted"] is not None:
            choices = [pair[0] for pair in pairs]
            if each["subject"] == "unconditional":
                choices = choices[:4]
            assert int(each["predicted"]) == choices.index(max(choices))
        for metric in {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"} & sample.keys():
            assert each["metrics"]["none"][metric] == sample[metric]


def check_metrics(output: Path, expected: Any) -> None:
    """Every metric of every task and group, and its standard error, are those of lm-eval."""
    found = summary(output)["tasks"]
    for task, figures in expected["results"].items():
        for key, value in figures.items():
            if "," in key:
                wanted = None if value == "N/A" else pytest.approx(value, rel=1e-4)
                assert found[task][key] == wanted, (task, key)
        assert found[task]["sample_len"] == figures["sample_len"]
    assert found.keys() == expected["results"].keys()


def test_scores_and_metrics_are_those_of_lm_evals_hf(whole: Path, hf: Any) -> None:
    check_scores(whole, hf)
    check_metrics(whole, hf)
    assert any(each["truncated"] for each in records(whole))


def test_what_is_greedy_with_a_model_that_knows_something(
    tasks: Path, output: Path, environment: dict[str, str], of_hf: dict[str, Any]
) -> None:
    expected = of_hf["demo"]
    with ServerProcess("--model", "demo") as process:
        url = process.wait_until_serving().url
        done = ask(url, tasks, "letters,last_words", output, environment, "--few-shots", "2")
    assert done.returncode == 0, done.stderr
    check_scores(output, expected)
    check_metrics(output, expected)
    assert any(True in each["greedy"] for each in records(output))


def test_requests_of_several_prompts_give_the_same(
    scorer: ServerProcess, tasks: Path, output: Path, environment: dict[str, str], hf: Any
) -> None:
    done = ask(scorer.url, tasks, NAMES, output, environment, "--few-shots", "2", "--bs", "4", "--offline")
    assert done.returncode == 0, done.stderr
    check_scores(output, hf)
    check_metrics(output, hf)
    assert max(each["request"]["prompts"] for each in records(output)) == 4


def test_without_few_shots_each_task_has_its_own(
    scorer: ServerProcess, own_shots: Path, output: Path, environment: dict[str, str], of_hf: dict[str, Any]
) -> None:
    expected = of_hf["own shots"]
    done = ask(scorer.url, own_shots, "letters,endings", output, environment)
    assert done.returncode == 0, done.stderr
    check_scores(output, expected)
    shots = {each["subject"]: each["shots"] for each in records(output)}
    assert shots == {"letters": 1, "endings": 0}
    assert summary(output)["few_shots"] is None


def test_a_context_is_computed_once_for_all_choices(whole: Path) -> None:
    """Computed tokens are the context and each ending once; logical ones have the context for each."""
    in_one = [
        each
        for each in records(whole)
        if each["subject"] in ("endings", "letters") and not each["truncated"] and not each["other_requests"]
    ]
    assert in_one
    for each in in_one:
        endings = sum(each["scored_tokens"])
        context = each["tokens"]["computed"] - endings
        assert each["tokens"]["logical"] == 4 * context + endings
    figures = summary(whole)
    assert figures["computed_tokens"] < figures["logical_tokens"]
    assert figures["p_computed_core"] < figures["p_infer_core"]
    assert "onnxruntime (shared contexts)" in page(whole)
    assert f"with shared contexts: p_infer_* count {figures['logical_tokens']:,} tokens" in page(whole)


def test_a_document_of_several_requests_is_one_record(whole: Path) -> None:
    """All of its requests are in the figures of speed."""
    written = records(whole)
    assert sorted((each["subject"], each["index"]) for each in written) == sorted(
        (task, index) for task, count in COUNTS.items() for index in range(count)
    )
    several = [each for each in written if each["other_requests"]]
    assert {"pronouns", "pages"} <= {each["subject"] for each in several}
    requests = {
        request["request"]["id"]: request for each in written for request in (each, *each["other_requests"])
    }
    figures = summary(whole)
    assert figures["requests"] == len(requests)
    cores = [request["server_ns"]["core"] for request in requests.values()]
    assert figures["core_seconds"] == pytest.approx(sum(cores) / 1e9)
    ends = [request["client_ns"]["received"] for request in requests.values()]
    begin = min(request["client_ns"]["due"] for request in requests.values())
    assert figures["whole_seconds"] == pytest.approx((max(ends) - begin) / 1e9)


def test_the_row_has_an_accuracy_only_where_it_means_something(
    whole: Path, scorer: ServerProcess, tasks: Path, output: Path, environment: dict[str, str]
) -> None:
    assert summary(whole)["acc"] is None
    done = ask(scorer.url, tasks, "choices", output, environment, "--limit", "4")
    assert done.returncode == 0, done.stderr
    figures = summary(output)
    assert figures["acc"] == pytest.approx(figures["tasks"]["choices"]["acc,none"])
    assert (figures["questions"], figures["benchmark_questions"]) == (8, 20)
    assert "| choices | acc" in done.stdout
    rolled = output.parent / "rolled"
    done = ask(scorer.url, tasks, "pages", rolled, environment)
    assert done.returncode == 0, done.stderr
    assert summary(rolled)["acc"] is None
    assert "accuracy:" not in done.stdout


def test_lm_evals_own_files(whole: Path, hf: Any) -> None:
    (folder,) = (whole / "lm-eval").iterdir()
    (path,) = folder.glob("results_*.json")
    written = json.loads(path.read_text())
    for key in ("versions", "n-shot", "higher_is_better", "n-samples", "group_subtasks"):
        assert written[key] == hf[key], key
    for task, config in written["configs"].items():
        # A sampler is written with its address.
        left_out = {"metadata": None, "fewshot_config": None}
        ours, theirs = ({**each, **left_out} for each in (config, hf["configs"][task]))
        assert ours == theirs
    assert written["results"].keys() == hf["results"].keys()
    assert written["groups"]["choices"]["acc,none"] == pytest.approx(hf["groups"]["choices"]["acc,none"])
    for task, samples in hf["samples"].items():
        (path,) = folder.glob(f"samples_{task}_*.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line, sample in zip(lines, samples, strict=True):
            for key in ("doc_id", "doc", "doc_hash", "prompt_hash", "target_hash", "metrics", "filter"):
                assert line[key] == sample[key], key
            texts = [list(arguments.values()) for arguments in line["arguments"].values()]
            assert texts == sample["arguments"]
            assert line["target"] == str(sample["target"])
    assert written["task_hashes"].keys() == COUNTS.keys()


def test_a_killed_run_goes_on(
    scorer: ServerProcess, tasks: Path, output: Path, environment: dict[str, str], hf: Any
) -> None:
    load = ("--request-rate", "20", "--arrival-pattern", "constant", "--few-shots", "2")
    flags = ("--url", scorer.url, "--task", NAMES, "--include-path", str(tasks), "--output", str(output))
    running = subprocess.Popen(
        [program("mmlu-client"), *flags, *load],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    wait_for_records(output, 3)
    running.send_signal(signal.SIGKILL)
    running.wait(SECONDS)
    half = (output / "records.jsonl").read_text()
    assert half.count("\n") < sum(COUNTS.values())
    (output / "records.jsonl").write_text(half + '{"subject":"endi')
    done = command("--resume", output, environment=environment)
    assert done.returncode == 0, done.stderr
    assert (output / "records.jsonl").read_text().startswith(half)
    check_scores(output, hf)
    check_metrics(output, hf)
    assert summary(output)["sessions"] == 2


def test_a_run_of_other_tasks_is_not_gone_on_with(whole: Path, environment: dict[str, str]) -> None:
    before = (whole / "records.jsonl").read_bytes()
    done = command("--resume", whole, "--few-shots", "1", environment=environment)
    assert done.returncode == 2
    assert "data.sha256 was" in the_error(done)
    assert (whole / "records.jsonl").read_bytes() == before


def test_figures_are_made_again_from_the_folder(
    whole: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Without a server; of the tasks' files only a function of aggregation of their own is read."""
    again = tmp_path / "again"
    again.mkdir()
    for name in ("manifest.json", "records.jsonl", "device.jsonl"):
        (again / name).write_bytes((whole / name).read_bytes())
    done = command("report", again, "--format", "csv", environment=environment)
    assert done.returncode == 0, done.stderr
    assert summary(again) == summary(whole)
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert float(row["endings/acc_norm,none"]) == summary(whole)["tasks"]["endings"]["acc_norm,none"]
    html = (again / "report.html").read_text()
    assert "<h2>Tasks</h2>" in html
    assert "word_perplexity" in html


def test_without_lm_eval_one_line_says_how_to_get_it(
    whole: Path, scorer: ServerProcess, tasks: Path, output: Path
) -> None:
    absent = {"ABSENT_PACKAGES": "lm_eval", "PYTHONPATH": str(ABSENT)}
    done = ask(scorer.url, tasks, "endings", output, absent)
    assert done.returncode == 2
    assert the_error(done) == (
        "--task needs lm-eval, which is not installed: pip install 'trt-server[lm-eval]'"
    )
    before = (whole / "summary.json").read_bytes()
    done = command("report", whole, environment=absent)
    assert done.returncode == 2
    assert "pip install 'trt-server[lm-eval]'" in the_error(done)
    assert (whole / "summary.json").read_bytes() == before


def test_compare_tells_the_difference_of_each_metric(
    whole: Path, tasks: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    other = write_checkpoint(tmp_path / "other", "llama", max_position_embeddings=POSITIONS, seed=3)
    output = tmp_path / "run"
    with ServerProcess("--model", str(other)) as process:
        url = process.wait_until_serving().url
        done = ask(url, tasks, NAMES, output, environment, "--few-shots", "2")
    assert done.returncode == 0, done.stderr
    done = command("compare", whole, output, "--format", "json", environment=environment)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["comparisons"]
    metrics = {(each["task"], each["metric"]): each for each in found["tasks"]}
    first, second = (
        {
            each["index"]: each["metrics"]["none"]["acc_norm"]
            for each in records(run)
            if each["subject"] == "endings"
        }
        for run in (whole, output)
    )
    apart = [sum(first[key] > second[key] for key in first), sum(first[key] < second[key] for key in first)]
    tail = sum(math.comb(sum(apart), count) for count in range(min(apart) + 1)) / 2 ** sum(apart)
    tested = metrics["endings", "acc_norm"]
    assert tested["p_value"] == pytest.approx(min(1.0, 2 * tail))
    assert tested["difference"] == pytest.approx((sum(second.values()) - sum(first.values())) / len(first))
    assert tested["documents"] == len(first)
    assert metrics["pages", "word_perplexity"]["p_value"] is None
    assert metrics["choices", "acc"]["first"] == pytest.approx(summary(whole)["tasks"]["choices"]["acc,none"])
    done = command("compare", whole, output, "--output", tmp_path / "page.html", environment=environment)
    assert "| endings" in done.stdout
    assert "the same choice on" in done.stdout
    assert "paired test" in (tmp_path / "page.html").read_text()
    # A campaign's rows have the same.
    folder = write_campaign_of(tmp_path / "campaign", {"whole": whole, "other": output})
    done = command("report", folder, environment=environment)
    assert done.returncode == 0, done.stderr
    rows = json_rows(folder)
    for (task, metric), each in metrics.items():
        name = f"baseline.{task}/{metric}"
        assert rows["other"][f"{name}_difference"] == pytest.approx(each["difference"])
        assert rows["other"][f"{name}_mcnemar_p"] == each["p_value"]
        assert rows["whole"][f"{name}_difference"] is None
    for task, figures in summary(output)["tasks"].items():
        for key, value in figures.items():
            assert rows["other"][f"{task}/{key}"] == value
    # Of several tasks together an accuracy means nothing.
    assert rows["other"]["acc"] is rows["other"]["baseline.acc_difference"] is None
    assert "| acc " not in done.stdout
    assert (
        f"endings acc {summary(output)['tasks']['endings']['acc,none']:.4f}; endings acc_norm " in done.stdout
    )


def test_prometheus_counts_each_request_once(
    scorer: ServerProcess, tasks: Path, output: Path, environment: dict[str, str]
) -> None:
    """Those of documents that need several, which requests of other documents may be too, included."""
    names, count = "pages,pronouns", COUNTS["pages"] + COUNTS["pronouns"]
    places = ("--include-path", str(tasks), "--output", str(output), "--metrics-port", "0")
    load = ("--request-rate", "20", "--arrival-pattern", "constant", "--bs", "2")
    with subprocess.Popen(
        [program("mmlu-client"), "--url", scorer.url, "--task", names, *places, *load],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stderr is not None
        address = next(line.split()[-1] for line in running.stderr if "metrics at" in line)
        seen: dict[str, float] = {}
        while seen.get("outcomes", 0) < count:
            # Without a pause it takes a core from the run.
            time.sleep(0.05)
            seen = totals(scrape(address))
        # It ends when its last figures were scraped.
        while running.poll() is None:
            with contextlib.suppress(OSError):
                seen = totals(scrape(address))
            time.sleep(0.05)
        assert running.returncode == 0
    assert seen["scored"] == COUNTS["pages"]
    requests = {
        request["request"]["id"]: request["server_ns"]["core"]
        for each in records(output)
        for request in (each, *each["other_requests"])
    }
    assert seen["mmlu_client_request_seconds_count"] == len(requests)
    assert seen["mmlu_client_core_seconds_total"] == pytest.approx(sum(requests.values()) / 1e9)


def totals(samples: dict[str, float]) -> dict[str, float]:
    """With the documents of all outcomes, and those that were only scored, added up."""
    counts = {
        name: value for name, value in samples.items() if name.startswith("mmlu_client_questions_total")
    }
    scored = sum(value for name, value in counts.items() if ",scored" in name)
    return {**samples, "outcomes": sum(counts.values()), "scored": scored}


def test_a_sweep_has_each_tasks_metrics(
    scorer: ServerProcess, tasks: Path, output: Path, environment: dict[str, str]
) -> None:
    done = ask(scorer.url, tasks, "pronouns", output, environment, "--sweep", "concurrency=1,2")
    assert done.returncode == 0, done.stderr
    rows = json.loads((output / "sweep.json").read_text())
    assert [row["concurrency"] for row in rows] == [1, 2]
    assert rows[0]["tasks"] == rows[1]["tasks"]
    assert "pronouns/acc,none" in (output / "sweep.csv").read_text()


def test_positions_that_the_server_does_not_score(
    checkpoint: Path, tasks: Path, output: Path, environment: dict[str, str], hf: Any
) -> None:
    """Choices are put into several prompts; a window of a whole text cannot be."""
    with ServerProcess("--model", str(checkpoint), "--max-scored-positions", "40") as process:
        url = process.wait_until_serving().url
        done = ask(url, tasks, "choices,unconditional", output, environment, "--few-shots", "2", "--bs", "2")
        assert done.returncode == 0, done.stderr
        scored = {"samples": {each: hf["samples"][each] for each in ("endings", "letters", "unconditional")}}
        check_scores(output, scored)
        done = ask(url, tasks, "pages", output.parent / "pages", environment)
    assert done.returncode == 2
    assert (
        f"the server takes 40: start trt-server with --max-scored-positions {POSITIONS} or more"
        in the_error(done)
    )


def test_a_server_that_knows_no_continuations_is_refused(
    tasks: Path, output: Path, environment: dict[str, str]
) -> None:
    with Double(tokenizer_files(byte_level()), lambda _: None) as double:
        done = ask(double.url, tasks, "endings", output, environment)
        assert not double.asked
    assert done.returncode == 2
    assert "scores single tokens alone: start a newer one" in the_error(done)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "essays"), "--task essays asks for generate_until: a server that scores text answers"),
        (
            ("--task", "endigs"),
            "--task endigs: lm-eval has no task, group or tag of that name; near it: endings",
        ),
        (("--task", "pages", "--early-stop", "0.1"), "--early-stop is of accuracy"),
        (("--task", "endings", "--data", "demo"), "--data is of MMLU's questions"),
        (("--task", "endings", "--subjects", "anatomy"), "--subjects is of MMLU's questions"),
        (("--task", "endings", "--prompt-format", "lm-eval"), "--prompt-format is of MMLU's questions"),
        (("--task", "endings", "--reuse-prefix"), "--reuse-prefix is of MMLU's questions"),
        (("--task", ","), "--task names none"),
        ((), "--include-path is of tasks: give --task too"),
    ],
)
def test_what_cannot_be_asked(
    tasks: Path, output: Path, environment: dict[str, str], flags: tuple[str, ...], message: str
) -> None:
    """Before a server is asked for: there is none."""
    places = ("--include-path", str(tasks), "--output", str(output))
    nowhere = ("--url", "127.0.0.1:9", "--server-timeout", "0")
    done = command(*nowhere, *places, *flags, environment=environment)
    assert done.returncode == 2
    assert the_error(done).startswith(message)
    assert not output.exists()


# Written out, the last of them would be 9¹² words.
LAUGHS = ", ".join(["&a0 [x, x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 13))])
MERGES = "\n".join(
    ["m0: &m0 {x: 1}", *(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 13))]
)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("endings.yaml", f"metadata: {{version: 1, more: [{LAUGHS}]}}\n"),
        ("endings.yaml", f"{MERGES}\n"),
        ("endings.yaml", "description: &a [*a]\n"),
        ("what_it_includes", f"metadata: [{LAUGHS}]\n"),
    ],
    ids=["lists", "merged", "itself", "included"],
)
def test_a_file_of_nested_aliases_is_refused_in_one_line(
    output: Path, environment: dict[str, str], name: str, lines: str
) -> None:
    folder = write_tasks(output.parent / "laughs")
    with (folder / name).open("a") as file:
        file.write(lines)
    if name != "endings.yaml":
        with (folder / "endings.yaml").open("a") as file:
            file.write(f"include: {name}\n")
    done = ask("127.0.0.1:9", folder, "endings", output, environment, "--server-timeout", "0")
    assert done.returncode == 2
    assert f"{folder / name}: its aliases (*) stand for more than 100,000 values" in the_error(done)
    assert not output.exists()


def test_aliases_that_stand_for_little_are_used(
    scorer: ServerProcess, output: Path, environment: dict[str, str]
) -> None:
    folder = write_tasks(output.parent / "aliases")
    path = folder / "endings.yaml"
    text = path.read_text().replace(
        "metric: acc\n    aggregation: mean", "metric: acc\n    aggregation: &m mean"
    )
    path.write_text(
        text.replace("metric: acc_norm\n    aggregation: mean", "metric: acc_norm\n    aggregation: *m")
    )
    assert "*m" in path.read_text()
    done = ask(scorer.url, folder, "endings", output, environment, "--limit", "2")
    assert done.returncode == 0, done.stderr
    assert {"acc,none", "acc_norm,none"} <= summary(output)["tasks"]["endings"].keys()


def test_data_that_are_not_there(tasks: Path, output: Path, environment: dict[str, str]) -> None:
    broken = output.parent / "broken"
    broken.mkdir()
    text = (tasks / "endings.yaml").read_text().replace("endings.jsonl", "nothing.jsonl")
    (broken / "lost.yaml").write_text(text.replace("task: endings", "task: lost"))
    done = ask("127.0.0.1:9", broken, "lost", output, environment, "--server-timeout", "0")
    assert done.returncode == 2
    assert the_error(done).startswith("--task lost: lm-eval cannot load it: ")


def test_a_task_that_fails_on_a_document_fails_for_it_alone(
    scorer: ServerProcess, output: Path, environment: dict[str, str]
) -> None:
    folder = write_tasks(output.parent / "failing")
    code = (folder / "own_metric.py").read_text()
    raised = "    if 'court' in doc['question']:\n        raise KeyError('no court')\n"
    head = "def process_results(doc, results):\n"
    (folder / "own_metric.py").write_text(code.replace(head, head + raised))
    documents = [json.loads(line) for line in (folder / "letters.jsonl").read_text().splitlines()]
    failing = ["court" in document["question"] for document in documents]
    assert 0 < sum(failing) < len(failing)
    done = ask(scorer.url, folder, "own", output, environment)
    assert done.returncode == 1
    assert "its task cannot grade it: KeyError: 'no court'" in the_error(done)
    assert [each["error"] is not None for each in sorted(records(output), key=by_index)] == failing
    assert summary(output)["tasks"]["own"]["sample_len"] == len(failing) - sum(failing)


def by_index(record: dict[str, Any]) -> int:
    return int(record["index"])


def test_a_choice_that_lm_eval_cannot_score_fails_alone(
    scorer: ServerProcess, output: Path, environment: dict[str, str]
) -> None:
    folder = write_tasks(output.parent / "empty")
    lines = (folder / "endings.jsonl").read_text().splitlines()
    broken = json.loads(lines[2])
    broken["endings"][1] = ""
    lines[2] = json.dumps({**broken, "ctx": broken["ctx"].strip()})
    (folder / "endings.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "endings.yaml").write_text((folder / "endings.yaml").read_text() + 'target_delimiter: ""\n')
    done = ask(scorer.url, folder, "endings", output, environment)
    assert done.returncode == 1
    assert "1 of 11 questions failed, the first endings 2: a choice has no tokens" in the_error(done)
    assert summary(output)["tasks"]["endings"]["sample_len"] == 10
    assert manifest(output)["tasks"]["tasks"]["endings"]["documents"] == 11
