"""Values with their units as Grafana writes them."""

from __future__ import annotations

_SUFFIXES = {"reqps": " req/s", "watt": " W", "joule": " J", "celsius": " °C", "none": ""}
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_HERTZ = ((1e9, "GHz"), (1e6, "MHz"), (1.0, "Hz"))


def formatted(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit; without `decimals` it has three significant digits."""
    if unit == "percentunit":
        return f"{_digits(100 * value, decimals)}%"
    if unit.startswith("suffix:"):
        return f"{_digits(value, decimals)} {unit.removeprefix('suffix:')}"
    scales = {"s": _SECONDS, "bytes": _BYTES, "hertz": _HERTZ}.get(unit)
    if scales is None:
        return _digits(value, decimals) + _SUFFIXES[unit]
    size, name = next(
        ((size, name) for size, name in scales if abs(value) >= size), scales[-1] if value else scales[0]
    )
    return f"{_digits(value / size, decimals)} {name}"


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
