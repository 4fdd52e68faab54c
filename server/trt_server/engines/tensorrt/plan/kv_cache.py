"""The KV cache that a batch continues, as TensorRT's tensors and their addresses.

It holds the keys and values of every layer. In the graph these inputs are called "past", and "kept" are the
tokens of a run whose keys and values are returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_common.model.geometry import Geometry

from trt_server.engines.engine import padded_length
from trt_server.engines.tensorrt.plan.profiles import LENGTH_MULTIPLE, Profile, Shape
from trt_server.model.graph.scoring_graph import kept_outputs, past_inputs

# TensorRT requires tensors at addresses that are multiples of this many bytes.
ALIGNMENT = 256


@dataclass(frozen=True)
class KvCache:
    """The KV cache of one batch.

    Attributes:
        length: The number of its real tokens.
        slots: The number of its tokens with padding.
        kept: The number of new tokens whose keys and values are returned.
        shapes: The shape of each tensor, by name.
        addresses: The address of each tensor on the device, by name.
    """

    length: int
    slots: int
    kept: int
    shapes: dict[str, Shape]
    addresses: dict[str, int]


@dataclass(frozen=True)
class KvCacheLayout:
    """The layout of a KV cache in one block: layer by layer, every tensor aligned.

    Attributes:
        inputs: The names of the graph's inputs, keys and values of each layer in turn.
        outputs: The names of the graph's outputs, in the same order.
        heads: The number of key-value heads.
        head_size: The number of values in a head.
        item_bytes: The bytes of one value.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    heads: int
    head_size: int
    item_bytes: int

    @classmethod
    def of(cls, geometry: Geometry, item_bytes: int) -> KvCacheLayout:
        """Return the layout for a model whose values have `item_bytes` bytes."""
        inputs, outputs = past_inputs(geometry.layers), kept_outputs(geometry.layers)
        return cls(tuple(inputs), tuple(outputs), geometry.key_value_heads, geometry.head_size, item_bytes)

    def input_shapes(self, slots: int, kept: int) -> dict[str, Shape]:
        """Return the shapes of the graph's inputs that belong to the KV cache, by name."""
        past = dict.fromkeys(self.inputs, (1, self.heads, slots, self.head_size))
        return {**past, "past_length": (1,), "kept": (kept,)}

    def addresses(self, names: Sequence[str], base: int, tokens: int, prompts: int = 1) -> dict[str, int]:
        """Return the addresses of all inputs or all outputs for `tokens` tokens in the block at `base`."""
        size = self._tensor_bytes(tokens, prompts)
        return {name: base + number * size for number, name in enumerate(names)}

    def bytes(self, tokens: int, prompts: int = 1) -> int:
        """Return the size of a block for `tokens` tokens of each of `prompts` prompts."""
        return len(self.inputs) * self._tensor_bytes(tokens, prompts)

    def max_tokens(self, limit_bytes: int) -> int:
        """Return the most tokens, a multiple of 8, whose block has at most `limit_bytes` bytes."""
        return limit_bytes // self.bytes(LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    def _tensor_bytes(self, tokens: int, prompts: int) -> int:
        return padded_length(prompts * self.heads * tokens * self.head_size * self.item_bytes, ALIGNMENT)


def input_shapes(profile: Profile, layout: KvCacheLayout | None) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Return each input's least, best and most shape, by name."""
    least, best, most = (_shapes(profile, end, layout) for end in ("least", "best", "most"))
    return {name: (shape, best[name], most[name]) for name, shape in least.items()}


def _shapes(profile: Profile, end: str, layout: KvCacheLayout | None) -> dict[str, Shape]:
    size = profile.size(end)
    return size.input_shapes | ({} if layout is None else layout.input_shapes(size.slots, size.kept))
