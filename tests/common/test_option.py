"""Options that are declared as fields of dataclasses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from trt_common.command_line.option import add_options, nested, option, read_options
from trt_common.command_line.parser import FlagParser


def halved(given: int | None) -> float | None:
    if given is not None and given % 2:
        raise ValueError(f"{given} is odd")
    return None if given is None else given / 2


@dataclass(frozen=True, kw_only=True)
class Inner:
    first_way: bool = option("ways", "one way", exclusive=True, action="store_true")
    second_way: int | None = option("ways", "another", exclusive=True, type=int)
    rest: str = option("ways", "neither", default="none")


@dataclass(frozen=True, kw_only=True)
class Outer:
    size: int = option("sizes", "how large", flag="--bs", type=int, default=3)
    inner: Inner = nested(Inner)
    half: float | None = option("sizes", "twice it", type=int, read=halved)
    late: str = option("ways", "also of the ways", default="yes")
    other: list[str]


def parser() -> FlagParser:
    made = FlagParser("program", "PROGRAM_", {"go": "it goes"}, "go")
    add_options(made, Outer)
    return made


def read(*arguments: str) -> Outer:
    return read_options(Outer, parser().parse_args(arguments), other=["given"])


def test_what_is_not_given_has_its_default() -> None:
    inner = Inner(first_way=False, second_way=None, rest="none")
    assert read() == Outer(size=3, inner=inner, half=None, late="yes", other=["given"])


def test_a_flag_a_key_and_a_variable_set_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("bs: 5\nsecond-way: 6\nhalf: 8\n")
    monkeypatch.setenv("PROGRAM_BS", "7")
    monkeypatch.setenv("PROGRAM_HALF", "10")
    found = read("--config", str(config), "--half", "12")
    assert (found.size, found.inner.second_way, found.half) == (7, 6, 6.0)


def test_flags_stand_in_their_groups_in_the_order_of_their_fields() -> None:
    titles = re.findall(r"^(\w+):$|^  (--[a-z-]+)", parser().format_help(), re.MULTILINE)
    assert [title or flag for title, flag in titles] == [
        "options", "--config", "--version", "sizes", "--bs", "--half",
        "ways", "--first-way", "--second-way", "--rest", "--late",
    ]  # fmt: skip


def test_one_exclusive_option_of_a_group_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        read("--first-way", "--second-way", "4")
    assert refused.value.code == 2
    assert "argument --second-way: not allowed with argument --first-way" in capsys.readouterr().err


def test_what_reading_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="7 is odd"):
        read("--half", "7")
