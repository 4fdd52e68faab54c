"""The floating-point operations of a prompt, and the share of a device's peak that they make."""

from __future__ import annotations

from trt_server.model.geometry import Geometry


def prompt_flops(geometry: Geometry, tokens: int, reused_tokens: int = 0) -> int:
    """Return the floating-point operations of scoring a prompt.

        2·P·(T−C) + 2·d·Σ (K(T) − K(C)) + 2·V·h,  the sum over the layers
        K(t) = t² without a window, or up to it (t ≤ w); w·(2·t − w) beyond it

    T tokens, C of them reused. A product of an [m, k] and a [k, n] matrix is 2·m·k·n operations (Kaplan et
    al. 2020, arXiv 2001.08361, section 2.1). P: the weights in the layers' products, each used once a token.
    Attention: each layer multiplies queries with keys and shares with values, d = query heads × head size
    wide, 4·d operations a key that a query sees. A query sees all keys up to its own position, of a layer
    with a sliding window the last w of them (Beltagy et al. 2020, "Longformer", arXiv 2004.05150, section
    3.1). Its own key counts half, as the diagonal of a causal triangle: the query at position t, counted from
    0, sees min(t + ½, w) keys, and their sum over t from 0 to T−1 is K(T) / 2. Where none of L layers has a
    window, attention is 2·L·d·(T²−C²). The head, V tokens over the hidden size h, runs once a prompt. Norms,
    softmax and rotation are not counted, as is usual.

    Args:
        geometry: The model's.
        tokens: T, of the prompt.
        reused_tokens: C, the first of them, whose keys and values come from a prefix store.
    """
    layers = 2 * geometry.matmul_parameters * (tokens - reused_tokens)
    keys = sum(
        _twice_the_keys(tokens, window) - _twice_the_keys(reused_tokens, window)
        for window in geometry.sliding_windows
    )
    attention = 2 * geometry.query_size * keys
    head = 2 * geometry.vocabulary_size * geometry.hidden_size
    return layers + attention + head


def _twice_the_keys(tokens: int, window: int | None) -> int:
    """Return K of prompt_flops: twice the keys that the queries of the first positions see together."""
    if window is None or tokens <= window:
        return tokens**2
    return window * (2 * tokens - window)


def mfu(flops: float, core_seconds: float, peak_flops_per_second: float) -> float:
    """Return the model FLOPs utilization: the work done over what the device could have done in that time.

    It is that of Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, appendix B.
    """
    return flops / (core_seconds * peak_flops_per_second)
