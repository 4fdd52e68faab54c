"""What the metrics of both programs have in common; each program imports the library of metrics itself."""

from __future__ import annotations

# Upper ends in seconds. From 1 ms to a minute there are 24 buckets a decade, each 10 % above the one before,
# so that an interpolated median is wrong by 5 % at most.
LATENCY_BUCKETS = (
    *(0.0001, 0.00025, 0.0005),
    *(float(f"{10 ** (step / 24 - 3):.3g}") for step in range(116)),
    *(100.0, 250.0, 500.0),
)
