"""Hugging Face transformers in PyTorch: the reference that compiled engines are compared with."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# CUDA reads this as it starts, and numbers its devices as NVML does.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, LlamaConfig
from trt_common.one_line import one_line

from trt_server.devices.cores import usable_cores
from trt_server.devices.datasheet import datasheet_peak
from trt_server.devices.device import processor_name
from trt_server.devices.gpu import Gpu
from trt_server.devices.peak import PeakFlops, given_peak
from trt_server.engines.cpu_peak import CpuPeak
from trt_server.engines.engine import (
    Batch,
    EngineDescription,
    EngineLimits,
    EngineTiming,
    Outcome,
    Scores,
    next_token_batch,
)
from trt_server.engines.head_slices import places_of_a_slice
from trt_server.errors import EngineLostError, StartError
from trt_server.model.files.checkpoint import Checkpoint

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_GPU_PEAK_SIZE = 8192
_GPU_PEAK_RUNS = 8


def visible_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that PyTorch sees, in CUDA's order."""
    if not torch.cuda.is_available():
        return ()
    names = map(torch.cuda.get_device_name, range(torch.cuda.device_count()))
    return tuple(Gpu(name, None, ordinal) for ordinal, name in enumerate(names))


class TorchEngine:
    """The checkpoint as transformers loads it, with PyTorch's scaled dot-product attention.

    It runs on the GPU where PyTorch sees one. Its depth is 1: each batch is waited for.
    """

    depth = 1
    length_multiple = 1
    max_candidates: int | None = None
    prefixes = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: EngineLimits,
        precision: str,
        threads: int = 0,
        ordinal: int = 0,
        *,
        peak_flops: float | None = None,
    ) -> None:
        """Load the model onto its device.

        Args:
            checkpoint: The model.
            limits: The largest batch it has to accept.
            precision: "fp32" or "fp16".
            threads: CPU threads; 0: PyTorch's own choice, but no more than the cores this process may use.
            ordinal: CUDA's number of the GPU, where there is one.
            peak_flops: FLOP/s of the device; None: those of a GPU are known, and a processor's are measured.

        Raises:
            StartError: transformers does not load the model, or the device has too little memory.
        """
        start = time.perf_counter()
        # PyTorch does not know the container's CPU quota.
        torch.set_num_threads(threads or min(torch.get_num_threads(), usable_cores()))
        self._limits = limits
        self.max_scored_positions = limits.max_scored_positions
        self._windows = checkpoint.geometry.sliding_windows
        model = _load(checkpoint, _DTYPES[precision])
        try:
            self._device = _claim_device(ordinal)
            self._model = model.to(self._device)
            peak = self._first_peak(precision, peak_flops)
        except RuntimeError as error:
            raise StartError(
                f"PyTorch {torch.__version__} cannot put the model on its device: {one_line(error)}; "
                "stop what else runs there, or take a smaller model"
            ) from error
        self.description = EngineDescription(
            name="torch",
            version=f"{torch.__version__}, transformers {transformers.__version__}",
            precision=precision,
            device=_device_name(self._device),
            peak=peak,
            fingerprint=_fingerprint(checkpoint, precision),
            load_seconds=time.perf_counter() - start,
            build_seconds=0.0,
        )

    def warm_up(self) -> None:
        """Run the shortest and the longest prompt once."""
        for length in {1, self._limits.max_prompt_tokens}:
            tokens, lengths = np.zeros((1, length), np.int32), np.full(1, length, np.int32)
            self.submit(next_token_batch(tokens, lengths, np.zeros((1, 1), np.int32))).wait()

    def submit(self, batch: Batch) -> _Submission:
        """Return the batch as a submission, which is computed when it is waited for."""
        return _Submission(self._model, self._device, self._windows, batch)

    def measure_peak(self) -> PeakFlops:
        """Measure a CPU's peak once more; return one that is given or a GPU's as it was at the start."""
        return self.description.peak if self._cpu_peak is None else self._cpu_peak.measure()

    def _first_peak(self, precision: str, given: float | None) -> PeakFlops:
        self._cpu_peak: CpuPeak | None = None
        if given is not None:
            return given_peak(given)
        if self._device.type == "cuda":
            return _gpu_peak(self._device, precision)
        what = f"{precision} matrix products in PyTorch"
        threads = torch.get_num_threads()
        self._cpu_peak = CpuPeak(partial(_cpu_product, precision), threads, what, blocking=False)
        return self._cpu_peak.measure()

    def close(self) -> None:
        """Free the model."""
        del self._model


