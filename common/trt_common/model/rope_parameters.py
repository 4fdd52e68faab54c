"""The parameters of a model's rotary position embedding, read from config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trt_common.model.config_field import Fields, number, optional_number, size
from trt_common.model.errors import ConfigError

_DEFAULT_THETA = 10_000.0


@dataclass(frozen=True)
class RopeParameters:
    """The base of a rotary position embedding, and how it is scaled beyond the trained positions.

    Attributes:
        kind: "default", "linear", "dynamic", "llama3" or "yarn". The other fields are those that this kind
            reads, named as in a config.json.
    """

    kind: str = "default"
    theta: float = _DEFAULT_THETA
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


def read_rope_parameters(fields: Fields, max_positions: int) -> RopeParameters:
    """Read the parameters as transformers 5 does, in its own format and that of transformers 4.

    Where there is rope_scaling, rope_parameters are ignored; rope_theta is taken from there, else from the
    top level. original_max_position_embeddings is taken from the top level first.

    Raises:
        ConfigError: Something is not supported or has the wrong type.
    """
    given = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"config.json: the RoPE parameters are {given!r}, not an object")
    nested = [name for name, value in given.items() if isinstance(value, Mapping)]
    if nested:
        raise ConfigError(
            f"RoPE parameters of their own for some layers ({', '.join(nested)}) are not supported; "
            "only the same for all layers are"
        )
    _refuse_partial_rotation(given, fields)
    kind = given.get("rope_type", given.get("type", "default"))
    read_kind = _KINDS.get(kind) if isinstance(kind, str) else None
    if read_kind is None:
        raise ConfigError(f"RoPE scaling {kind!r} is not supported; supported: {', '.join(_KINDS)}")
    theta = number(given if "rope_theta" in given else fields, "rope_theta", _DEFAULT_THETA)
    if kind == "yarn" and theta == 1:
        raise ConfigError("config.json: rope_theta is 1, and yarn needs another")
    original = _original_max_positions(given, fields, max_positions) if kind in _TRAINED_SHORTER else 0
    return RopeParameters(
        kind=kind, theta=theta, original_max_positions=original, **read_kind(given, max_positions, original)
    )


def _refuse_partial_rotation(given: Fields, fields: Fields) -> None:
    for place in (given, fields):
        partial = place.get("partial_rotary_factor")
        if partial is not None and partial != 1:
            raise ConfigError(f"partial_rotary_factor {partial!r} is not supported; only 1.0 is")


def _original_max_positions(given: Fields, fields: Fields, max_positions: int) -> int:
    name = "original_max_position_embeddings"
    return size(fields if name in fields else given, name, max_positions)


def _default(given: Fields, max_positions: int, original: int) -> dict[str, Any]:  # noqa: ARG001
    return {}


def _scaled(given: Fields, max_positions: int, original: int) -> dict[str, Any]:  # noqa: ARG001
    return {"factor": number(given, "factor")}


def _llama3(given: Fields, max_positions: int, original: int) -> dict[str, Any]:  # noqa: ARG001
    factors = {name: number(given, name) for name in ("factor", "low_freq_factor", "high_freq_factor")}
    if factors["high_freq_factor"] <= factors["low_freq_factor"]:
        raise ConfigError(
            f"config.json: high_freq_factor {factors['high_freq_factor']} is not above low_freq_factor "
            f"{factors['low_freq_factor']}"
        )
    return factors


def _yarn(given: Fields, max_positions: int, original: int) -> dict[str, Any]:
    # DeepSeek's configurations have null here for the ratio of the two lengths.
    by_lengths = "factor" in given and given["factor"] is None
    return {
        "factor": max_positions / original if by_lengths else number(given, "factor"),
        "beta_fast": optional_number(given, "beta_fast") or 32.0,
        "beta_slow": optional_number(given, "beta_slow") or 1.0,
        "truncate": bool(given.get("truncate", True)),
        **{name: optional_number(given, name) for name in ("attention_factor", "mscale", "mscale_all_dim")},
    }


_KINDS = {"default": _default, "linear": _scaled, "dynamic": _scaled, "llama3": _llama3, "yarn": _yarn}
_TRAINED_SHORTER = ("llama3", "yarn")
