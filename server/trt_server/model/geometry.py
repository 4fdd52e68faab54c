"""`config.json` → the sizes of a model and the differences between families, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trt_server.errors import StartError

FAMILIES = ("llama", "aquila", "mistral", "qwen2", "qwen3")

# What transformers assumes where a config.json says nothing.
_DEFAULT_RMS_EPSILON = 1e-6
_DEFAULT_ROPE_THETA = 10_000.0
_DEFAULT_SLIDING_WINDOW = 4096


@dataclass(frozen=True)
class RopeParameters:
    """Rotary position embedding: its base, and how it is scaled beyond the trained positions.

    kind: "default", "linear", "dynamic", "llama3" or "yarn"; the other fields are those that kind reads,
    under the names they have in a config.json.
    """

    kind: str = "default"
    theta: float = _DEFAULT_ROPE_THETA
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


@dataclass(frozen=True)
class Geometry:
    """Everything about a decoder that its graph depends on, weights aside.

    sliding_windows: for each layer, how many positions back a query sees, itself included; None: all.
    """

    family: str
    layers: int
    hidden_size: int
    intermediate_size: int
    query_heads: int
    key_value_heads: int
    head_size: int
    vocabulary_size: int
    max_positions: int
    rms_epsilon: float
    rope: RopeParameters
    sliding_windows: tuple[int | None, ...]
    query_key_value_bias: bool
    attention_output_bias: bool
    mlp_bias: bool
    query_key_norm: bool
    tied_embeddings: bool

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.query_heads * self.head_size

    @property
    def key_value_size(self) -> int:
        """Width of all key heads together; the value heads have the same."""
        return self.key_value_heads * self.head_size

    @property
    def matmul_parameters(self) -> int:
        """Weights in the layers' matrix products: embedding, head, norms and biases are not among them."""
        attention = self.hidden_size * (2 * self.query_size + 2 * self.key_value_size)
        return self.layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def total_parameters(self) -> int:
        """Every weight of the model; a tied embedding counts once."""
        return sum(_product(shape) for shape in self.tensor_shapes().values())

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor that the graph reads; a product's weight is [out, in]."""
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary_size, self.hidden_size),
            "model.norm.weight": (self.hidden_size,),
        }
        if not self.tied_embeddings:
            shapes["lm_head.weight"] = (self.vocabulary_size, self.hidden_size)
        for layer in range(self.layers):
            for name, shape in self._layer_shapes().items():
                shapes[f"model.layers.{layer}.{name}"] = shape
        return shapes

    def _layer_shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        query, key_value = self.query_size, self.key_value_size
        shapes: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (query, hidden),
            "self_attn.k_proj.weight": (key_value, hidden),
            "self_attn.v_proj.weight": (key_value, hidden),
            "self_attn.o_proj.weight": (hidden, query),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }
        if self.query_key_value_bias:
            shapes |= {
                "self_attn.q_proj.bias": (query,),
                "self_attn.k_proj.bias": (key_value,),
                "self_attn.v_proj.bias": (key_value,),
            }
        if self.attention_output_bias:
            shapes["self_attn.o_proj.bias"] = (hidden,)
        if self.mlp_bias:
            shapes |= {
                "mlp.gate_proj.bias": (inner,),
                "mlp.up_proj.bias": (inner,),
                "mlp.down_proj.bias": (hidden,),
            }
        if self.query_key_norm:
            shapes |= {
                "self_attn.q_norm.weight": (self.head_size,),
                "self_attn.k_norm.weight": (self.head_size,),
            }
        return shapes


