"""FLOPs and MFU against numbers worked out by hand."""

from __future__ import annotations

import pytest
from trt_common.model.flops import text_flops
from trt_common.model.geometry import Geometry, read_geometry
from trt_server.model.dummy import GEOMETRIES
from trt_server.observe.accounting import mfu

A100_FP16 = 312e12


def geometry(name: str) -> Geometry:
    return read_geometry(GEOMETRIES[name])


def test_prompt_of_a_small_model_by_hand() -> None:
    # Hidden 64, inner 192, 4 query and 2 key-value heads of 16, 2 layers, 512 tokens.
    # A layer: q 64·64 + k, v 2·64·32 + o 64·64 + mlp 3·64·192 = 49,152 weights.
    # T = 10: 2·98,304·10 + 2·2·64·100 + 2·512·64.
    assert geometry("tiny").matmul_parameters == 98_304
    assert text_flops(geometry("tiny"), [(0, 10)], 1) == 1_966_080 + 25_600 + 65_536


def test_average_mmlu_prompt_of_llama_2_7b() -> None:
    # P = 32·(4·4096² + 3·4096·11008) = 6,476,005,376; T = 805.
    # 2·P·T = 10,426,368,655,360; 2·32·4096·805² = 169,875,865,600; 2·32000·4096 = 262,144,000.
    assert text_flops(geometry("llama-2-7b"), [(0, 805)], 1) == 10_596_506_664_960


def test_reused_prefix_is_not_counted_but_its_keys_are_met() -> None:
    # C = 6 of T = 10: 2·98,304·4 + 2·2·64·(100 − 36) + 2·512·64.
    assert text_flops(geometry("tiny"), [(6, 10)], 1) == 786_432 + 16_384 + 65_536


def test_continuations_go_on_after_the_prompt_and_the_head_runs_where_it_is_asked() -> None:
    # 10 tokens, and two continuations of 3 and of 1 after them: 2·98,304·14 + 2·2·64·(100 + (169 − 100) +
    # (121 − 100)) + 2·512·64·3, for the prompt's last position and the first two of the longer one.
    computed = [(0, 10), (10, 13), (10, 11)]
    assert text_flops(geometry("tiny"), computed, 3) == 2_752_512 + 256 * 190 + 196_608


def test_attention_is_as_wide_as_the_heads_and_the_head_as_the_hidden_state() -> None:
    config = GEOMETRIES["tiny"] | {"head_dim": 24}
    # d = 4·24 = 96; P = 2·(64·(2·96 + 2·48) + 3·64·192) = 110,592.
    assert (
        text_flops(read_geometry(config), [(0, 10)], 1) == 2 * 110_592 * 10 + 2 * 2 * 96 * 100 + 2 * 512 * 64
    )


@pytest.mark.parametrize(
    ("tokens", "reused"),
    [(1, 0), (15, 0), (16, 0), (17, 0), (2000, 0), (15, 5), (17, 16), (100, 5), (100, 16), (2000, 100)],
)
def test_windows_bound_the_keys_that_are_counted(tokens: int, reused: int) -> None:
    """Counted layer by layer and position by position.

    A query sees all keys before its own, and half of that one, or the window's number of them.
    """
    windows = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    model = read_geometry(GEOMETRIES["tiny"] | windows | {"model_type": "qwen2", "num_hidden_layers": 3})
    assert model.sliding_windows == (None, 16, 16)
    keys = sum(
        position + 0.5 if window is None else min(position + 0.5, window)
        for window in model.sliding_windows
        for position in range(reused, tokens)
    )
    layers, head = 2 * model.matmul_parameters * (tokens - reused), 2 * 512 * 64
    assert text_flops(model, [(reused, tokens)], 1) == layers + 4 * 64 * keys + head


def test_last_layer_may_be_computed_for_scored_tokens_alone() -> None:
    """Of the small model: q 64·64 + o 64·64 + mlp 3·64·192 = 45,056 weights, for 9 of 10 tokens.

    Its attention, 2·2·64 a key and a half for the query's own, is left with that of the last query.
    """
    whole = text_flops(geometry("tiny"), [(0, 10)], 1)
    skipped = 2 * 45_056 * 9 + 2 * 64 * (100 - (100 - 81))
    assert text_flops(geometry("tiny"), [(0, 10)], 1, [9]) == whole - skipped
    assert text_flops(geometry("tiny"), [(0, 10)], 1, range(10)) == whole


def test_window_of_mistral() -> None:
    # 6,000 tokens, 4,096 of them in reach: 4096·(2·6000 − 4096) = 32,374,784 instead of 6000² = 36,000,000.
    full = read_geometry(GEOMETRIES["mistral-7b"] | {"sliding_window": None})
    saved = text_flops(full, [(0, 6000)], 1) - text_flops(geometry("mistral-7b"), [(0, 6000)], 1)
    assert saved == 2 * 32 * 4096 * (36_000_000 - 32_374_784)
    assert text_flops(full, [(0, 4096)], 1) == text_flops(geometry("mistral-7b"), [(0, 4096)], 1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # What the models' publishers count.
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-3-8b", 8_030_261_248),
        ("deepseek-7b", 6_910_365_696),
        ("mistral-7b", 7_241_732_096),
        ("qwen2-7b", 7_615_616_512),
        ("qwen3-8b", 8_190_735_360),
        ("aquila-7b", 7_295_537_152),
    ],
)
def test_total_parameters(name: str, parameters: int) -> None:
    assert geometry(name).total_parameters == parameters


def test_tied_embedding_counts_once() -> None:
    tied = read_geometry(GEOMETRIES["tiny"] | {"tie_word_embeddings": True})
    assert geometry("tiny").total_parameters - tied.total_parameters == 512 * 64


def test_mfu_is_work_over_what_could_have_been_done() -> None:
    # 156 TFLOP in a second of a card that does 312 a second.
    assert mfu(156e12, 1.0, A100_FP16) == 0.5
    assert mfu(156e12, 4.0, A100_FP16) == 0.125