@dataclass(frozen=True)
class _Submission:
    model: Any
    device: torch.device
    windows: Sequence[int | None]
    batch: Batch

    def wait(self) -> Outcome:
        """Run the batch.

        Raises:
            EngineLostError: PyTorch failed.
        """
        try:
            with torch.inference_mode():
                return self._run()
        except RuntimeError as error:
            raise EngineLostError(f"PyTorch failed: {one_line(error)}") from error

    def _run(self) -> Outcome:
        batch = self.batch
        start = time.perf_counter_ns()
        token_ids, positions, scored, target_ids, target_places = (
            torch.from_numpy(array).to(self.device, torch.long)
            for array in (
                batch.token_ids,
                batch.positions,
                batch.scored,
                batch.target_ids,
                batch.target_places,
            )
        )
        masks = None if _is_plain(batch) else self._masks(positions)
        copied_in = time.perf_counter_ns()
        clock = _CudaClock() if self.device.type == "cuda" else _CpuClock()
        clock.start()
        hidden = self.model.model(
            input_ids=token_ids, attention_mask=masks, position_ids=positions, use_cache=False
        ).last_hidden_state
        found = self._score(hidden.flatten(0, 1)[scored], target_ids, target_places)
        core_ns = clock.stop()
        computed = time.perf_counter_ns()
        scores = Scores(*(tensor.cpu().numpy() for tensor in found))
        timing = EngineTiming(copied_in - start, core_ns, time.perf_counter_ns() - computed)
        return Outcome(scores, timing)

    def _score(
        self, rows: torch.Tensor, target_ids: torch.Tensor, target_places: torch.Tensor
    ) -> list[torch.Tensor]:
        """Run the head on [scored, hidden_size], in slices whose logits are bounded; the fields of Scores."""
        count = max(1, self.batch.top_count)
        targets = torch.empty(len(target_ids), dtype=torch.float32, device=self.device)
        top, top_ids = [], []
        size = places_of_a_slice(self.model.config.vocab_size)
        for start, part in enumerate(rows.split(size)):
            logprobs = self.model.lm_head(part).float().log_softmax(-1)
            theirs = target_places.div(size, rounding_mode="floor") == start
            targets[theirs] = logprobs[target_places[theirs] - start * size, target_ids[theirs]]
            most = logprobs.topk(count)
            top.append(most.values)
            top_ids.append(most.indices.int())
        values, ids = torch.cat(top), torch.cat(top_ids)
        plain = [targets, ids[:, 0], values[:, 0]]
        return [*plain, ids, values] if self.batch.top_count else plain

    def _masks(self, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return which keys each query sees, bool [rows, 1, length, length], as the model takes it."""
        place = torch.arange(positions.shape[1], device=self.device)
        until = torch.from_numpy(self.batch.visible_until).to(self.device, torch.long)
        causal = (place[None, :, None] >= place) & (place[None, :, None] <= until[:, None, :])
        distance = positions[:, :, None] - positions[:, None, :]

        def mask(window: int | None) -> torch.Tensor:
            return (causal if window is None else causal & (distance < window))[:, None]

        kinds = getattr(self.model.config, "layer_types", None)
        if kinds is None:
            return mask(self.windows[0])
        return {kind: mask(window) for kind, window in zip(kinds, self.windows, strict=True)}


def _is_plain(batch: Batch) -> bool:
    """Return whether every token sees all before it: the model's own causal mask is right then.

    Padding needs none: it is to the right of what is scored, where causal attention never looks.
    """
    return bool((batch.visible_until >= batch.token_ids.shape[1] - 1).all())


class _CpuClock:
    """Measures the time of synchronous work."""

    def start(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter_ns()

    def stop(self) -> int:
        """Return the nanoseconds since `start`."""
        return time.perf_counter_ns() - self._start


class _CudaClock:
    """Measures the time between two events on the stream, before and after the work."""

    def start(self) -> None:
        """Record the first event."""
        self._first, self._last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._first.record()

    def stop(self) -> int:
        """Wait for the work, and return the nanoseconds that it took."""
        self._last.record()
        self._last.synchronize()
        return int(self._first.elapsed_time(self._last) * 1e6)


def _claim_device(ordinal: int) -> torch.device:
    """Make the GPU this thread's current device; return the CPU where PyTorch sees no GPU.

    Raises:
        RuntimeError: CUDA does not make the device available.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", ordinal)
    # Streams and events are created on the thread's current device.
    torch.cuda.set_device(device)
    return device


def _load(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """Load the model through transformers, from the tensors of the checkpoint's own weight files.

    The files are given to transformers, so that the reference reads the same ones as the compiled engine
    where a folder holds several sets of weights.
    """
    # Aquila's tensors and computation are Llama's, and transformers has no class of its own for it.
    config_class = LlamaConfig if checkpoint.geometry.family == "aquila" else AutoConfig
    # The bar would be drawn into the log.
    transformers.utils.logging.disable_progress_bar()
    try:
        config = config_class.from_pretrained(checkpoint.folder, local_files_only=True)
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=_tensors(checkpoint.weight_files),
            dtype=dtype,
            attn_implementation="sdpa",
        )
    except Exception as error:
        raise StartError(
            f"transformers {transformers.__version__} does not load the model: {one_line(error)}"
        ) from error
    return model.eval().requires_grad_(False)


def _tensors(files: tuple[Path, ...]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def _gpu_peak(device: torch.device, precision: str) -> PeakFlops:
    """Return the datasheet's peak, or measure a device that is not in the table with large products."""
    if known := datasheet_peak(_device_name(device), precision):
        return known
    left, right = _square_matrices(_GPU_PEAK_SIZE, precision, device)
    best = min(_product_ns(left, right) for _ in range(_GPU_PEAK_RUNS)) / 1e9
    return PeakFlops(
        2 * _GPU_PEAK_SIZE**3 / best,
        f"measured: {precision} matrix product {_GPU_PEAK_SIZE}³ in PyTorch, at start-up",
    )


def _cpu_product(precision: str, size: int) -> Callable[[], object]:
    return partial(torch.mm, *_square_matrices(size, precision, torch.device("cpu")))


def _square_matrices(size: int, precision: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    left, right = (torch.ones(size, size, dtype=_DTYPES[precision], device=device) for _ in range(2))
    return left, right


def _product_ns(left: torch.Tensor, right: torch.Tensor) -> int:
    clock = _CudaClock()
    clock.start()
    torch.mm(left, right)
    return clock.stop()


def _fingerprint(checkpoint: Checkpoint, precision: str) -> str:
    words = f"torch {torch.__version__} transformers {transformers.__version__} {precision}"
    return hashlib.sha256(f"{words} {checkpoint.fingerprint}".encode()).hexdigest()
