"""PyTorch on a device whose memory is full: FULL_DEVICE says at what, "weights" or "batch"."""

from __future__ import annotations

import os
from typing import Any

import torch


def _out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 14.00 GiB.")


if os.environ["FULL_DEVICE"] == "weights":
    torch.nn.Module.to = _out_of_memory
else:
    torch.nn.Embedding.forward = _out_of_memory
