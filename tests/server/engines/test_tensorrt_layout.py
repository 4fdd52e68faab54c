"""Tensors in one block of memory."""

from __future__ import annotations

import numpy as np
import pytest
from trt_server.engines.tensorrt.plan.kv_cache import ALIGNMENT
from trt_server.engines.tensorrt.plan.profiles import BatchSize
from trt_server.engines.tensorrt.run.layout import Layout, input_layout, output_layout

SIZE = BatchSize(prompts=2, tokens=16, scored=3, targets=8)
LARGEST = BatchSize(prompts=4, tokens=50, scored=70, targets=300, slots=8, kept=50)


@pytest.mark.parametrize(
    "layout", [input_layout(SIZE), input_layout(LARGEST), output_layout(SIZE, 20), output_layout(LARGEST, 1)]
)
def test_tensors_are_aligned_apart_and_within_the_block(layout: Layout) -> None:
    end = 0
    for tensor in layout.tensors.values():
        assert tensor.offset % ALIGNMENT == 0
        assert tensor.offset >= end
        end = tensor.end
    assert end == layout.bytes


def test_views_are_the_block() -> None:
    layout = input_layout(SIZE)
    block = np.zeros(layout.bytes, np.uint8)
    for number, name in enumerate(SIZE.input_shapes, 1):
        layout[name].view(block)[...] = number
    for number, (name, shape) in enumerate(SIZE.input_shapes.items(), 1):
        view = layout[name].view(block)
        assert (view.dtype, view.shape) == (np.dtype(np.int32), shape)
        np.testing.assert_array_equal(view, np.full(shape, number))


def test_a_smaller_batch_copies_fewer_bytes() -> None:
    """No more than the values themselves, each array at its own aligned address."""
    for size in (SIZE, LARGEST):
        values = sum(int(np.prod(shape)) for shape in size.input_shapes.values())
        assert input_layout(size).bytes < values * 4 + ALIGNMENT * (len(size.input_shapes) + 1)
    assert input_layout(SIZE).bytes < input_layout(LARGEST).bytes


def test_only_a_plan_with_a_past_is_told_its_length() -> None:
    assert "past_length" not in input_layout(SIZE).tensors
    assert input_layout(LARGEST)["past_length"].shape == (1,)


def test_the_most_likely_tokens_are_behind_all_that_every_batch_is_answered() -> None:
    layout = output_layout(SIZE, 20)
    assert [*layout.tensors][-2:] == ["top_tokens", "top_logprobs"]
    assert layout["top_tokens"].shape == layout["top_logprobs"].shape == (3, 20)
    assert layout["top_logprob"].end < 3 * ALIGNMENT


def test_addresses_are_those_of_the_views() -> None:
    layout = output_layout(SIZE, 20)
    addresses = layout.addresses(4096)
    assert addresses == {name: 4096 + tensor.offset for name, tensor in layout.tensors.items()}
    assert len(set(addresses.values())) == 5


def test_a_block_without_room_is_refused() -> None:
    layout = output_layout(SIZE, 20)
    with pytest.raises(ValueError, match="reshape"):
        layout["top_logprobs"].view(np.zeros(layout.bytes - 4, np.uint8))
