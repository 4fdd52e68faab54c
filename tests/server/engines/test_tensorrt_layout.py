"""Tensors in one block of memory."""

from __future__ import annotations

import numpy as np
import pytest
from trt_server.engines.tensorrt.layout import ALIGNMENT, Layout, input_layout, output_layout


@pytest.mark.parametrize("layout", [input_layout(3, 50, 7), output_layout(3, 7)])
def test_tensors_are_aligned_apart_and_within_the_block(layout: Layout) -> None:
    end = 0
    for tensor in layout.tensors.values():
        assert tensor.offset % ALIGNMENT == 0
        assert tensor.offset >= end
        end = tensor.end((tensor.elements,))
    assert end == layout.bytes


def test_views_are_the_block() -> None:
    layout = input_layout(prompts=2, tokens=16, candidates=4)
    block = np.zeros(layout.bytes, np.uint8)
    values = {"token_ids": (2, 8), "lengths": (2,), "candidates": (2, 3)}
    for number, (name, shape) in enumerate(values.items(), 1):
        layout[name].view(block, shape)[...] = number
    for number, (name, shape) in enumerate(values.items(), 1):
        view = layout[name].view(block, shape)
        assert (view.dtype, view.shape) == (np.dtype(np.int32), shape)
        np.testing.assert_array_equal(view, np.full(shape, number))


def test_a_shorter_batch_ends_sooner() -> None:
    layout = input_layout(prompts=2, tokens=16, candidates=4)
    tokens = layout["token_ids"]
    assert tokens.end((1, 8)) == tokens.offset + 32 < tokens.end((2, 16)) == layout.bytes


def test_a_shape_without_room_is_refused() -> None:
    layout = output_layout(prompts=2, candidates=4)
    with pytest.raises(ValueError, match="candidate_logprobs has room for 8 values"):
        layout["candidate_logprobs"].view(np.zeros(layout.bytes, np.uint8), (3, 3))