def read_geometry(config: Mapping[str, Any]) -> Geometry:
    """The geometry that a config.json describes, in the words of transformers 4 or 5.

    Raises StartError, in one line, for what is not supported or does not fit together.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise StartError(f"model_type {family!r} is not supported; supported: {', '.join(FAMILIES)}")
    _refuse_unsupported(config)
    geometry = _geometry(family, config)
    _check_sizes(geometry)
    return geometry


def _geometry(family: str, config: Mapping[str, Any]) -> Geometry:
    layers = _size(config, "num_hidden_layers")
    hidden_size = _size(config, "hidden_size")
    query_heads = _size(config, "num_attention_heads")
    max_positions = _size(config, "max_position_embeddings")
    attention_bias = bool(config.get("attention_bias"))
    return Geometry(
        family=family,
        layers=layers,
        hidden_size=hidden_size,
        intermediate_size=_size(config, "intermediate_size"),
        query_heads=query_heads,
        key_value_heads=_size(config, "num_key_value_heads", default=query_heads),
        head_size=_size(config, "head_dim", default=hidden_size // query_heads),
        vocabulary_size=_size(config, "vocab_size"),
        max_positions=max_positions,
        rms_epsilon=_number(config, "rms_norm_eps", _DEFAULT_RMS_EPSILON),
        rope=_rope(config, max_positions),
        sliding_windows=_sliding_windows(family, config, layers),
        query_key_value_bias=family == "qwen2" or attention_bias,
        attention_output_bias=family != "qwen2" and attention_bias,
        mlp_bias=bool(config.get("mlp_bias")),
        query_key_norm=family == "qwen3",
        tied_embeddings=bool(config.get("tie_word_embeddings")),
    )


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise StartError(f"hidden_act {activation!r} is not supported; only silu is")
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
        raise StartError(
            f"quantized weights ({method}) are not supported; "
            "use the checkpoint in float32, float16 or bfloat16"
        )


def _check_sizes(geometry: Geometry) -> None:
    if geometry.query_heads % geometry.key_value_heads:
        raise StartError(
            f"config.json: num_attention_heads {geometry.query_heads} is not a multiple of "
            f"num_key_value_heads {geometry.key_value_heads}"
        )
    if geometry.head_size % 2:
        raise StartError(f"config.json: head size {geometry.head_size} is odd; rotary embeddings need pairs")


def _rope(config: Mapping[str, Any], max_positions: int) -> RopeParameters:
    theta = _number(config, "rope_theta", _DEFAULT_ROPE_THETA)
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise StartError(f"config.json: the RoPE parameters are {given!r}, not an object")
    kind = given.get("rope_type") or given.get("type") or "default"
    reader = _ROPE_KINDS.get(kind)
    if reader is None:
        raise StartError(f"RoPE scaling {kind!r} is not supported; supported: {', '.join(_ROPE_KINDS)}")
    partial = given.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if partial != 1.0:
        raise StartError(f"partial_rotary_factor {partial} is not supported; only 1.0 is")
    theta = _number(given, "rope_theta", theta)
    original = given.get("original_max_position_embeddings") or max_positions
    return RopeParameters(kind=kind, theta=theta, original_max_positions=int(original), **reader(given))


def _no_scaling(given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    return {}


def _scaling_factor(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"factor": _number(given, "factor")}


def _llama3_scaling(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(given, name) for name in ("factor", "low_freq_factor", "high_freq_factor")}


def _yarn_scaling(given: Mapping[str, Any]) -> dict[str, Any]:
    optional = {name: given.get(name) for name in ("attention_factor", "mscale", "mscale_all_dim")}
    return {
        "factor": _number(given, "factor"),
        "beta_fast": _number(given, "beta_fast", 32.0),
        "beta_slow": _number(given, "beta_slow", 1.0),
        "truncate": bool(given.get("truncate", True)),
        **optional,
    }


_ROPE_KINDS = {
    "default": _no_scaling,
    "linear": _scaling_factor,
    "dynamic": _scaling_factor,
    "llama3": _llama3_scaling,
    "yarn": _yarn_scaling,
}


def _sliding_windows(family: str, config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    window = _window_size(family, config)
    if window is None:
        return (None,) * layers
    layer_types = config.get("layer_types") or _layer_types(family, config, layers)
    if len(layer_types) != layers or set(layer_types) - {"full_attention", "sliding_attention"}:
        raise StartError(
            "config.json: layer_types must name full_attention or sliding_attention "
            f"for each of the {layers} layers"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in layer_types)


def _window_size(family: str, config: Mapping[str, Any]) -> int | None:
    if family in ("llama", "aquila") or (family != "mistral" and not config.get("use_sliding_window")):
        return None
    window = config.get("sliding_window", _DEFAULT_SLIDING_WINDOW)
    return None if window is None else _size({"sliding_window": window}, "sliding_window")


def _layer_types(family: str, config: Mapping[str, Any], layers: int) -> list[str]:
    # Mistral's window is every layer's; Qwen's first layers see everything.
    full_layers = 0 if family == "mistral" else int(config.get("max_window_layers", layers))
    return ["full_attention" if layer < full_layers else "sliding_attention" for layer in range(layers)]


def _size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise StartError(f"config.json: {name} is {value!r}, not a positive whole number")
    return value


def _number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        raise StartError(f"config.json: {name} is {value!r}, not a positive number")
    return float(value)


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
