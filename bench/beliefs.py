"""What is expected of the engine on a GPU that has not run it, to be confirmed or refuted by a first run.

Figures are for layers as wide as a 7 B model's, in fp16, and a prompt of 805 tokens. The limits on an H100
are 0.9, 1.2 and 4 ms a layer. Elsewhere they are the same multiples of the time that a layer's products take
at the rate that the device reached (0.42 ms at 790 TFLOP/s).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_GOOD, _OLD_KERNELS, _FLOAT32 = 0.9 / 0.42, 1.2 / 0.42, 4.0 / 0.42
_LAYERS_OF_7B = 32
# The assumed share of the datasheet's rate that products reach, where the device's own rate was not measured.
_USUAL_RATE = 0.8

Found = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Belief:
    """An expectation of a first run.

    Attributes:
        check: Returns whether the findings confirm it; raises KeyError where they do not tell.
        matters: Whether the engine is unfit for use where it is refuted.
    """

    text: str
    check: Callable[[Found], bool]
    matters: bool = False

    def verdict(self, found: Found) -> str:
        """Return whether it is confirmed, refuted or open."""
        try:
            return "confirmed" if self.check(found) else "REFUTED"
        except KeyError:
            return "not seen"


def layer_ms(found: Found, name: str = "TensorRT") -> float:
    """Return the core milliseconds that a layer adds, from plans of 2 and of 6 layers.

    Raises:
        KeyError: They were not measured.
    """
    two, six = found[f"{name}, 2 layers"], found[f"{name}, 6 layers"]
    return float(six["core_ms"] - two["core_ms"]) / 4


def layer_flops(found: Found) -> float:
    """Return the FLOPs of a layer."""
    return float(found["TensorRT, 6 layers"]["flops"] - found["TensorRT, 2 layers"]["flops"]) / 4


def products_rate(found: Found) -> float:
    """Return the FLOP/s that fp16 products reach here.

    Raises:
        KeyError: Neither the rate nor the device is known.
    """
    if "rate" in found:
        return float(found["rate"]["rate"])
    return _USUAL_RATE * _sheet(found)


def whole_ms(found: Found) -> float:
    """Return the milliseconds of 32 such layers, extrapolated and without the head of a large vocabulary."""
    return float(found["TensorRT, 2 layers"]["core_ms"]) + (_LAYERS_OF_7B - 2) * layer_ms(found)


def whole_mfu(found: Found) -> float:
    """Return the MFU of 32 such layers."""
    flops = found["TensorRT, 2 layers"]["flops"] + (_LAYERS_OF_7B - 2) * layer_flops(found)
    return float(flops) / (whole_ms(found) / 1e3 * _sheet(found))


def _sheet(found: Found) -> float:
    """Return the datasheet's rate.

    Raises:
        KeyError: The device is not in the table.
    """
    sheet = found["TensorRT, 2 layers"]["sheet"]
    if not sheet:
        raise KeyError("sheet")
    return float(sheet)


def _layer_in_products(found: Found) -> float:
    """Return a layer's time as a multiple of its products' time at the device's own rate."""
    return layer_ms(found) / 1e3 / (layer_flops(found) / products_rate(found))


def _kernels(found: Found, what: str) -> Any:
    return found["TensorRT, 2 layers"]["kernels"][what]


_NO_OLDER_KERNELS = Belief(
    f"no kernels of an older architecture: below {_OLD_KERNELS:.1f} times (H100: 1.2 ms)",
    lambda found: _layer_in_products(found) < _OLD_KERNELS,
    True,
)
BELIEFS = (
    Belief("a plan builds, loads and answers", lambda found: bool(found["runs"]["finite"]), True),
    Belief(
        "two families agree with PyTorch: fp16 within 3e-2, fp32 within 1e-3",
        lambda found: found["agrees"]["fp16"] < 3e-2 and found["agrees"]["fp32"] < 1e-3,
        True,
    ),
    Belief(
        "profiles used in turn with the same shapes answer bit by bit the same",
        lambda found: bool(found["repeats"]["profiles"]),
        True,
    ),
    Belief(
        "two batches in flight answer bit by bit the same",
        lambda found: bool(found["repeats"]["in_flight"]),
        True,
    ),
    Belief(
        "layers of 7 B width are within 8e-3 of PyTorch: products add up in float32",
        lambda found: found["TensorRT, 2 layers"]["difference"] < 8e-3,
        True,
    ),
    Belief("attention is one kernel a layer", lambda found: bool(_kernels(found, "fused"))),
    Belief(
        "queries, keys and values are one product, gate and up one",
        lambda found: bool(_kernels(found, "merged")),
    ),
    Belief("no more than 11 kernels a layer", lambda found: _kernels(found, "a_layer") <= 11),
    Belief(
        f"a layer takes at most {_GOOD:.1f} times its products alone (H100: 0.9 ms)",
        lambda found: _layer_in_products(found) <= _GOOD,
    ),
    _NO_OLDER_KERNELS,
    Belief(
        f"float32 did not take over: below {_FLOAT32:.1f} times (H100: 4 ms)",
        lambda found: _layer_in_products(found) < _FLOAT32,
        True,
    ),
    Belief(
        "7 B parameters, extrapolated: MFU from 43 to 50 %", lambda found: 0.43 <= whole_mfu(found) <= 0.5
    ),
    Belief(
        "a layer takes no longer than PyTorch's",
        lambda found: layer_ms(found) <= layer_ms(found, "PyTorch eager"),
    ),
    Belief(
        "the device's own products reach 70 to 90 % of its datasheet",
        lambda found: 0.7 <= found["rate"]["rate"] / _sheet(found) <= 0.9,
    ),
)


def wanted_variant(found: Found) -> str | None:
    """Return which variant is timed besides, by a rule that was fixed before any measurement.

    It is "graph", the other graph of attention; "past", the plan that takes a KV cache; or None.
    """
    line = found.get("TensorRT, 2 layers", {})
    fused = line.get("kernels", {}).get("fused")
    if fused is False and line["other_opset"] is not None:
        return "graph"
    return "past" if fused is False or _NO_OLDER_KERNELS.verdict(found) == "REFUTED" else None
