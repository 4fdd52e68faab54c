"""Every choice that a start is made with, each declared with its flag, default and help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trt_common.command_line import values
from trt_common.command_line.option import option
from trt_common.command_line.path_value import path

from trt_server import flag_values
from trt_server.observe import log
from trt_server.request_memory.cost import MESSAGE_COPIES, REQUEST_BYTE_MEMORY

ENGINES = ("auto", "tensorrt", "onnxruntime", "openvino", "torch")
REFERENCES = ("torch",)
PRECISIONS = ("fp16", "fp32", "bf16")

# No batch is much longer, so that no caller waits much longer for another one's.
BATCH_SECONDS = 5.0
# A batch that takes so many times as long as others like it is not just slow.
STALL_FACTOR = 20

MODEL, LIMITS, PORTS, ACCESS, LOGS = "model and engine", "limits", "ports", "access", "logs"


@dataclass(frozen=True)
class Settings:
    """The settings of a start: what the server holds, how it computes, and where it listens.

    A value that is None leaves the choice to the engine or the model, as the option's help says.
    """

    model: str = option(
        MODEL,
        "a Hugging Face checkpoint folder, a hub id, `demo`, or `dummy:<geometry>` (random weights)",
        type=flag_values.model,
        default="demo",
    )
    engine: str = option(MODEL, "what runs the model", choices=ENGINES, default="auto")
    devices: tuple[int, ...] | None = option(
        MODEL,
        "GPUs that share the work of one queue, by CUDA's numbers, as 0,1; they have to be alike. The first "
        "one by default",
        type=flag_values.devices,
        metavar="N,…",
    )
    targets: tuple[str, ...] | None = option(
        MODEL,
        "with `build`: compute capabilities of GPUs elsewhere that the plan is for, as sm80,sm89; it needs "
        "TensorRT-RTX and no GPU",
        flag="--target",
        type=flag_values.targets,
        metavar="smNN,…",
    )
    layers: Path | None = option(
        MODEL,
        "with `build`: write there what the plan runs, layer by layer, as the compiler tells it",
        type=path,
        metavar="FOLDER",
    )
    reference: str | None = option(
        MODEL, "load this beside it, for clients that validate against it", choices=REFERENCES
    )
    precision: str | None = option(
        MODEL, "what it computes in; the engine's own by default", choices=PRECISIONS
    )
    tf32: bool = option(
        MODEL,
        "let TensorRT compute fp32 products in TF32: faster, 10 bits of mantissa",
        action="store_true",
    )
    threads: int = option(MODEL, "CPU threads; 0: every core it may use", type=values.natural, default=0)
    peak_flops: float | None = option(
        MODEL,
        "FLOP/s of a device that MFU is a share of, in place of the known one; a reference has it too where "
        "it computes on the same device in the same precision",
        type=values.flops,
    )
    max_batch_size: int | None = option(
        LIMITS,
        "prompts in a request; 32 by default, 1 with TensorRT, whose plan always holds the memory of its "
        "largest batch",
        type=values.count,
    )
    max_prompt_tokens: int | None = option(
        LIMITS, "tokens in a prompt; the model's positions, up to 4096, by default", type=values.count
    )
    max_batch_tokens: int | None = option(
        LIMITS,
        "tokens in a batch, padding counted; a larger request is run in parts; by default as many as take "
        f"about {BATCH_SECONDS:g} s by the speed at the start, and one longest prompt at least",
        type=values.count,
    )
    max_scored_positions: int | None = option(
        LIMITS,
        "positions of a request whose next token is scored: one a prompt, those of continuations, all of a "
        "whole text; any number by default, 256 with TensorRT, whose plan holds their memory",
        type=values.count,
    )
    max_queue_delay_us: int = option(
        LIMITS,
        "microseconds to wait for requests to merge into a batch; 0: never, so that bs 1 means bs 1",
        type=values.natural,
        default=0,
    )
    prefix_cache_bytes: int | None = option(
        LIMITS,
        "device memory for shared prefixes that clients allow to be reused, as 500MB or 2GiB; 0: none; 1GiB "
        "by default, 0 with TensorRT, which needs another plan for them",
        type=flag_values.byte_count,
    )
    max_queue_size: int = option(LIMITS, "requests that may wait", type=values.count, default=256)
    max_request_bytes: int = option(
        LIMITS,
        "bytes of one request, uncompressed, as 4MB or 16MiB",
        type=flag_values.byte_count,
        default=4 * 1024 * 1024,
    )
    request_memory: int = option(
        LIMITS,
        "memory that requests may take, from their first byte to their answer, as 500MB or 2GiB: while a "
        f"message of gRPC is received it counts as {MESSAGE_COPIES} times the longest that may be; a request "
        f"that waits, and a body over HTTP, as {REQUEST_BYTE_MEMORY} times its bytes or more",
        type=flag_values.byte_count,
        default=1024 * 1024 * 1024,
    )
    receive_timeout: float = option(
        LIMITS, "seconds for a request to come whole", type=values.positive_seconds, default=60.0
    )
    stream_window: int = option(LIMITS, "unanswered requests of one stream", type=values.count, default=64)
    max_connections: int = option(
        LIMITS,
        "connections that the gRPC port holds at once, and as many again the HTTP port; more are closed",
        type=values.count,
        default=512,
    )
    idle_timeout: float = option(
        LIMITS,
        "seconds after which a connection that asks nothing is closed",
        type=values.positive_seconds,
        default=300.0,
    )
    keepalive_time: float = option(
        LIMITS,
        "seconds without a sign of life after which the gRPC port pings a caller",
        type=values.positive_seconds,
        default=60.0,
    )
    keepalive_timeout: float = option(
        LIMITS,
        "seconds for the answer to that ping, until the connection is closed with what it asked for",
        type=values.positive_seconds,
        default=20.0,
    )
    drain_timeout: float = option(
        LIMITS, "seconds for accepted work at a stop", type=values.positive_seconds, default=60.0
    )
    stall_timeout: float = option(
        LIMITS,
        f"seconds for a batch, or {STALL_FACTOR} times what it should take if that is more, until health is "
        "NOT_SERVING; 0: never",
        type=values.seconds,
        default=60.0,
    )
    stall_exit: float = option(
        LIMITS,
        "seconds from then to the end of the process, with status 3, for its supervisor to start it again",
        type=values.seconds,
        default=60.0,
    )
    host: str = option(
        PORTS, "address to listen on; 0.0.0.0 for every one", type=flag_values.host, default="127.0.0.1"
    )
    grpc_port: int = option(PORTS, "port of the service; 0: a free one", type=values.port, default=8001)
    metrics_port: int = option(PORTS, "port for Prometheus; 0: a free one", type=values.port, default=8002)
    http_port: int | None = option(
        PORTS,
        "port of OpenAI's completions over HTTP; 0: a free one; none is opened by default",
        type=values.port,
    )
    token_file: Path | None = option(
        ACCESS,
        "file of tokens, one a line: a caller has to send one of them, as `authorization: Bearer TOKEN`, for "
        "all but health; read again when it changes",
        type=path,
        metavar="FILE",
    )
    tls_cert: Path | None = option(
        ACCESS,
        "PEM certificate chain; with --tls-key: serve TLS; both are read again when they change",
        type=path,
        metavar="FILE",
    )
    tls_key: Path | None = option(ACCESS, "PEM private key", type=path, metavar="FILE")
    tls_client_ca: Path | None = option(
        ACCESS,
        "PEM certificates of authorities: a caller has to show a certificate that one of them has signed; "
        "read again when it changes",
        type=path,
        metavar="FILE",
    )
    metrics_tls: bool = option(
        ACCESS,
        "the metrics' port speaks TLS too, and asks for what --tls-client-ca says",
        action="store_true",
    )
    metrics_token: bool = option(
        ACCESS, "the metrics' port asks for a token of --token-file too", action="store_true"
    )
    no_reflection: bool = option(
        ACCESS, "do not describe the service to callers (gRPC's server reflection)", action="store_true"
    )
    log_format: str = option(LOGS, "lines for people or JSON", choices=log.FORMATS, default="text")
    log_level: str = option(LOGS, "least level that is written", choices=log.LEVELS, default="info")
