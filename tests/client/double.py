"""A scoring server that answers at once with numbers that follow from the prompt, and fails on command.

It speaks the real contract over a real channel; only what a real server cannot be made to do is its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc

SERVICE = "scoring.v1.Scoring"
CORE_NS = 2_000_000
FLOPS_A_TOKEN = 1000
PEAK = 1e9
PARAMETERS = 1_000_000
GIB = 2**30

HOLD, SWALLOW = "hold", "swallow"

# What is done with the n-th request that comes in, from 0: answered where it says None, refused with a status
# in the stream, the stream broken with a gRPC status code, held for good with all after it, or left without
# an answer while others have theirs.
Verdict: TypeAlias = status_pb2.Status | grpc.StatusCode | Literal["hold", "swallow"] | None
Decide = Callable[[int], Verdict]
Change = Callable[[pb.ScoreRequest, pb.ScoreResponse], None]


def status(code: int, message: str, retry_seconds: float | None = None) -> status_pb2.Status:
    details = []
    if retry_seconds is not None:
        delay = duration_pb2.Duration(seconds=int(retry_seconds), nanos=int(retry_seconds % 1 * 1e9))
        info = error_details_pb2.RetryInfo(retry_delay=delay)
        detail = any_pb2.Any()
        detail.Pack(info)
        details.append(detail)
    return status_pb2.Status(code=code, message=message, details=details)


def queue_full(retry_seconds: float | None) -> status_pb2.Status:
    return status(code_pb2.RESOURCE_EXHAUSTED, "the queue is full", retry_seconds)


def chosen_letter(token_ids: list[int], letters: int = 4) -> int:
    """The place of the letter that the double likes best after these ids."""
    return sum(token_ids) % letters


class Double(scoring_pb2_grpc.ScoringServicer):
    """Use as a context manager; `url` is where it listens. `asked` holds each request as it came."""

    def __init__(
        self,
        tokenizer: Mapping[str, bytes] | None,
        decide: Decide = lambda _: None,
        *,
        port: int = 0,
        fingerprint: str = "engine-1",
        max_prompt_tokens: int = 2048,
        max_batch_size: int = 8,
        stream_window: int = 64,
        vocabulary_size: int = 1000,
        notice: str = "",
        tls: tuple[Path, Path] | None = None,
        joules_a_reading: float | None = None,
        device_id: str | None = None,
        device_part: str | None = None,
        devices: int = 0,
        reference: str = "",
        peak: float = PEAK,
        change: Change = lambda request, response: None,  # noqa: ARG005
        sample: tuple[str, list[int]] = ("", []),
        measured_peaks: Sequence[float] = (),
        contended: bool = False,
        pause: float = 0.0,
        late: bool = False,
        loses_tokenizer: bool = False,
    ) -> None:
        """tokenizer: file name → content, None for a model without. tls: key and certificate.

        joules_a_reading: what its energy counter gains each time the model is asked for; None: no counter.
        device_id: of the device it says it is on. device_part: what it says it may use of it.
        devices: how many such devices it tells of one by one; 0: of the one alone.
        reference: the fingerprint of the one it says it has; it answers as the engine does.
        change: what is done to a response before it goes out.
        sample: a text, and the ids that it says it makes of it.
        measured_peaks: what it measures at its start, and then whenever it is told to; none more: it refuses.
        contended: what it says of all its measurements.
        pause: what an answer takes, in seconds.
        late: whether what it swallowed is answered after all, when it is asked for again.
        loses_tokenizer: whether it holds the call for its tokenizer until it is stopped.
        """
        self._tokenizer = tokenizer
        self._decide = decide
        self._port = port
        self._tls = tls
        self._limits = pb.Limits(
            max_prompt_tokens=max_prompt_tokens,
            max_batch_size=max_batch_size,
            max_queue_size=64,
            stream_window=stream_window,
        )
        self._fingerprint = fingerprint
        self._vocabulary_size = vocabulary_size
        self._notice = notice
        self._joules_a_reading = joules_a_reading
        self._device_id = device_id
        self._device_part = device_part
        self._devices = devices
        self._reference = reference
        self._peak = peak
        self._change = change
        self._sample = sample
        self._measured_peaks = measured_peaks
        self._contended = contended
        self._pause = pause
        self._late = late
        self._loses_tokenizer = loses_tokenizer
        self.measurements = 1
        self.readings = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.asked: list[pb.ScoreRequest] = []
        self.most_unanswered = 0
        self.streams_ended_well = 0
        self.holds = threading.Event()

    @property
    def url(self) -> str:
        return f"localhost:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> Double:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def stop(self) -> None:
        """Break every stream and free the port."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._server.stop(None), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> Double:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scoring_pb2_grpc.add_ScoringServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        address = f"localhost:{self._port}"
        if self._tls:
            key, certificate = (path.read_bytes() for path in self._tls)
            credentials = grpc.ssl_server_credentials([(key, certificate)])
            self._port = self._server.add_secure_port(address, credentials)
        else:
            self._port = self._server.add_insecure_port(address)
        await servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    def _reference_info(self) -> pb.EngineInfo | None:
        if not self._reference:
            return None
        return pb.EngineInfo(
            name="reference", version="1", precision="fp32", fingerprint=self._reference, load_seconds=5.0
        )

    def _peak_now(self) -> pb.PeakFlops:
        peaks = self._measured_peaks[: self.measurements]
        if not peaks:
            return pb.PeakFlops(flops_per_second=self._peak, source="made up")
        measured = pb.PeakMeasurements(
            count=len(peaks), least_flops_per_second=min(peaks), contended=self._contended
        )
        return pb.PeakFlops(flops_per_second=max(peaks), source="measured: made up", measured=measured)

    async def GetModel(self, request: Any, context: Any) -> pb.Model:  # noqa: N802
        if request.measure_peak:
            self.measurements += 1
            if self.measurements > len(self._measured_peaks):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "told to be away")
        self.readings += 1
        model = pb.Model(
            id="double",
            architecture="Double",
            fingerprint="model-1",
            geometry=pb.Geometry(vocabulary_size=self._vocabulary_size),
            parameters=pb.ParameterCount(total=PARAMETERS, matmul=PARAMETERS),
            engine=pb.EngineInfo(
                name="double",
                version="1",
                precision="fp32",
                fingerprint=self._fingerprint,
                load_seconds=3.0,
                build_seconds=4.0,
            ),
            device=pb.Device(
                name="none", memory_used_bytes=GIB, memory_peak_bytes=2 * GIB, memory_total_bytes=40 * GIB
            ),
            peak=self._peak_now(),
            limits=self._limits,
            notice=self._notice,
            reference=self._reference_info(),
            server_version="0",
        )
        if self._device_id is not None:
            model.device.id = self._device_id
        if self._device_part is not None:
            model.device.part = self._device_part
        if self._joules_a_reading is not None:
            model.device.energy_joules = self._joules_a_reading * self.readings
            model.device.power_watts = 300.0
        model.devices.extend([model.device] * self._devices)
        return model

    async def GetTokenizer(self, request: Any, context: Any) -> pb.Tokenizer:  # noqa: ARG002, N802
        if self._loses_tokenizer:
            self.holds.set()
            await asyncio.Event().wait()
        if self._tokenizer is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this model has no tokenizer")
        files = [pb.File(name=name, content=content) for name, content in (self._tokenizer or {}).items()]
        text, ids = self._sample
        return pb.Tokenizer(files=files, fingerprint="tokenizer-1", sample_text=text, sample_ids=ids)

    async def StreamScore(  # noqa: N802
        self, requests: AsyncIterator[pb.ScoreRequest], context: Any
    ) -> AsyncIterator[pb.StreamScoreResponse]:
        swallowed: dict[str, pb.ScoreRequest] = {}
        async for request in requests:
            number = len(self.asked)
            self.asked.append(request)
            verdict = self.verdict(number)
            await asyncio.sleep(self._pause)
            if verdict == HOLD:
                self.holds.set()
                await asyncio.Event().wait()
            elif verdict == SWALLOW:
                swallowed[request.id] = request
            elif isinstance(verdict, grpc.StatusCode):
                await context.abort(verdict, "told to break")
            elif isinstance(verdict, status_pb2.Status):
                yield pb.StreamScoreResponse(id=request.id, error=verdict)
            else:
                response = answer(request)
                self._change(request, response)
                yield pb.StreamScoreResponse(id=request.id, response=response)
                before = swallowed.pop(request.id.partition("~")[0], None)
                if self._late and before is not None:
                    yield pb.StreamScoreResponse(id=before.id, response=answer(before))
        self.streams_ended_well += 1

    def verdict(self, number: int) -> Verdict:
        """What is done with the n-th request, which is in `asked` by now."""
        return self._decide(number)


