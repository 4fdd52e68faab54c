"""The floating-point operations of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from trt_common.model.geometry import Geometry


def text_flops(
    geometry: Geometry,
    computed: Sequence[tuple[int, int]],
    scored_positions: int,
    last_layer: Sequence[int] | None = None,
) -> int:
    """Return the floating-point operations of a prompt and its continuations.

        Σ (2·P·(T−C) + 2·d·Σ (K(T) − K(C))) + 2·V·h·S,  the inner sum over the layers
        K(t) = t² without a window, or up to it (t ≤ w); w·(2·t − w) beyond it

    The outer sum is over the stretches of text that were computed, from position C to position T; a prompt
    alone is one, from 0 or from where its reused prefix ends. A product of an [m, k] and a [k, n] matrix is
    2·m·k·n operations (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). P: the weights in the layers'
    products, each used once a token. Attention: each layer multiplies queries with keys and shares with
    values, d = query heads × head size wide, 4·d operations a key that a query sees. A query sees all keys of
    its text up to its own position, of a layer with a sliding window the last w of them (Beltagy et al. 2020,
    "Longformer", arXiv 2004.05150, section 3.1). Its own key counts half, as the diagonal of a causal
    triangle: the query at position t, counted from 0, sees min(t + ½, w) keys, and their sum over t from 0 to
    T−1 is K(T) / 2. Where none of L layers has a window, attention is 2·L·d·(T²−C²). The head, V tokens over
    the hidden size h, runs once in each of S scored positions: for a prompt with candidates alone, once.
    Norms, softmax and rotation are not counted, as is usual.

    An engine may leave out of the last layer what nobody asks for: the products with keys, values and
    weights, but those that make keys and values, for tokens whose output is not read. Then they count only
    where they were computed.

    Args:
        geometry: The sizes of the model.
        computed: Of each stretch the first position and the one after its last.
        scored_positions: Those in which the head ran.
        last_layer: The positions for which the last layer was computed whole; None: for all of them.
    """
    layers = 2 * geometry.matmul_parameters * sum(end - start for start, end in computed)
    keys = sum(
        _twice_the_keys(end, window) - _twice_the_keys(start, window)
        for window in geometry.sliding_windows
        for start, end in computed
    )
    attention = 2 * geometry.query_size * keys
    head = 2 * geometry.vocabulary_size * geometry.hidden_size * scored_positions
    skipped = 0 if last_layer is None else _skipped_in_last_layer(geometry, computed, last_layer)
    return layers + attention + head - skipped


def _skipped_in_last_layer(
    geometry: Geometry, computed: Sequence[tuple[int, int]], last_layer: Sequence[int]
) -> int:
    window = geometry.sliding_windows[-1]
    keys = sum(_twice_the_keys(end, window) - _twice_the_keys(start, window) for start, end in computed)
    seen = sum(
        _twice_the_keys(position + 1, window) - _twice_the_keys(position, window) for position in last_layer
    )
    tokens = sum(end - start for start, end in computed) - len(last_layer)
    return 2 * geometry.last_layer_parameters * tokens + 2 * geometry.query_size * (keys - seen)


def _twice_the_keys(tokens: int, window: int | None) -> int:
    """That the queries of a prompt's first `tokens` positions see together: K of text_flops."""
    if window is None or tokens <= window:
        return tokens**2
    return window * (2 * tokens - window)
