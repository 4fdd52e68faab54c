"""A campaign's file: which cells it describes, and what is refused before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from client_process import command, the_error
from mmlu import write_benchmark
from mmlu_client.campaign.file.campaign_file import Campaign, read_campaign
from mmlu_client.errors import InputError

FILE = """\
models: [demo, other: demo]
servers:
  fp32: {engine: onnxruntime}
  bf16: {engine: openvino, precision: bf16, resources: {cpus: 1}}
  vllm: {url: 'http://127.0.0.1:9', peak-flops: '1e12'}
workloads:
  mmlu: {data: data, subjects: [alpha, beta]}
  arc: {task: arc_easy, limit: 5}
prompt-formats: [hendrycks, flagperf]
loads:
  one: {bs: 1, concurrency: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_benchmark(tmp_path / "data", {"alpha": 3, "beta": 2})
    return tmp_path


def read(folder: Path, text: str) -> Campaign:
    path = folder / "file.yaml"
    path.write_text(text)
    return read_campaign(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_cells_are_all_combinations_that_mean_something(folder: Path) -> None:
    """A server that runs already has its model, and a task its prompts."""
    names = [cell.name for cell in read(folder, FILE).cells]
    asked = ("mmlu+hendrycks", "mmlu+flagperf", "arc")
    models = [f"{model}+{server}" for model in ("demo", "other") for server in ("fp32", "bf16")]
    expected = {f"{server}+{what}+one+r1" for server in (*models, "vllm") for what in asked}
    assert set(names) == expected
    assert len(names) == len(expected)


def test_a_cell_has_the_flags_of_all_its_values(folder: Path) -> None:
    text = f"{FILE}client-flags: {{seed-of: 1}}\n".replace("seed-of", "random-seed")
    campaign = read(folder, f"{text}server-flags: {{threads: 2}}\n")
    cell = next(cell for cell in campaign.cells if cell.name == "other+bf16+mmlu+flagperf+one+r1")
    assert cell.setting.words == ["--threads=2", "--model=demo", "--engine=openvino", "--precision=bf16"]
    assert cell.setting.resources.cpus == 1
    assert cell.words == [
        "--random-seed=1", f"--data={folder / 'data'}", "--subjects", "alpha", "beta",
        "--prompt-format=flagperf", "--bs=1", "--concurrency=1",
    ]  # fmt: skip
    assert dict(cell.coordinates) == {
        "model": "other", "server": "bf16", "workload": "mmlu", "prompt-format": "flagperf", "load": "one",
        "repetition": "r1",
    }  # fmt: skip
    vllm = next(cell for cell in campaign.cells if cell.name == "vllm+arc+one+r1")
    assert vllm.setting.url == "http://127.0.0.1:9"
    assert "--peak-flops=1e12" in vllm.words


def test_matrix_exclude_and_include_choose_cells(folder: Path) -> None:
    campaign = read(
        folder,
        f"{FILE}"
        "matrix: {servers: [fp32, bf16], workloads: [arc]}\n"
        "exclude: [{model: [demo, other], server: bf16}]\n"
        "include: [{model: demo, server: bf16, workload: mmlu, prompt-format: hendrycks}]\n"
        "repetitions: 2\n",
    )
    names = [cell.name for cell in campaign.cells]
    assert names == [
        *(f"{model}+fp32+arc+one+r{number}" for model in ("demo", "other") for number in (1, 2)),
        "demo+bf16+mmlu+hendrycks+one+r1",
        "demo+bf16+mmlu+hendrycks+one+r2",
    ]


def test_a_cell_is_compared_with_the_baseline_that_is_like_it(folder: Path) -> None:
    campaign = read(folder, f"{FILE}baseline: {{server: fp32}}\n")
    compared = {
        cell.name: base.name if (base := campaign.baseline_of(cell)) else None for cell in campaign.cells
    }
    assert compared["demo+bf16+arc+one+r1"] == "demo+fp32+arc+one+r1"
    assert compared["demo+fp32+arc+one+r1"] is None
    # It has no model by which the file could tell with which to compare it.
    assert compared["vllm+arc+one+r1"] is None


REFUSED = {
    "an unknown key": (f"{FILE}modles: [a]\n", 12, "`modles` is no key of a campaign: did you mean models?"),
    "no YAML": ("models: [a\n", 2, "is not YAML"),
    "a key twice": (f"{FILE}models: [a]\n", 12, "`models` stands here and in line 1"),
    "a list": ("- models\n", 1, "has to hold lines like"),
    "an unknown flag": (
        f"{FILE}client-flags: {{limt: 3}}\n", 12, "`limt` is no flag of mmlu-client: did you mean limit?",
    ),
    "a wrong value": (FILE.replace("limit: 5", "limit: five"), 8, "'five' is not a whole number from 1"),
    "a value of a switch": (f"{FILE}client-flags: {{offline: 3}}\n", 12, "`offline` has to be true or false"),
    "a switch of a value": (f"{FILE}client-flags: {{limit: true}}\n", 12, "`limit` has to be a value"),
    "what a campaign sets": (f"{FILE}client-flags: {{output: x}}\n", 12, "`output` cannot be set"),
    "where a server listens": (FILE.replace("precision: bf16", "grpc-port: 1"), 4, "`grpc-port` cannot"),
    "a server's flag of a run": (f"{FILE}client-flags: {{model-name: x}}\n", 12, "move it to a server"),
    "a run's flag of a server": (FILE.replace("peak-flops", "limit"), 5, "says nothing of a server"),
    "a sweep": (FILE.replace("bs: 1", "sweep: 'concurrency=1,2'"), 11, "name each load under `loads`"),
    "flags that do not go together": (
        FILE.replace("limit: 5", "reuse-prefix: true"), 8, "--reuse-prefix is of MMLU's questions",
    ),
    "two models of one name": (FILE.replace("other: demo", "x/demo"), 1, "would have one name"),
    "a name that is none": (FILE.replace("one:", "'one/two':"), 11, "'one/two' cannot be a name"),
    "an unknown name": (f"{FILE}exclude: [{{server: fp23}}]\n", 12, '"fp23" is no server of this file: did'),
    "an unknown coordinate": (f"{FILE}exclude: [{{sever: a}}]\n", 12, "`sever` is no coordinate"),
    "an exclude of nothing": (
        f"{FILE}exclude:\n- {{server: bf16}}\n- {{server: bf16}}\n", 14, "no cell is",
    ),
    "an include of nothing new": (f"{FILE}include: [{{model: demo}}]\n", 12, "two cells would have one name"),
    "no cell": (f"{FILE}exclude: [{{load: one}}]\n", 1, "no cell is left"),
    "no attempts": (f"{FILE}attempts: 0\n", 12, "`attempts` has to be a whole number from 1, and is 0"),
    "unknown resources": (f"{FILE}resources: {{gpu: 1}}\n", 12, "`gpu` is no resource"),
    "a baseline of several": (f"{FILE}baseline: {{server: [fp32, bf16]}}\n", 12, "has to name one value"),
    "a model twice": (
        FILE.replace("{engine: onnxruntime}", "{model: demo}"), 3, "and `models` names models too",
    ),
    "a url that is none": (FILE.replace("'http://127.0.0.1:9'", "[a]"), 5, "`url` has to be an address"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused_with_its_line(folder: Path, what: str) -> None:
    text, line, said = REFUSED[what]
    message = refused(folder, text)
    assert message.startswith(f"{folder / 'file.yaml'}:{line}: "), message
    assert said in message


def test_aliases_of_aliases_end_soon(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "holds more than 100,000 values" in refused(folder, "\n".join(lines))


MOST = "10,000 are the most: name fewer, or part them into several files"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{FILE}repetitions: 1000000000\n",
            f"12: values and repetitions are combined to 1,000,000,000 cells, and {MOST}",
        ),
        (f"{FILE}repetitions: {'9' * 5000}\n", f"12: cannot read '{'9' * 50}'…: put it in quotes"),
        (f"{FILE}repetitions: 0x{'f' * 5000}\n", f"12: '0x{'f' * 48}'… is too large a number"),
        (
            f"models: [{', '.join(f'm{number}' for number in range(300))}]\n"
            f"workloads: {{{', '.join(f'w{number}: {{limit: 1}}' for number in range(300))}}}\n"
            f"loads: {{{', '.join(f'l{number}: {{bs: 1}}' for number in range(300))}}}\n",
            f"1: values and repetitions are combined to 27,000,000 cells, and {MOST}",
        ),
    ],
    ids=["repetitions", "thousands of digits", "thousands of digits to the base 16", "axes"],
)
def test_too_many_cells_are_refused_before_any_is_made(folder: Path, text: str, said: str) -> None:
    (folder / "file.yaml").write_text(text)
    done = command("campaign", "file.yaml", "--dry-run", "--output", "out", folder=folder)
    assert done.returncode == 2
    assert the_error(done) == f"file.yaml:{said}"
    assert done.stdout == ""


def test_dry_run_prints_the_cells_and_starts_nothing(folder: Path) -> None:
    (folder / "file.yaml").write_text(
        "models: [demo]\nservers:\n  here: {engine: onnxruntime}\nworkloads:\n  mmlu: {data: data}\n"
        "repetitions: 2\n"
    )
    done = command("campaign", "file.yaml", "--dry-run", "--output", "out", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *(
            line
            for number in (1, 2)
            for line in (
                f"demo+here+mmlu+r{number}: waiting",
                "  trt-server --model=demo --engine=onnxruntime",
                f"  mmlu-client --data={folder / 'data'}",
            )
        ),
        "2 cells on 1 servers",
    ]
    assert not (folder / "out").exists()


def test_what_is_not_there_is_told_before_anything_is_started(folder: Path) -> None:
    texts = {
        "a model": ("models:\n- demo\n- /not/there\n", "file.yaml:3: server there: "),
        "data": (
            "models: [demo]\nworkloads:\n  mmlu: {data: /not/there}\n",
            "file.yaml:3: cell demo+mmlu+r1: ",
        ),
        "a server": ("servers:\n  far: {url: '127.0.0.1:9'}\n", "file.yaml:2: server far: nothing answers"),
        "a server's flag": ("servers:\n  far:\n    precision: fp7\n", "file.yaml:3: server far: "),
        "cores": ("models: [demo]\nresources: {cpus: 4096}\n", "it needs 4096 cpus"),
        "gpus": ("models: [demo]\nresources: {gpus: 4096}\n", "it needs 4096 gpus"),
    }
    for what, (text, said) in texts.items():
        (folder / "file.yaml").write_text(text)
        done = command("campaign", "file.yaml", "--output", "out", folder=folder)
        assert done.returncode == 2, what
        assert said in the_error(done), what
        assert not (folder / "out").exists(), what


def test_lanes_without_a_core_each_are_refused(folder: Path) -> None:
    (folder / "file.yaml").write_text("models: [demo]\n")
    done = command("campaign", "file.yaml", "--parallel", "4096", folder=folder)
    assert done.returncode == 2
    assert "--parallel 4096" in the_error(done)


def test_a_folder_of_something_else_is_refused(folder: Path) -> None:
    (folder / "file.yaml").write_text("models: [demo]\n")
    done = command("campaign", "file.yaml", "--output", "data", folder=folder)
    assert done.returncode == 2
    assert "holds no campaign" in the_error(done)


def test_definitions_are_what_json_keeps(folder: Path) -> None:
    for cell in read(folder, FILE).cells:
        assert json.loads(json.dumps(cell.definition)) == cell.definition