class Collecting(Double):
    """Answers when no further request comes: shows how many are in flight."""

    async def StreamScore(  # noqa: N802
        self,
        requests: AsyncIterator[pb.ScoreRequest],
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[pb.StreamScoreResponse]:
        waiting: list[pb.ScoreRequest] = []
        coming = requests.__aiter__()
        following = asyncio.ensure_future(coming.__anext__())
        while True:
            done, _ = await asyncio.wait({following}, timeout=0.2)
            if done:
                try:
                    waiting.append(following.result())
                except StopAsyncIteration:
                    return
                self.asked.append(waiting[-1])
                self.most_unanswered = max(self.most_unanswered, len(waiting))
                following = asyncio.ensure_future(coming.__anext__())
            elif waiting:
                # Last come, first answered: ids, not order, join answer and question.
                request = waiting.pop()
                yield pb.StreamScoreResponse(id=request.id, response=answer(request))


def answer(request: pb.ScoreRequest) -> pb.ScoreResponse:
    lengths = [len(prompt.token_ids.ids) for prompt in request.prompts]
    return pb.ScoreResponse(
        id=request.id,
        scores=[_score(prompt) for prompt in request.prompts],
        timing=pb.Timing(queue_ns=1, assemble_ns=2, copy_in_ns=3, core_ns=CORE_NS, copy_out_ns=4, total_ns=5),
        batch=pb.Batch(
            prompts=len(lengths),
            padded_length=max(lengths),
            padding_tokens=len(lengths) * max(lengths) - sum(lengths),
        ),
    )


def _score(prompt: pb.Prompt) -> pb.PromptScore:
    ids = list(prompt.token_ids.ids)
    candidates = [candidate.token_id for candidate in prompt.candidates]
    best = chosen_letter(ids, len(candidates))
    return pb.PromptScore(
        candidate_ids=candidates,
        candidate_logprobs=[-0.5 if place == best else -2.0 - place for place in range(len(candidates))],
        top_token_id=candidates[best],
        top_logprob=-0.5,
        tokens=pb.TokenCount(logical=len(ids), computed=len(ids)),
        flops=FLOPS_A_TOKEN * len(ids),
    )
