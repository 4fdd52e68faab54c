"""The connection to a server over HTTP: its model, its stream of scores, and the wait for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from trt_common.tokenizer import SAMPLE_TEXT

from mmlu_client.errors import MuteStreamError, RunError, StreamLostError
from mmlu_client.prompts.served_tokenizer import ServedTokenizer
from mmlu_client.service.address import Address
from mmlu_client.service.http.dialect import Described, Dialect, Learnt
from mmlu_client.service.http.endpoint import HttpEndpoint
from mmlu_client.service.http.stream import HttpStream
from mmlu_client.service.model import Device, EngineInfo, ServedModel
from mmlu_client.service.model_config import ModelConfig
from mmlu_client.service.plausible import plausible_model
from mmlu_client.service.server_connection import CALL_SECONDS, AwayError, MuteError, call_seconds
from mmlu_client.service.waiting import wait_for_model
from mmlu_client.text import shortest

# The known prompt at the start may be the first that a server computes: it is waited for as the first answer
# of a load is.
FIRST_SECONDS = 900.0
# A server over HTTP does not say how many requests it takes: so many are unanswered at once at the most, each
# over a connection of its own, of which a process may have about a thousand.
WINDOW = 512
# Where neither the server nor --model-config says how long prompts, or how large token ids, may be: what a
# server does not take, it refuses.
ANY_NUMBER = 2**31


@dataclass(frozen=True)
class Given:
    """What a person says of servers that do not say it themselves.

    Attributes:
        model_config: of the served model; None: not given.
        peak_flops: of all devices of one server together, in FLOP/s; None: not given.
        request_timeout: how long an answer may take, in seconds; None: not given.
    """

    model_config: ModelConfig | None = None
    peak_flops: float | None = None
    request_timeout: float | None = None


class HttpConnection:
    """Speaks to one server over HTTP. See `ServerConnection`."""

    def __init__(
        self,
        endpoint: HttpEndpoint,
        dialect: Callable[[], Dialect],
        given: Given,
        say: Callable[[str], None],
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            endpoint: of the server.
            dialect: what it is asked in, made anew whenever it is looked at anew.
            given: what it does not say itself.
            say: prints a line for the person.
        """
        self._endpoint = endpoint
        self._new_dialect = dialect
        self._dialect = dialect()
        self._given = given
        self._say = say
        self._model: ServedModel | None = None

    @property
    def _address(self) -> Address:
        return self._endpoint.address

    def renew(self) -> None:
        """Use new connections from now on. See `ServerConnection`."""
        self._endpoint.renew()

    async def wait_for_model(self, seconds: float, deadline: float | None = None) -> ServedModel:
        """Wait until the server answers, and find out what it gives. See `ServerConnection`."""
        return await wait_for_model(self, self._address, "the server", self._say, seconds, deadline)

    async def model_if_serving(self, seconds: float) -> ServedModel:
        """Find out what the server holds and gives, if it answers now. See `ServerConnection`."""
        dialect = self._new_dialect()
        try:
            described = await dialect.describe(min(seconds, CALL_SECONDS))
            learnt = await self._learn(dialect)
        except MuteStreamError as mute:
            raise MuteError(str(mute)) from None
        except StreamLostError as loss:
            raise AwayError(str(loss)) from None
        self._dialect = dialect
        model = plausible_model(_served_model(described, learnt, self._given), str(self._address))
        if self._model is None:
            self._tell(model, learnt)
        self._model = model
        return model

    async def _learn(self, dialect: Dialect) -> Learnt:
        """Have a known prompt asked, and wait for each answer as long as one may take.

        Raises:
            StreamLostError: the server is away.
            RunError: an answer does not come.
        """
        most = self._given.request_timeout or FIRST_SECONDS
        try:
            return await dialect.learn(most)
        except MuteStreamError:
            raise RunError(
                f"{self._address} does not answer a known prompt in {shortest(most)} s: see whether it "
                "computes, or give a longer --request-timeout"
            ) from None

    async def model(self, seconds: float) -> ServedModel:  # noqa: ARG002
        """Return the model as it was found: over HTTP devices are not told of."""
        if self._model is None:
            raise RunError(f"{self._address} was not asked for its model yet")
        return self._model

    async def model_with_peak_measured_again(self) -> ServedModel:
        """Return the model: such a server measures no peak."""
        return await self.model(0.0)

    async def tokenizer(self, seconds: float) -> ServedTokenizer | None:
        """Return the ids that the server makes of a sample text, without files; None: it does not tell."""
        try:
            ids = await self._dialect.token_ids(SAMPLE_TEXT, call_seconds(seconds))
        except StreamLostError as loss:
            self.renew()
            raise AwayError(str(loss)) from None
        return None if ids is None else ServedTokenizer({}, "", SAMPLE_TEXT, tuple(ids))

    def stream(self) -> HttpStream:
        """Open a stream of requests and answers."""
        return HttpStream(self._dialect.score, self._is_alive)

    async def close(self) -> None:
        """Close every connection to the server."""
        await self._endpoint.close()

    async def _is_alive(self) -> bool:
        try:
            await self._endpoint.get("/health", CALL_SECONDS)
        except (RunError, StreamLostError):
            return False
        return True

    def _tell(self, model: ServedModel, learnt: Learnt) -> None:
        """Tell the person what the server's answers are worth, where they are not exact."""
        if model.told_tokens is not None:
            self._say(
                f"{self._address} tells log-probabilities of the {model.told_tokens} most likely tokens "
                "alone: of a letter that is none of them it is only known that it is below the least of "
                "these, and such questions are counted"
            )
        if learnt.unrepeatable:
            self._say(
                f"{self._address} gave a known prompt other log-probabilities when it was asked again among "
                f"others: up to {learnt.unrepeatable:.2g} nats apart, so its answers depend on what else it "
                "computes"
            )


def _served_model(described: Described, learnt: Learnt, given: Given) -> ServedModel:
    config = given.model_config
    longest = described.max_prompt_tokens or (config.max_prompt_tokens if config else None) or ANY_NUMBER
    return ServedModel(
        id=described.model,
        architecture=config.architecture if config else "",
        fingerprint=_fingerprint(described.model, described.root),
        parameters=config.parameters if config else None,
        vocabulary_size=config.vocabulary_size if config else ANY_NUMBER,
        engine=EngineInfo(
            name=described.engine,
            version=described.version,
            precision=described.precision,
            fingerprint=_fingerprint(described.engine, described.version),
            load_seconds=None,
            build_seconds=None,
        ),
        reference=None,
        device=Device("", None, None, None),
        peak_flops=given.peak_flops,
        peak_source="given to the client: --peak-flops" if given.peak_flops is not None else "",
        max_prompt_tokens=longest,
        max_batch_size=None,
        stream_window=WINDOW,
        notice="",
        server_version=f"{described.engine} {described.version}",
        max_top_tokens=int(learnt.scores_prompts),
        tells_stages=learnt.tells_stages,
        told_tokens=learnt.told_tokens,
        unrepeatable=learnt.unrepeatable,
    )


def _fingerprint(*parts: str) -> str:
    """Return a hash of what a server says of itself: it tells nothing of its weights."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]
