"""The command line of trt-server: flags, config file and environment become Settings."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import trt_common.quiet_grpc  # noqa: F401
from trt_common.command_line.parser import FlagParser
from trt_common.command_line.streams import take_any_text

from trt_server.cache.folder import VARIABLE
from trt_server.errors import StartError
from trt_server.observe import log
from trt_server.settings import ENGINES, PRECISIONS, REFERENCES, Settings

SERVE, BUILD, CACHE = "serve", "build", "cache"


def parser() -> FlagParser:
    parse = FlagParser(
        "trt-server",
        "TRT_SERVER_",
        usage="trt-server [build] [flags], or trt-server cache [list | remove …]",
        description="Hold a language model as one compiled engine and score prompts over gRPC. With `build`: "
        "make what the engine keeps (TensorRT's plan, converted weights), say where, and serve nothing. With "
        "`cache`: list or remove what was kept.",
        epilog="Every flag may also be set in the config file and in the environment, as TRT_SERVER_<FLAG>. "
        "What is kept from one start to the next (plans, converted and random weights) lies in the folder "
        "TRT_SERVER_CACHE, ~/.cache/trt-server by default; `trt-server cache` lists it.",
    )
    add = parse.add_argument
    add("--version", action="version", version=f"trt-server {version('trt-server')}")
    model = parse.add_argument_group("model and engine")
    model.add_argument(
        "--model",
        default="demo",
        help="a Hugging Face checkpoint folder, a hub id, `demo`, or `dummy:<geometry>` (random weights)",
    )
    model.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the model")
    model.add_argument(
        "--devices",
        type=_devices,
        metavar="N,…",
        help="GPUs that share the work of one queue, by CUDA's numbers, as 0,1; they have to be alike. The "
        "first one by default",
    )
    model.add_argument(
        "--target",
        dest="targets",
        type=_targets,
        metavar="smNN,…",
        help="with `build`: compute capabilities of GPUs elsewhere that the plan is for, as sm80,sm89; it "
        "needs TensorRT-RTX and no GPU",
    )
    model.add_argument(
        "--layers",
        type=Path,
        metavar="FOLDER",
        help="with `build`: write there what the plan runs, layer by layer, as the compiler tells it",
    )
    model.add_argument(
        "--reference", choices=REFERENCES, help="load this beside it, for clients that validate against it"
    )
    model.add_argument(
        "--precision", choices=PRECISIONS, help="what it computes in; the engine's own by default"
    )
    model.add_argument(
        "--tf32",
        action="store_true",
        help="let TensorRT compute fp32 products in TF32: faster, 10 bits of mantissa",
    )
    model.add_argument("--threads", type=_natural, default=0, help="CPU threads; 0: every core it may use")
    model.add_argument(
        "--peak-flops",
        type=_positive,
        help="FLOP/s of a device that MFU is a share of, in place of the known one; a reference has it too "
        "where it computes on the same device in the same precision",
    )
    limits = parse.add_argument_group("limits")
    limits.add_argument(
        "--max-batch-size",
        type=_count,
        help="prompts in a request; 32 by default, 1 with TensorRT, whose plan always holds the memory of "
        "its largest batch",
    )
    limits.add_argument(
        "--max-prompt-tokens",
        type=_count,
        help="tokens in a prompt; the model's positions, up to 4096, by default",
    )
    limits.add_argument(
        "--max-batch-tokens",
        type=_count,
        help="tokens in a batch, padding counted; no further limit by default",
    )
    limits.add_argument(
        "--max-queue-delay-us",
        type=_natural,
        default=0,
        help="microseconds to wait for requests to merge into a batch; 0: never, so that bs 1 means bs 1",
    )
    limits.add_argument(
        "--prefix-cache-bytes",
        type=_bytes,
        help="device memory for shared prefixes that clients allow to be reused, as 500MB or 2GiB; 0: none; "
        "1GiB by default, 0 with TensorRT, which needs another plan for them",
    )
    limits.add_argument("--max-queue-size", type=_count, default=256, help="requests that may wait")
    limits.add_argument("--stream-window", type=_count, default=64, help="unanswered requests of one stream")
    limits.add_argument(
        "--drain-timeout", type=_positive, default=60.0, help="seconds for accepted work at a stop"
    )
    ports = parse.add_argument_group("ports")
    ports.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one")
    ports.add_argument("--grpc-port", type=_port, default=8001, help="port of the service; 0: a free one")
    ports.add_argument("--metrics-port", type=_port, default=8002, help="port for Prometheus; 0: a free one")
    ports.add_argument("--tls-cert", type=Path, help="PEM certificate chain; with --tls-key: serve TLS")
    ports.add_argument("--tls-key", type=Path, help="PEM private key")
    logs = parse.add_argument_group("logs")
    logs.add_argument("--log-format", choices=log.FORMATS, default="text", help="lines for people or JSON")
    logs.add_argument("--log-level", choices=log.LEVELS, default="info", help="least level that is written")
    return parse


def parse_settings(arguments: Sequence[str] | None = None) -> tuple[str, Settings]:
    """The command and its settings. Exits with status 2 and one line where an argument is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words[:1] == [BUILD] else SERVE
    parse = parser()
    values = vars(parse.parse_args(words))
    values.pop("config")
    settings = Settings(**values)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        parse.error("--tls-cert and --tls-key belong together: give both or neither")
    if command != BUILD and (settings.targets or settings.layers):
        parse.error(
            f"{'--target' if settings.targets else '--layers'} is for `trt-server build`: leave it off"
        )
    return command, settings


def main(arguments: Sequence[str] | None = None) -> None:
    take_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [CACHE]:
        from trt_server.cache.command import run

        for line in _unknown_variables():
            print(f"trt-server: {line}", file=sys.stderr)
        _run(lambda: run(words[1:]))
        return
    command, settings = parse_settings(words)
    log.set_up_logging(settings.log_format, settings.log_level)
    for line in _unknown_variables():
        logging.getLogger(__name__).warning(line)
    from trt_server.loading.building import build
    from trt_server.server import serve

    def start() -> None:
        if command == BUILD:
            print(build(settings))
        elif not asyncio.run(serve(settings)):
            # Loading goes on, in threads of libraries too, for which the interpreter would wait.
            logging.shutdown()
            os._exit(0)

    _run(start)


def _unknown_variables() -> list[str]:
    return parser().unknown_variables(VARIABLE)


def _run(work: Callable[[], None]) -> None:
    """Ends the process with status 1 and one line where it fails."""
    try:
        work()
    except StartError as error:
        print(f"trt-server: error: {error}", file=sys.stderr)
        sys.exit(1)


def _port(text: str) -> int:
    return _whole(text, 0, 65535)


def _count(text: str) -> int:
    return _whole(text, 1, 2**31 - 1)


def _natural(text: str) -> int:
    return _whole(text, 0, 2**31 - 1)


def _devices(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of GPUs by number such as 0,1")
    devices = tuple(map(int, numbers))
    if len(set(devices)) < len(devices):
        raise argparse.ArgumentTypeError(f"{text!r} names a device twice: name each once")
    return devices


def _targets(text: str) -> tuple[str, ...]:
    names = text.lower().split(",")
    if not all(re.fullmatch(r"sm\d{2,3}", name, re.ASCII) for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of compute capabilities such as sm80,sm89")
    return tuple(dict.fromkeys(names))


def _whole(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*(?:([KMGT])(i?)B?|B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 500MB or 2GiB")
    power = " KMGT".index((match[2] or " ").upper())
    unit = 1024 if match[3] else 1000
    return int(match[1]) * int(unit**power)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
