"""The connection to a trt-server over gRPC: its model, tokenizer, stream of scores, and the wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trt_common.quiet_grpc  # noqa: F401

# isort: split
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scoring.v1 import scoring_pb2, scoring_pb2_grpc
from trt_common.one_line import one_line, shortened

from mmlu_client.errors import RunError, StreamLostError
from mmlu_client.prompts.served_tokenizer import ServedTokenizer
from mmlu_client.service.access import Access
from mmlu_client.service.address import Address
from mmlu_client.service.codec import decode_answer, decode_model, decode_tokenizer, encode_request
from mmlu_client.service.handshake import tls_trouble
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.model import ServedModel
from mmlu_client.service.plausible import MOST_TEXT_BYTES, plausible_model
from mmlu_client.service.proxy import Proxy
from mmlu_client.service.server_connection import CALL_SECONDS, AwayError, MuteError, call_seconds
from mmlu_client.service.waiting import wait_for_model

SERVICE = "scoring.v1.Scoring"
# For half a second of measuring, and what the server computes before it.
PEAK_SECONDS = 10.0
# After so long without an answer the server is asked for its health: a host that vanished says nothing.
SILENCE_SECONDS = 60.0
# A tokenizer of 128,000 words is larger than the default 4 MiB, and nothing that is asked for
# is larger than this.
MAX_ANSWER_BYTES = 256 * 2**20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    # A connection that a router on the way has forgotten says nothing: it is asked for a sign of life.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Else gRPC's core 1.85 waits a minute for the answer to a ping.
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Else a new channel to the same address would take the connection of the old one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# With these codes a stream would end the same way again.
FINAL = frozenset(
    {
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
    }
)
# With these codes a call may be made again, once the server is back.
AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
# What gRPC's core says of a proxy that does not connect, and answers that say that it never will.
PROXY_ANSWER = re.compile(r"HTTP proxy returned response code (\d+)")
REFUSALS = frozenset({"401", "403", "405", "407"})


# The requests and the answers of `StreamScore`.
ScoreCall: TypeAlias = "grpc.aio.StreamStreamCall[scoring_pb2.ScoreRequest, scoring_pb2.StreamScoreResponse]"


class Connection:
    """Speaks to one server over one channel. See `ServerConnection`."""

    def __init__(
        self,
        address: Address,
        access: Access,
        say: Callable[[str], None],
        proxy: Proxy | None = None,
    ) -> None:
        """Prepare the channel; nothing is sent yet.

        Args:
            address: of the one server.
            access: what the server is shown, and whose certificates are trusted.
            say: prints a line for the person.
            proxy: the one that gRPC finds in the environment; None: the server is asked directly.

        Raises:
            InputError: a file of certificates cannot be read or used.
        """
        self._address = address
        self._access = access
        self._say = say
        self._proxy = proxy
        self._old: list[tuple[grpc.aio.Channel, asyncio.Task[None]]] = []
        self._open_channel()

    def _open_channel(self) -> None:
        self._channel = _channel(self._address, self._access, self._proxy)
        self._scoring = scoring_pb2_grpc.ScoringStub(self._channel)  # type: ignore[no-untyped-call]
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def renew(self) -> None:
        """Use a new connection from now on: the present one may be mute while new ones work.

        Calls that are under way end by their own time-outs, on the old one.
        """
        self._old = [each for each in self._old if not each[1].done()]
        self._old.append((self._channel, asyncio.create_task(self._channel.close(CALL_SECONDS))))
        self._open_channel()

    async def wait_for_model(self, seconds: float, deadline: float | None = None) -> ServedModel:
        """Wait until the server takes work, and return what it holds.

        Args:
            seconds: how long to wait at most.
            deadline: when that time is over, by the monotonic clock; None: it begins now.

        Raises:
            RunError: it took none for so long, or never will.
        """
        return await wait_for_model(self, self._address, "trt-server", self._say, seconds, deadline)

    async def model_if_serving(self, seconds: float) -> ServedModel:
        """Return what the server holds, if it takes work now.

        Args:
            seconds: how long to wait for its answer at most.

        Raises:
            AwayError: it takes no work now.
            RunError: it never will.
        """
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            health = await self._health.Check(request, timeout=min(seconds, CALL_SECONDS))
            if health.status != health_pb2.HealthCheckResponse.SERVING:
                raise AwayError("it is there and not ready")
            return await self._model(min(seconds, CALL_SECONDS))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise MuteError(f"nothing answers{self._by_way_of}") from None
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise RunError(self._not_admitted(error)) from None
            if error.code() in FINAL:
                raise RunError(f"{self._address} is not a trt-server ({_reason(error)})") from None
            await self._raise_if_final(error)
            raise AwayError(f"{_reason(error)}{self._by_way_of}") from None

    async def _raise_if_final(self, error: grpc.aio.AioRpcError) -> None:
        """Find out whether an error would come again whenever the server is asked.

        Raises:
            RunError: a proxy refuses the server, only one side speaks TLS, or a certificate is refused.
        """
        if self._proxy is None:
            if (trouble := await tls_trouble(self._address, self._access)) is not None:
                raise RunError(trouble) from None
            return
        answer = PROXY_ANSWER.search(error.details() or "")
        if answer is not None and answer[1] in REFUSALS:
            raise RunError(
                f"the proxy {self._proxy} refuses {self._address} (HTTP {answer[1]}): {self._without_proxy}"
            ) from None

    def _not_admitted(self, error: grpc.aio.AioRpcError) -> str:
        if self._access.token_file is None:
            return f"{self._address} asks for a token: give it with --token-file FILE ({_reason(error)})"
        return f"{self._address} does not take the token in {self._access.token_file} ({_reason(error)})"

    @property
    def _by_way_of(self) -> str:
        """What to add to an error that a proxy may have caused."""
        if self._proxy is None:
            return ""
        return f"; asked through the proxy {self._proxy}: {self._without_proxy}"

    @property
    def _without_proxy(self) -> str:
        """How the person may do without the proxy."""
        return f"name {self._address.of_name or self._address.host} in no_proxy to go without it"

    async def model(self, seconds: float) -> ServedModel:
        """Return the model with its device's readings of now; wait `seconds` at most."""
        try:
            return await self._model(seconds)
        except grpc.aio.AioRpcError as error:
            raise RunError(f"{self._address} does not describe its model: {_reason(error)}") from None

    async def model_with_peak_measured_again(self) -> ServedModel:
        """Have the server measure its peak once more, and return the model with the largest so far."""
        try:
            return await self._model(PEAK_SECONDS, measure_peak=True)
        except grpc.aio.AioRpcError as error:
            raise RunError(f"{self._address} does not measure its peak: {_reason(error)}") from None

    async def _model(self, seconds: float, *, measure_peak: bool = False) -> ServedModel:
        request = scoring_pb2.GetModelRequest(measure_peak=measure_peak)
        model: scoring_pb2.Model = await self._scoring.GetModel(
            request, timeout=seconds, metadata=self._access.metadata
        )
        return plausible_model(decode_model(model), str(self._address))

    async def tokenizer(self, seconds: float) -> ServedTokenizer | None:
        """Return the model's tokenizer; None where it has none.

        Args:
            seconds: how long to wait for its answer at most, within bounds for a large one.

        Raises:
            AwayError: the server is away, or a connection to it is mute.
            RunError: it does not give its tokenizer.
        """
        request = scoring_pb2.GetTokenizerRequest()
        try:
            tokenizer: scoring_pb2.Tokenizer = await self._scoring.GetTokenizer(
                request, timeout=call_seconds(seconds), metadata=self._access.metadata
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            if error.code() in AWAY:
                self.renew()
                raise AwayError(f"{_reason(error)}{self._by_way_of}") from None
            raise RunError(f"{self._address} does not give its tokenizer: {_reason(error)}") from None
        return decode_tokenizer(tokenizer)

    def stream(self) -> ScoreStream:
        """Open a stream of scores."""
        return ScoreStream(self._scoring.StreamScore(metadata=self._access.metadata), self._is_alive)

    async def _is_alive(self) -> bool:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            await self._health.Check(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def close(self) -> None:
        """Close the channel, and those before it."""
        for _, closing in self._old:
            closing.cancel()
        await asyncio.gather(*(closing for _, closing in self._old), return_exceptions=True)
        for channel in (self._channel, *(channel for channel, _ in self._old)):
            await channel.close()


class ScoreStream:
    """One `StreamScore` call.

    Its methods raise StreamLostError when it broke, and RunError when the next stream would break too.
    """

    def __init__(self, call: ScoreCall, is_alive: Callable[[], Awaitable[bool]]) -> None:
        """Begin to watch the call for silence.

        Args:
            call: of gRPC.
            is_alive: asks the server whether it is there, when it sent no answer for a while.
        """
        self._call = call
        self._is_alive = is_alive
        self._writing = asyncio.Lock()
        self._answers = 0
        self._silent = False
        self._watch = asyncio.create_task(self._watch_silence())

    async def send(self, request: Request) -> None:
        """Write a request to the stream."""
        message = encode_request(request)
        try:
            async with self._writing:
                await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._loss(error) from None
        except asyncio.CancelledError:
            self._raise_if_silent()
            raise

    async def receive(self) -> Reply | Refusal | None:
        """Return the next answer, to whichever request it is; None when the server ended the stream."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise await self._loss(error) from None
        except asyncio.CancelledError:
            self._raise_if_silent()
            raise
        self._answers += 1
        return decode_answer(message) if isinstance(message, scoring_pb2.StreamScoreResponse) else None

    async def finish(self) -> None:
        """Tell the server that no more requests will come."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    def close(self) -> None:
        """Cancel the call."""
        self._watch.cancel()
        self._call.cancel()

    async def _watch_silence(self) -> None:
        seen = -1
        while seen != self._answers or await self._is_alive():
            seen = self._answers
            await asyncio.sleep(SILENCE_SECONDS)
        self._silent = True
        self._call.cancel()

    def _raise_if_silent(self) -> None:
        if self._silent:
            raise StreamLostError("the server fell silent")

    async def _loss(self, error: Exception) -> Exception:
        """Tell whether a broken call may be made again: StreamLostError if so, RunError if not."""
        if not isinstance(error, grpc.aio.AioRpcError):
            # A write on a call that is over only says so; the call's own status says why.
            error = grpc.aio.AioRpcError(await self._call.code(), _NONE, _NONE, await self._call.details())
        if error.code() in FINAL:
            return RunError(f"the server refuses the stream: {_reason(error)}")
        return StreamLostError(_reason(error))


_NONE = grpc.aio.Metadata()


def _channel(address: Address, access: Access, proxy: Proxy | None) -> grpc.aio.Channel:
    options = OPTIONS if proxy is not None else (*OPTIONS, ("grpc.enable_http_proxy", 0))
    if not address.tls:
        return grpc.aio.insecure_channel(address.target, options=options)
    credentials = access.channel_credentials()
    named = address.certified_name
    override = (("grpc.ssl_target_name_override", named),) if named else ()
    return grpc.aio.secure_channel(address.target, credentials, options=(*options, *override))


def _reason(error: grpc.aio.AioRpcError) -> str:
    details = shortened(one_line(error.details() or ""), MOST_TEXT_BYTES)
    return f"{error.code().name}: {details}" if details else str(error.code().name)
