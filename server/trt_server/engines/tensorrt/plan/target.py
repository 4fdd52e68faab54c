"""The devices that a plan can run on: one kind of device, or every GPU of some compute capabilities."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlanTarget:
    """The devices that a plan is for.

    Attributes:
        device: The kind of device, by the driver's name; empty: every GPU of these compute capabilities.
        capabilities: Compute capabilities, such as "sm80".
    """

    device: str
    capabilities: tuple[str, ...]

    def covers(self, other: PlanTarget) -> bool:
        """Return whether a plan for this target also runs on the other."""
        return self.device == other.device and set(other.capabilities) <= set(self.capabilities)

    def __str__(self) -> str:
        names = (f"{name[2:-1]}.{name[-1]}" for name in self.capabilities)
        return self.device or f"GPUs of compute capability {', '.join(names)}"
