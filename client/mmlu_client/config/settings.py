"""Every choice that a run is made with, each declared with its flag, default and help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trt_common.command_line import values
from trt_common.command_line.option import nested, option

from mmlu_client.config import flag_values
from mmlu_client.config.load_plan import LOAD, LoadPlan
from mmlu_client.errors import InputError
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.limit import RequestedLimit
from mmlu_client.service.address import Address, parse_address, parse_addresses
from mmlu_client.service.server_kind import AUTO, KINDS, ServerKind
from mmlu_client.service.stages import Slo

SERVER, BENCHMARK, ACCURACY, OUTPUT = "server", "benchmark", "accuracy", "output"
PRINTED = ("table", "flagperf", "lm-eval", "json", "csv")
METRICS_HOST = "127.0.0.1"
DATA, FEW_SHOTS = "demo", 5


def _path(given: str | None) -> Path | None:
    return Path(given).expanduser() if given else None


def _metrics(given: str | None) -> tuple[Address, ...]:
    if given is None:
        return ()
    addresses = tuple(parse_address(url.strip()) for url in given.split(","))
    for address in addresses:
        if not address.http:
            raise InputError(f"--server-metrics {given}: must be like http://host:8000/metrics")
    return addresses


def _tasks(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    if not names:
        raise InputError("--task names none: leave it away to ask --data")
    return tuple(dict.fromkeys(names))


def _subjects(given: Sequence[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = tuple(name for value in given for name in value.replace(",", " ").split())
    if not names:
        raise InputError("--subjects names none: leave it away to ask all")
    return names


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run: what it asks, of which servers, how, and where its files go.

    Attributes:
        given: the flags by their names, as JSON holds them, for a run that resumes this one.
    """

    addresses: tuple[Address, ...] = option(
        SERVER,
        "host:port, or grpcs://host:port for TLS; several share the load; dns:///name:port is every address "
        "of a name; http://host:port or https://host:port is a server that is asked over HTTP",
        flag="--url",
        default="localhost:8001",
        metavar="URL[,URL]",
        read=parse_addresses,
    )
    server_kind: ServerKind = option(
        SERVER,
        "what is asked: a trt-server over gRPC, or over HTTP OpenAI's completions (vLLM, llama.cpp, "
        "trt-server) or SGLang's own endpoint; by default the scheme of --url decides, and the server's list "
        "of models",
        choices=KINDS,
        default=AUTO,
    )
    model_name: str | None = option(SERVER, "over HTTP, the model that is asked, of several", metavar="NAME")
    api_key_file: Path | None = option(
        SERVER,
        "over HTTP, a file with the key that the server is shown, as --token-file has it",
        metavar="FILE",
        type=flag_values.path,
        read=_path,
    )
    model_config: str | None = option(
        SERVER,
        "over HTTP, the served model's config.json, by which FLOPs are counted, and its tokenizer: `demo`, a "
        "folder or a hub id",
        type=flag_values.path,
        metavar="demo|FOLDER|ID",
    )
    peak_flops: float | None = option(
        SERVER,
        "over HTTP, what all devices of a server can do together, in FLOP/s, like 312e12, for MFU",
        type=values.flops,
        metavar="FLOPS",
    )
    server_metrics: tuple[Address, ...] = option(
        SERVER,
        "over HTTP, where vLLM or SGLang has its metrics for Prometheus, like http://host:8000/metrics, "
        "which tell what it cached and used again, and the wait in its queue",
        metavar="URL[,URL]",
        read=_metrics,
    )
    tls_ca: Path | None = option(
        SERVER,
        "PEM certificates to trust; the system's by default",
        type=flag_values.path,
        metavar="FILE",
        read=_path,
    )
    tls_cert: Path | None = option(
        SERVER,
        "PEM certificate chain to show servers that ask for one; with --tls-key",
        metavar="FILE",
        type=flag_values.path,
        read=_path,
    )
    tls_key: Path | None = option(
        SERVER,
        "its PEM private key",
        type=flag_values.path,
        metavar="FILE",
        read=_path,
    )
    token_file: Path | None = option(
        SERVER,
        "file of a token that every server is sent, as `authorization: Bearer TOKEN`; the first line counts; "
        "read again when it changes",
        metavar="FILE",
        type=flag_values.path,
        read=_path,
    )
    server_timeout: float = option(
        SERVER,
        "how long a server may be away, at the start and in the run",
        type=values.seconds,
        default=60.0,
        metavar="SECONDS",
    )
    request_timeout: float | None = option(
        SERVER,
        "how long an answer may take before it is asked for again, of another server where there is one, and "
        "how long a full queue may refuse every request; by default 10 times the server's slowest answer so "
        "far and 120 at least, 900 until its first",
        type=values.positive_seconds,
        metavar="SECONDS",
    )
    data: str | None = option(
        BENCHMARK,
        f"`{DATA}` (the default), a hub id (cais/mmlu, haonan-li/cmmlu, ceval/ceval-exam, "
        "TIGER-Lab/MMLU-Pro), or a folder of CSV or parquet files as these publish them",
        type=flag_values.path,
    )
    tasks: tuple[str, ...] | None = option(
        BENCHMARK,
        "ask these tasks, groups or tags of lm-evaluation-harness instead of --data, by its own code; needs "
        "`pip install 'trt-server[lm-eval]'`",
        flag="--task",
        metavar="A,B",
        read=_tasks,
    )
    include_path: Path | None = option(
        BENCHMARK,
        "a folder of your own YAML files of tasks",
        type=flag_values.path,
        metavar="FOLDER",
        read=_path,
    )
    subjects: tuple[str, ...] | None = option(
        BENCHMARK,
        "subjects to ask, separated by commas; all by default",
        nargs="+",
        metavar="A,B",
        read=_subjects,
    )
    limit: int | None = option(
        BENCHMARK, "questions a subject, documents a task; all by default", type=values.count, metavar="N"
    )
    few_shots: int | None = option(
        BENCHMARK,
        f"solved examples (shots) before each question (default: {FEW_SHOTS}; with --task, as many as each "
        "task says)",
        type=values.natural,
        metavar="N",
    )
    prompt_format: str | None = option(
        BENCHMARK,
        "prompt wording; the data's own by default: hendrycks for MMLU, cmmlu, ceval, mmlu-pro",
        choices=sorted(FORMATS),
    )
    max_prompt_tokens: RequestedLimit = option(
        BENCHMARK,
        "tokens of the longest prompt, BOS included; `model`: as many as the server takes (default: 2048 for "
        "hendrycks, flagperf and cmmlu, whose own programs cut there, `model` for the others)",
        type=flag_values.prompt_tokens,
        metavar="N|model",
    )
    tokenizer: str | None = option(
        BENCHMARK,
        "the model's tokenizer, where the server gives none, as with dummy:<geometry>; the server's by "
        "default",
        type=flag_values.path,
        metavar="demo|FOLDER|ID",
    )
    reuse_prefix: bool = option(
        BENCHMARK,
        "let the server compute the shots that a subject's questions share once; figures say so",
        action="store_true",
    )
    batch_size: int = option(
        BENCHMARK, "prompts in a request", flag="--bs", type=flag_values.million, default=1, metavar="N"
    )
    load: LoadPlan = nested(LoadPlan)
    seed: int = option(
        LOAD,
        "seed of Poisson arrivals, and of the questions' order where a run may end before the last of them",
        flag="--random-seed",
        type=values.seed,
        default=0,
        metavar="N",
    )
    slos: tuple[Slo, ...] = option(
        LOAD,
        "report the share of requests whose KEY (latency, or a stage like server_queue or core) took at most "
        "so many milliseconds; repeat it for several",
        flag="--goodput",
        type=flag_values.slo,
        action="append",
        metavar="KEY:MS",
        read=lambda given: tuple(given or ()),
    )
    validate: bool = option(
        ACCURACY,
        "ask the reference engine first (a server started with --reference torch) and compare",
        action="store_true",
    )
    early_stop: float | None = option(
        ACCURACY,
        "end when the 95 %% interval of acc is narrower, like 0.02; asks in random order",
        type=flag_values.share,
        metavar="WIDTH",
    )
    output: Path | None = option(
        OUTPUT,
        "folder for records and figures; results/<UTC time> by default",
        type=flag_values.path,
        metavar="DIR",
        read=_path,
    )
    labels: dict[str, str] = option(
        OUTPUT,
        "a name and a value that manifest.json keeps, for whoever sorts runs; repeat it for several",
        flag="--label",
        type=flag_values.label,
        action="append",
        metavar="NAME=VALUE",
        read=lambda given: dict(given or ()),
    )
    resume: Path | None = option(
        OUTPUT,
        "go on with the run, or the sweep, in this folder, with its own flags where no other is given",
        metavar="DIR",
        type=flag_values.path,
        read=_path,
    )
    format: str = option(OUTPUT, "what is printed at the end", choices=PRINTED, default="table")
    verbose: bool = option(
        OUTPUT,
        "print every line of summary.md at the end, and a line for each finished subject on the way",
        action="store_true",
    )
    metrics_port: int | None = option(
        OUTPUT,
        "port for Prometheus to scrape while the run is on and until it has the last figures; 0: a free one; "
        "none by default",
        type=values.port,
        metavar="PORT",
    )
    metrics_host: str = option(
        OUTPUT,
        f"address it listens on; 0.0.0.0 for every one (default: {METRICS_HOST})",
        metavar="HOST",
        read=lambda given: given or METRICS_HOST,
    )
    given: dict[str, Any]

    @property
    def named_tokenizer(self) -> str | None:
        """The tokenizer that the person names: --tokenizer, or the one beside --model-config."""
        return self.tokenizer or self.model_config

    @property
    def sweep(self) -> tuple[LoadPlan, ...]:
        """The load of each run of the sweep, of which this may be one; empty where there is none."""
        return self.load.points

    @property
    def is_shuffled(self) -> bool:
        """Whether questions are asked in random order.

        A run that may end before its last question must not have asked the first subjects only.
        """
        return self.early_stop is not None or self.load.duration is not None or bool(self.load.request_count)

    def within(self, capacity: int) -> Settings:
        """Return these settings with a concurrency that the servers' windows hold.

        Args:
            capacity: the requests that all servers' windows hold together.

        Raises:
            InputError: more were asked for, here or in another point of the sweep.
        """
        swept = [plan.concurrency for plan in self.sweep if plan.mode == "closed"]
        most = max([self.given["concurrency"] or 0, *swept])
        if most > capacity:
            flag = "--sweep" if swept else "--concurrency"
            others = "" if self.addresses[0].http else ", or start trt-server with a larger --stream-window"
            raise InputError(
                f"{flag}: {most} requests cannot be in flight: the servers' windows hold {capacity} in all; "
                f"ask for {capacity} at most{others}"
            )
        return replace(self, load=replace(self.load, concurrency=min(self.load.concurrency, capacity)))
