"""What a batch goes on after, as TensorRT's tensors: keys and values of every layer, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_server.engines.engine import padded_length
from trt_server.engines.tensorrt.layout import ALIGNMENT
from trt_server.engines.tensorrt.profiles import LENGTH_MULTIPLE, Profile
from trt_server.model.geometry import Geometry
from trt_server.model.graph import kept_outputs, past_inputs

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Past:
    """One batch's past. length: its real tokens; slots: with padding; kept: of how many new tokens keys and
    values are wanted. addresses: on the device, by tensor name."""

    length: int
    slots: int
    kept: int
    shapes: dict[str, Shape]
    addresses: dict[str, int]


@dataclass(frozen=True)
class PastLayout:
    """Keys and values of some tokens in one block: those of each layer in turn, every tensor aligned.

    inputs, outputs: the tensors' names, in one order. item_bytes: of a value.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    heads: int
    head_size: int
    item_bytes: int

    @classmethod
    def of(cls, geometry: Geometry, item_bytes: int) -> PastLayout:
        inputs, outputs = past_inputs(geometry.layers), kept_outputs(geometry.layers)
        return cls(tuple(inputs), tuple(outputs), geometry.key_value_heads, geometry.head_size, item_bytes)

    def input_shapes(self, slots: int, kept: int) -> dict[str, Shape]:
        past = dict.fromkeys(self.inputs, (1, self.heads, slots, self.head_size))
        return {**past, "past_length": (1,), "kept": (kept,)}

    def addresses(self, names: Sequence[str], base: int, tokens: int, prompts: int = 1) -> dict[str, int]:
        """Where `inputs` or `outputs` of so many tokens lie in the block at `base`."""
        size = self._tensor_bytes(tokens, prompts)
        return {name: base + number * size for number, name in enumerate(names)}

    def bytes(self, tokens: int, prompts: int = 1) -> int:
        return len(self.inputs) * self._tensor_bytes(tokens, prompts)

    def max_tokens(self, limit_bytes: int) -> int:
        """Of the longest prefix whose block takes no more; a multiple of LENGTH_MULTIPLE."""
        return limit_bytes // self.bytes(LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    def _tensor_bytes(self, tokens: int, prompts: int) -> int:
        return padded_length(prompts * self.heads * tokens * self.head_size * self.item_bytes, ALIGNMENT)


def input_shapes(profile: Profile, layout: PastLayout | None) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Input name → its least, best and most shape."""
    least, best, most = (_shapes(profile, end, layout) for end in ("least", "best", "most"))
    return {name: (shape, best[name], most[name]) for name, shape in least.items()}


def _shapes(profile: Profile, end: str, layout: PastLayout | None) -> dict[str, Shape]:
    size = profile.size(end)
    return {
        "token_ids": (size.prompts, size.tokens),
        "lengths": (size.prompts,),
        "candidates": (size.prompts, size.candidates),
        **({} if layout is None else layout.input_shapes(size.slots, size.kept)),
    }
