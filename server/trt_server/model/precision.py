"""The precisions that engines compute in, and the types of values that they mean."""

from __future__ import annotations

from trt_server.model.files.tensor_file import ITEM_SIZES

# The type of a value that is computed in a precision, as weight files name it.
_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def item_bytes(precision: str) -> int:
    """Return the bytes of a value that is computed in a precision."""
    return ITEM_SIZES[_TYPES[precision]]


def weights_type(precision: str) -> str:
    """Return the type of the weights that an engine reads: float32 for all precisions but fp16.

    An engine that computes in bf16 rounds them itself, and its head has them as they are.
    """
    return "float16" if precision == "fp16" else "float32"
