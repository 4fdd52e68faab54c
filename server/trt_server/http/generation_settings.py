"""The fields of a completion that steer generation, and what the server makes of each.

A completion here is at most one token, the most likely one. What would make another token of it, or another
form of reply, is refused where it is set; what cannot change that token is taken and has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trt_server.http.errors import RequestError

ONE_TOKEN = "a completion is one token, the most likely one"
NO_STREAM = "a completion is one token and comes whole"

# Field → the values that ask for nothing, besides null, and why others are refused.
NEUTRAL: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "the server gives one completion a prompt"),
    "best_of": ((1,), "the server gives one completion a prompt"),
    "stream": ((False,), NO_STREAM),
    "stream_options": ((), NO_STREAM),
    "suffix": (("",), "the server does not fill in before a suffix"),
    "prompt_embeds": ((), "a prompt is text or token ids"),
    "truncate_prompt_tokens": ((), "the server shortens no prompt"),
    "truncation_side": ((), "the server shortens no prompt"),
    "priority": ((0,), "callers share the engine fairly, and no request has a priority"),
    "kv_transfer_params": ((), "the server shares no keys and values with others"),
    "ec_transfer_params": ((), "the server shares no keys and values with others"),
    "vllm_xargs": (({},), "it is for vLLM's extensions"),
}
# The same for fields that have a meaning only where a token is generated.
NEUTRAL_FOR_TOKEN: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "frequency_penalty": ((0,), ONE_TOKEN),
    "presence_penalty": ((0,), ONE_TOKEN),
    "repetition_penalty": ((1,), ONE_TOKEN),
    "logit_bias": (({},), ONE_TOKEN),
    "stop": (([], ""), "the server stops after one token and looks for no text in it"),
    "stop_token_ids": (([],), "the server stops after one token, whichever it is"),
    "min_tokens": ((0, 1), ONE_TOKEN),
    "use_beam_search": ((False,), ONE_TOKEN),
    "bad_words": (([],), ONE_TOKEN),
    "allowed_token_ids": ((), ONE_TOKEN),
    "response_format": (({"type": "text"},), ONE_TOKEN),
    "structured_outputs": ((), ONE_TOKEN),
    "guided_json": ((), ONE_TOKEN),
    "guided_regex": ((), ONE_TOKEN),
    "guided_choice": ((), ONE_TOKEN),
    "guided_grammar": ((), ONE_TOKEN),
    "watermarking": ((False,), ONE_TOKEN),
    "repetition_detection": ((), ONE_TOKEN),
    "thinking_token_budget": ((), ONE_TOKEN),
}
# Of the most likely token, and of log-probabilities, these change nothing.
WITHOUT_EFFECT = frozenset({
    "cache_salt", "ignore_eos", "include_stop_str_in_output", "length_penalty", "metadata", "min_p",
    "return_token_offsets", "seed", "service_tier", "session_id", "spaces_between_special_tokens", "store",
    "stream_interval", "top_k", "top_p", "user",
})  # fmt: skip


def check_generation(fields: Mapping[str, Any]) -> None:
    """Check that a body asks for no generation beyond one token, the most likely one.

    Args:
        fields: Those of the body.

    Raises:
        RequestError: It does; the text says which field, and what to send.
    """
    max_tokens = fields.get("max_tokens")
    if max_tokens is None:
        raise RequestError(
            "max_tokens is 16 where it is left out, and the server generates one token at most: send "
            "max_tokens 1, or 0 with echo",
            "max_tokens",
        )
    if max_tokens not in (0, 1):
        raise RequestError(
            f"max_tokens is {max_tokens!r}, and the server generates one token at most: send 1, or 0 with "
            "echo",
            "max_tokens",
        )
    _check_neutral(fields, NEUTRAL)
    if max_tokens:
        _check_neutral(fields, NEUTRAL_FOR_TOKEN)
        _check_temperature(fields.get("temperature"))


def _check_temperature(temperature: Any) -> None:
    if temperature is None:
        raise RequestError(
            "temperature is 1 where it is left out, and the server does not sample: send temperature 0",
            "temperature",
        )
    if temperature != 0 or isinstance(temperature, bool):
        raise RequestError(
            f"temperature is {temperature!r}, and the server does not sample: send 0", "temperature"
        )


def _check_neutral(fields: Mapping[str, Any], neutral: Mapping[str, tuple[tuple[Any, ...], str]]) -> None:
    for name, (values, why) in neutral.items():
        value = fields.get(name)
        if value is None or value in values:
            continue
        other = f" or send {values[0]!r}" if values and not isinstance(values[0], (list, dict, str)) else ""
        raise RequestError(f"{name} {value!r} is not supported, because {why}: leave it out{other}", name)
