"""The client alone: requests a second against a server that answers at once, and its memory as a run grows.

    python -m bench.client --questions 5000 20000

The server is a process of its own on a real channel that never parses a prompt: it finds a request's id in
its bytes, puts it into a reply made once, and so costs as little of the machine as a server can. It shares
the cores with the client. Each figure is of one run of `mmlu-client`: requests a second are those of its
summary, from the first request due to the last reply; CPU seconds and peak memory are of the whole process,
start and report included. The questions are made up, or those of --data.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from mmlu_client.data.question import LETTERS, Question
from mmlu_client.prompts.format import FORMATS
from scoring.v1 import scoring_pb2 as pb
from trt_common.command_line.streams import take_any_text
from trt_common.command_line.values import count
from trt_common.demo import FOLDER

SERVICE = "scoring.v1.Scoring"
FILLER = "The committee found that each of the statements before it was true of the second case only."
OPTIONS = ("one", "two", "three", "four")


def write_data(folder: Path, questions: int, tokens: int) -> None:
    """Write one subject whose prompts with five shots have at least this many of the demo's tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    words = FILLER.split()
    for length in itertools.count():
        text = " ".join(itertools.islice(itertools.cycle(words), length))
        shots = [Question("bench", row, f"{row}. {text}", OPTIONS, LETTERS[row % 4]) for row in range(5)]
        prompt = FORMATS["hendrycks"].head("bench", shots) + FORMATS["hendrycks"].body(shots[-1])
        if len(tokenizer.encode(prompt).ids) >= tokens:
            break
    for split, rows in (("dev", 5), ("test", questions)):
        path = folder / split / f"bench_{split}.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows((f"{row}. {text}", *OPTIONS, LETTERS[row % 4]) for row in range(rows))


class Instant:
    """A server that answers each request with the same reply, with its own id and candidates."""

    def __init__(self) -> None:
        files = ("tokenizer.json", "tokenizer_config.json")
        self._tokenizer = pb.Tokenizer(
            files=[pb.File(name=name, content=(FOLDER / name).read_bytes()) for name in files],
            fingerprint="bench",
        ).SerializeToString()
        self._model = pb.Model(
            id="instant",
            architecture="none",
            fingerprint="instant",
            geometry=pb.Geometry(vocabulary_size=2**31),
            parameters=pb.ParameterCount(total=1),
            engine=pb.EngineInfo(name="instant", version="0", precision="none", fingerprint="instant"),
            device=pb.Device(name="none"),
            peak=pb.PeakFlops(flops_per_second=1e12, source="made up"),
            limits=pb.Limits(max_prompt_tokens=2**20, max_batch_size=1, max_queue_size=64, stream_window=64),
        ).SerializeToString()
        self._response = b""

    def answer(self, request: bytes) -> bytes:
        """Return the reply to a request, which begins with its id: tag, length, text."""
        request_id = request[2 : 2 + request[1]].decode()
        if not self._response:
            self._response = self._first_response(request)
        reply = pb.StreamScoreResponse(id=request_id)
        reply.response.MergeFromString(self._response)
        return reply.SerializeToString()

    def _first_response(self, request: bytes) -> bytes:
        prompt = pb.ScoreRequest.FromString(request).prompts[0]
        tokens = len(prompt.token_ids.ids)
        return pb.ScoreResponse(
            scores=[
                pb.PromptScore(
                    candidate_ids=[each.token_id for each in prompt.candidates],
                    candidate_logprobs=[-1.0, -2.0, -3.0, -4.0],
                    top_token_id=prompt.candidates[0].token_id,
                    top_logprob=-1.0,
                    tokens=pb.TokenCount(logical=tokens, computed=tokens),
                    flops=tokens,
                )
            ],
            timing=pb.Timing(core_ns=1, total_ns=1),
            batch=pb.Batch(prompts=1, padded_length=tokens),
        ).SerializeToString()

    async def stream(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        """Answer the requests of a stream."""
        async for request in requests:
            yield self.answer(request)

    async def model(self, *_: Any) -> bytes:
        """Return the model."""
        return self._model

    async def tokenizer(self, *_: Any) -> bytes:
        """Return the demo's tokenizer."""
        return self._tokenizer


def serve(port: Connection) -> None:
    """Serve in a process of its own, and send the port to the parent."""
    asyncio.run(_serve(port))


async def _serve(port: Connection) -> None:
    instant = Instant()
    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        "StreamScore": grpc.stream_stream_rpc_method_handler(instant.stream),
        "GetModel": grpc.unary_unary_rpc_method_handler(instant.model),
        "GetTokenizer": grpc.unary_unary_rpc_method_handler(instant.tokenizer),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    port.send(server.add_insecure_port("localhost:0"))
    await server.start()
    await server.wait_for_termination()


def measure(port: int, data: Path, output: Path) -> dict[str, Any]:
    """Run the client once; return its summary, and the most memory it held in MiB."""
    program = Path(sys.executable).parent / "mmlu-client"
    command = [program, "--url", f"localhost:{port}", "--data", data, "--output", output]
    command += ["--concurrency", "64", "--max-prompt-tokens", "model"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"mmlu-client ended with {os.waitstatus_to_exitcode(status)}")
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return {**summary, "peak_mib": usage.ru_maxrss / 1024, "cpu_seconds": usage.ru_utime + usage.ru_stime}


def main() -> None:
    """Measure each number of questions and print the figures."""
    take_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=count, nargs="+", default=[5_000, 20_000])
    parser.add_argument("--tokens", type=count, default=800)
    parser.add_argument("--data", help="a benchmark to ask, instead of made-up questions")
    chosen = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    print(f"{os.cpu_count()} cores, shared by the client and the server that answers it", flush=True)
    before: tuple[int, float] | None = None
    for questions in [0] if chosen.data else sorted(chosen.questions):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(chosen.data or Path(folder, "data"))
            if not chosen.data:
                write_data(data, questions, chosen.tokens)
            found = measure(port, data, Path(folder, "run"))
        answered, peak = found["answered"], found["peak_mib"]
        print(
            f"{answered} requests of {found['logical_tokens'] / answered:.0f} tokens on average: "
            f"{found['request_throughput']:,.0f} requests/s, {found['cpu_seconds']:.1f} CPU-s in all, "
            f"peak memory {peak:.0f} MiB",
            flush=True,
        )
        if before is not None:
            grown = (peak - before[1]) * 1024 / (answered - before[0])
            print(f"  {grown:.2f} KiB more memory for each question more", flush=True)
        before = answered, peak
    server.kill()


if __name__ == "__main__":
    main()
