"""How much work a prompt is, and what share of the hardware's rate that makes."""

from __future__ import annotations

from trt_server.model.geometry import Geometry


def prompt_flops(geometry: Geometry, tokens: int, reused_tokens: int = 0) -> int:
    """Floating-point operations of scoring `tokens` of which the first `reused_tokens` are not computed.

        2·P·(T−C) + 2·L·d·(T²−C²) + 2·V·h

    T tokens, C of them reused. A product of an [m, k] and a [k, n] matrix is 2·m·k·n operations (Kaplan et
    al. 2020, arXiv 2001.08361, section 2.1). P: the weights in the layers' products, each used once a token.
    Attention: each of L layers multiplies queries with keys and shares with values, d = query heads × head
    size wide; the token at position t meets t keys, 4·d·t operations, and their sum over positions C to T is
    2·d·(T²−C²). The head, V tokens over the hidden size h, runs once a prompt. Norms, softmax and rotation
    are not counted, as is usual.
    """
    layers = 2 * geometry.matmul_parameters * (tokens - reused_tokens)
    attention = 2 * geometry.layers * geometry.query_size * (tokens**2 - reused_tokens**2)
    head = 2 * geometry.vocabulary_size * geometry.hidden_size
    return layers + attention + head


def mfu(flops: float, core_seconds: float, peak_flops_per_second: float) -> float:
    """Model FLOPs utilization: work done over what the device could have done in that time
    (Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, appendix B)."""
    return flops / (core_seconds * peak_flops_per_second)
