"""What a plan is good for: one kind of device, or every GPU of some compute capabilities."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlanTarget:
    """device: the kind, by the driver's name; empty: any of these capabilities. capabilities: as "sm80"."""

    device: str
    capabilities: tuple[str, ...]

    def covers(self, other: PlanTarget) -> bool:
        """Whether a plan for this is good for the other too."""
        return self.device == other.device and set(other.capabilities) <= set(self.capabilities)

    def __str__(self) -> str:
        names = (f"{name[2:-1]}.{name[-1]}" for name in self.capabilities)
        return self.device or f"GPUs of compute capability {', '.join(names)}"
