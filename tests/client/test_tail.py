"""What is read of files that grow."""

from __future__ import annotations

from pathlib import Path

from mmlu_client.campaign.tail import Tail


def test_each_byte_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    tail = Tail(path)
    assert tail.new() == b""
    path.write_bytes(b"one\ntw")
    assert tail.new() == b"one\ntw"
    assert tail.new() == b""
    with path.open("ab") as stream:
        stream.write(b"o\n")
    assert tail.new() == b"o\n"


def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"earlier\none\rhalf\ntw")
    tail = Tail(path, start=len("earlier\n"))
    assert tail.new_lines() == [b"one\rhalf"]
    assert tail.new_lines() == []
    with path.open("ab") as stream:
        stream.write(b"o\nthree\n")
    assert tail.new_lines() == [b"two", b"three"]


def test_a_torn_line_that_is_written_again_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"one\ntorn li")
    tail = Tail(path)
    assert tail.new_lines() == [b"one"]
    # As a client that is resumed does.
    path.write_bytes(b"one\na\nb\n")
    assert tail.new_lines() == [b"a", b"b"]
