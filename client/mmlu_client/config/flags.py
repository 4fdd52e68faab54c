"""The flags of a run, in groups, with their help."""

from __future__ import annotations

from importlib.metadata import version

import configargparse
from trt_common.command_line.parser import FlagParser

from mmlu_client.config import flag_values as values
from mmlu_client.load.pacing import ArrivalPattern
from mmlu_client.prompts.format import FORMATS

PROGRAM = "mmlu-client"
PRINTED = ("table", "flagperf", "lm-eval", "json", "csv")
CONCURRENCY = 4
ARRIVAL_PATTERN: ArrivalPattern = "poisson"
METRICS_HOST = "127.0.0.1"


def run_parser() -> FlagParser:
    parser = FlagParser(
        PROGRAM,
        "MMLU_CLIENT_",
        description="Stream MMLU through a trt-server and measure accuracy, throughput and MFU.",
        epilog="Every flag may also be set in the config file and in the environment, as MMLU_CLIENT_<FLAG>. "
        f"`{PROGRAM} compare A B …` puts runs side by side; `{PROGRAM} report DIR` prints one again.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version('trt-server')}")
    for add in (_server, _benchmark, _load, _accuracy, _output):
        add(parser)
    return parser


def _server(parser: configargparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument(
        "--url",
        default="localhost:8001",
        metavar="URL[,URL]",
        help="host:port, or grpcs://host:port for TLS; several share the load; dns:///name:port is every "
        "address of a name",
    )
    group.add_argument("--tls-ca", metavar="FILE", help="PEM certificates to trust; the system's by default")
    group.add_argument(
        "--server-timeout",
        type=values.seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long a server may be away, at the start and in the run",
    )


def _benchmark(parser: configargparse.ArgumentParser) -> None:
    group = parser.add_argument_group("benchmark")
    group.add_argument(
        "--data", default="demo", help="`demo`, a hub id (cais/mmlu), or a folder of CSV or parquet"
    )
    group.add_argument(
        "--subjects", nargs="+", metavar="A,B", help="subjects to ask, separated by commas; all by default"
    )
    group.add_argument("--limit", type=values.count, metavar="N", help="questions a subject; all by default")
    group.add_argument(
        "--few-shots", type=values.natural, default=5, metavar="N", help="solved questions before it"
    )
    group.add_argument("--prompt-format", choices=sorted(FORMATS), default="hendrycks", help="whose prompts")
    group.add_argument(
        "--max-prompt-tokens",
        type=values.prompt_tokens,
        metavar="N|model",
        help="tokens of the longest prompt, BOS included; `model`: as many as the server takes (default: "
        "2048 for hendrycks and flagperf, whose own programs cut there, `model` for lm-eval)",
    )
    group.add_argument(
        "--tokenizer",
        metavar="demo|FOLDER|ID",
        help="where the server gives none, as with dummy:<geometry>; the server's by default",
    )
    group.add_argument(
        "--reuse-prefix",
        action="store_true",
        help="let the server compute the shots that a subject's questions share once; figures say so",
    )
    group.add_argument("--bs", type=values.count, default=1, metavar="N", help="prompts in a request")


def _load(parser: configargparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    mode = group.add_mutually_exclusive_group()
    mode.add_argument(
        "--concurrency",
        type=values.count,
        metavar="N",
        help=f"closed loop: requests in flight, as many as the servers' windows hold at most "
        f"(default: {CONCURRENCY}, or what they hold)",
    )
    mode.add_argument(
        "--request-rate",
        type=values.rate,
        metavar="R",
        help="open loop: requests a second, answered or not",
    )
    mode.add_argument(
        "--offline", action="store_true", help="everything is due at once; the servers' windows bound it"
    )
    mode.add_argument(
        "--sweep",
        type=values.sweep,
        metavar="NAME=A,B",
        help="one run for each: concurrency=1,2,4 or request-rate=5,10; a folder for each in --output",
    )
    group.add_argument(
        "--arrival-pattern",
        choices=("poisson", "constant"),
        help=f"how requests of an open loop come (default: {ARRIVAL_PATTERN})",
    )
    group.add_argument(
        "--warmup-request-count",
        type=values.natural,
        default=0,
        metavar="N",
        help="requests asked before and thrown away",
    )
    group.add_argument(
        "--benchmark-duration",
        type=values.positive_seconds,
        metavar="SECONDS",
        help="ask nothing new after so long, of all starts of a resumed run together; it ends sooner when "
        "every question is asked",
    )
    group.add_argument(
        "--request-count", type=values.count, metavar="N", help="requests at the most; all by default"
    )
    group.add_argument(
        "--random-seed",
        type=values.natural,
        default=0,
        metavar="N",
        help="of poisson arrivals, and of the questions' order where a run may end before the last of them",
    )
    group.add_argument(
        "--goodput",
        type=values.goal,
        action="append",
        metavar="KEY:MS",
        help="report the share of requests whose KEY (latency, or a stage like server_queue or core) took at "
        "most so many milliseconds; repeat it for several",
    )


def _accuracy(parser: configargparse.ArgumentParser) -> None:
    group = parser.add_argument_group("accuracy")
    group.add_argument(
        "--validate",
        action="store_true",
        help="ask the reference engine first (a server started with --reference torch) and compare",
    )
    group.add_argument(
        "--early-stop",
        type=values.share,
        metavar="WIDTH",
        help="end when the 95 %% interval of acc is narrower, like 0.02; asks in random order",
    )


def _output(parser: configargparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", metavar="DIR", help="folder for records and figures; results/<UTC time> by default"
    )
    group.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with the run, or the sweep, in this folder, with its own flags where no other is given",
    )
    group.add_argument("--format", choices=PRINTED, default="table", help="what is printed at the end")
    group.add_argument(
        "--verbose",
        action="store_true",
        help="print every line of summary.md at the end, and a line for each finished subject on the way",
    )
    group.add_argument(
        "--metrics-port",
        type=values.port,
        metavar="PORT",
        help="port for Prometheus to scrape while the run is on and until it has the last figures; 0: a free "
        "one; none by default",
    )
    group.add_argument(
        "--metrics-host",
        metavar="HOST",
        help=f"address it listens on; 0.0.0.0 for every one (default: {METRICS_HOST})",
    )
