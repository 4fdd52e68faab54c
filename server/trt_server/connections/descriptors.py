"""File descriptors: how many the process may open, and how many of them are for connections."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

# For weights, plans, libraries, logs, downloads and listening.
OTHERS = 256


def connections_that_fit(asked: int, ports: int, besides: int) -> int:
    """Return how many connections each of some ports may hold.

    The system is asked for as many descriptors first; where it does not allow them, a line is logged.

    Args:
        asked: How many each is to hold.
        ports: How many ports share what there is.
        besides: Connections of other ports.
    """
    needed = asked * ports + besides + OTHERS
    allowed = _allow(needed)
    if allowed >= needed:
        return asked
    fit = max(1, (allowed - besides - OTHERS) // ports)
    log.warning(
        "a port holds %d connections at most and not %d: this process may open %d files (ulimit -n)",
        fit,
        asked,
        allowed,
    )
    return fit


def _allow(needed: int) -> int:
    """Raise the soft limit to what is needed, as far as the hard one goes, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        return soft
    return allowed
