"""The sizes of a model and the differences between families, read from config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from trt_common.model.config_field import Fields, count, flag, number, optional_size, size
from trt_common.model.errors import ConfigError
from trt_common.model.family import FAMILIES, Family
from trt_common.model.rope_parameters import RopeParameters, read_rope_parameters

# Ten times what the deepest models have, with room: each layer has a dozen of tensors, which are all named.
MOST_LAYERS = 4096


@dataclass(frozen=True)
class Geometry:
    """Everything that the graph of a decoder depends on, except its weights.

    Attributes:
        family: The model_type.
        layers: The number of layers.
        hidden_size: The width of the residual stream.
        intermediate_size: The width of the MLP.
        query_heads: The number of query heads.
        key_value_heads: The number of key and of value heads.
        head_size: The width of a head.
        vocabulary_size: The number of token ids.
        max_positions: The longest prompt, in tokens, that the model was made for.
        rms_epsilon: The ε of RMSNorm.
        rope: The rotary position embedding.
        sliding_windows: For each layer, how many positions a query sees, its own included; None: all before
            it.
        query_key_value_bias: Whether the query, key and value products have a bias.
        attention_output_bias: Whether attention's output product has a bias.
        mlp_bias: Whether the MLP's products have a bias.
        query_key_norm: Whether queries and keys pass through RMSNorm, head by head.
        tied_embeddings: Whether the head's weight is that of the embedding.
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
        """The width of all query heads together."""
        return self.query_heads * self.head_size

    @property
    def key_value_size(self) -> int:
        """The width of all key heads together, which is also that of all value heads."""
        return self.key_value_heads * self.head_size

    @property
    def matmul_parameters(self) -> int:
        """The number of weights in the layers' matrix products, without embedding, head, norms and biases."""
        attention = self.hidden_size * (2 * self.query_size + 2 * self.key_value_size)
        return self.layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def last_layer_parameters(self) -> int:
        """Those of a layer that make neither keys nor values: of the last, only scored tokens need them."""
        return self.hidden_size * (2 * self.query_size + 3 * self.intermediate_size)

    @property
    def total_parameters(self) -> int:
        """The number of all weights of the model; a tied embedding counts once."""
        return sum(prod(shape) for shape in self.tensor_shapes().values())

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor that the graph reads; a product's weight is [out, in]."""
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
    """Read the sizes from the content of a config.json as transformers 4 or 5 writes it.

    A missing field has the default of transformers 5 for the family.

    Raises:
        ConfigError: Something is not supported or does not fit together; the message is one line.
    """
    name = config.get("model_type")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise ConfigError(f"model_type {name!r} is not supported; supported: {', '.join(FAMILIES)}")
    fields = {**family.defaults, **config}
    _refuse_unsupported(fields)
    geometry = _geometry(str(name), family, fields)
    _check_sizes(geometry, family)
    return geometry


def _geometry(name: str, family: Family, fields: Fields) -> Geometry:
    layers = size(fields, "num_hidden_layers", most=MOST_LAYERS)
    hidden_size = size(fields, "hidden_size")
    query_heads = size(fields, "num_attention_heads")
    max_positions = size(fields, "max_position_embeddings")
    attention_bias = family.heeds_attention_bias and flag(fields, "attention_bias")
    return Geometry(
        family=name,
        layers=layers,
        hidden_size=hidden_size,
        intermediate_size=size(fields, "intermediate_size"),
        query_heads=query_heads,
        key_value_heads=optional_size(fields, "num_key_value_heads") or query_heads,
        head_size=optional_size(fields, "head_dim") or hidden_size // query_heads,
        vocabulary_size=size(fields, "vocab_size"),
        max_positions=max_positions,
        rms_epsilon=number(fields, "rms_norm_eps"),
        rope=read_rope_parameters(fields, max_positions),
        sliding_windows=_sliding_windows(family, fields, layers),
        query_key_value_bias=family.query_key_value_bias or attention_bias,
        attention_output_bias=attention_bias,
        mlp_bias=family.heeds_mlp_bias and flag(fields, "mlp_bias"),
        query_key_norm=family.query_key_norm,
        tied_embeddings=flag(fields, "tie_word_embeddings"),
    )


def _refuse_unsupported(fields: Fields) -> None:
    activation = fields.get("hidden_act")
    if activation not in ("silu", "swish"):
        raise ConfigError(f"hidden_act {activation!r} is not supported; only silu is")
    quantization = fields.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
        raise ConfigError(
            f"quantized weights ({method}) are not supported; "
            "use the checkpoint in float32, float16 or bfloat16"
        )
    if not fields.get("is_causal", True):
        raise ConfigError("is_causal false is not supported: it makes an encoder, which does not score text")
    for name in ("per_layer_config", "configuration_files"):
        if fields.get(name):
            raise ConfigError(f"config.json: {name} is not supported")


def _check_sizes(geometry: Geometry, family: Family) -> None:
    heads = geometry.query_heads
    if family.heads_divide_hidden_size and geometry.hidden_size % heads:
        raise ConfigError(
            f"config.json: hidden_size {geometry.hidden_size} is not a multiple of "
            f"num_attention_heads {heads}"
        )
    if heads % geometry.key_value_heads:
        raise ConfigError(
            f"config.json: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {geometry.key_value_heads}"
        )
    if geometry.head_size % 2 or not geometry.head_size:
        raise ConfigError(f"config.json: head size {geometry.head_size} is odd; rotary embeddings need pairs")


def _sliding_windows(family: Family, fields: Fields, layers: int) -> tuple[int | None, ...]:
    kinds = _layer_types(fields, layers)
    if family.windows == "none":
        return (None,) * layers
    every_layer = family.windows == "every layer"
    window = None
    if every_layer or flag(fields, "use_sliding_window"):
        window = optional_size(fields, "sliding_window")
    if kinds is None:
        full_layers = 0 if every_layer else count(fields, "max_window_layers")
        return tuple(None if layer < full_layers else window for layer in range(layers))
    if window is None and "sliding_attention" in kinds:
        raise ConfigError(
            "config.json: layer_types names sliding_attention, and no window is set: "
            "set sliding_window (and use_sliding_window with Qwen), or name full_attention"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _layer_types(fields: Fields, layers: int) -> list[str] | None:
    """Return the kind of attention of each layer; None where config.json names none."""
    kinds = fields.get("layer_types")
    if kinds is None:
        return None
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in known for kind in kinds):
        raise ConfigError(
            "config.json: layer_types must name full_attention or sliding_attention "
            f"for each of the {layers} layers"
        )
    return kinds
