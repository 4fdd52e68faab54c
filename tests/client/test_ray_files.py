"""What lies on a machine of a Ray cluster for a campaign, and how it comes from there and goes there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mmlu_client.campaign.cell import Cell, Resources, ServerSetting
from mmlu_client.campaign.file.errors import CampaignFileError
from mmlu_client.campaign.ray.changes import WatchedFolder, files_of, write_changes, write_files
from mmlu_client.campaign.ray.inputs import Inputs, unpack, with_inputs

SETTING = ServerSetting(name="s", flags={}, url=None, resources=Resources(), line=1)
CORES = len(os.sched_getaffinity(0))


class Copy:
    """A folder, and the other one into which its changes are written."""

    def __init__(self, folder: Path) -> None:
        self.there, self.here = folder / "there", folder / "here"
        for each in (self.there, self.here):
            write_files(each, {"records.jsonl": b"1\n2\n3", "client.log": b"earlier\n"})
        self.watched = WatchedFolder(self.there)

    def bring(self) -> int:
        """Bring the changes over, and return how many bytes they are."""
        changes = self.watched.changes()
        write_changes(self.here, changes)
        assert files_of(self.here, ()) == files_of(self.there, ())
        return sum(len(change.content) for change in changes.files)

    def append(self, name: str, content: bytes) -> None:
        with (self.there / name).open("ab") as stream:
            stream.write(content)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_what_a_file_grows_by_is_brought_alone(copy: Copy) -> None:
    assert copy.bring() == 0
    copy.append("records.jsonl", b"\n4\n")
    copy.append("device.jsonl", b"{}\n")
    assert copy.bring() == 3 + 3
    copy.append("device.jsonl", b"{}\n" * 1000)
    assert copy.bring() == 3000
    assert copy.bring() == 0


@pytest.mark.parametrize("line", [b"30\n", b"4\n", b"4444444\n"])
def test_a_torn_line_that_was_cut_off_is_gone_here_too(copy: Copy, line: bytes) -> None:
    """It is as long as what follows in its place, or shorter, or longer."""
    copy.append("records.jsonl", b"33")
    copy.bring()
    os.truncate(copy.there / "records.jsonl", 4)
    copy.append("records.jsonl", line)
    copy.bring()
    assert (copy.here / "records.jsonl").read_bytes() == b"1\n2\n" + line


def test_other_files_are_written_anew_and_removed(copy: Copy) -> None:
    for content in (b"{}", b"[]", b"{} longer", b""):
        write_files(copy.there, {"manifest.json": content, "lm-eval/demo/results.json": content})
        copy.bring()
    (copy.there / "manifest.json").unlink()
    copy.bring()


def test_what_a_manifest_says_is_never_ahead_of_the_records(copy: Copy) -> None:
    """The lines that it counts are brought before it is."""
    copy.append("records.jsonl", b"\n")
    write_files(copy.there, {"manifest.json": b"{}", "a.json": b"{}"})
    names = [change.name for change in copy.watched.changes().files]
    assert names[0] == "records.jsonl"
    assert sorted(names[1:]) == ["a.json", "manifest.json"]


def test_a_file_that_is_being_written_in_one_step_is_left_alone(copy: Copy) -> None:
    write_files(copy.there, {".manifest.json.0123.part": b"{"})
    assert copy.watched.changes().files == ()


def cell(**flags: str) -> Cell:
    return Cell(name="c", coordinates={}, setting=SETTING, flags=flags, line=7)


def test_files_that_flags_name_travel(tmp_path: Path) -> None:
    data, tokenizer, there = tmp_path / "data", tmp_path / "tokenizer.json", tmp_path / "there"
    write_files(data, {"test/a.csv": b"a", "dev/b.csv": b"b"})
    tokenizer.write_bytes(b"{}")
    asked = cell(data=str(data), tokenizer=str(tokenizer), limit="3")
    stored: list[bytes] = []

    def store(content: bytes) -> int:
        stored.append(content)
        return len(stored) - 1

    inputs = Inputs(store)
    found = inputs.of(asked, tmp_path / "file.yaml")
    assert inputs.of(asked, tmp_path / "file.yaml") == found
    assert len(stored) == 2
    unpack(there, found, stored.__getitem__)
    here = with_inputs(asked, found).flags
    assert here["limit"] == "3"
    # The same path on every machine, since a run's manifest has it.
    assert not Path(here["data"]).is_absolute()
    assert files_of(there / here["data"], ()) == {"test/a.csv": b"a", "dev/b.csv": b"b"}
    assert (there / here["tokenizer"]).read_bytes() == b"{}"
    unpack(there, found, lambda _: pytest.fail("it is there already"))


def test_names_do_not_travel(tmp_path: Path) -> None:
    inputs = Inputs(lambda _: pytest.fail("nothing is to be stored"))
    assert inputs.of(cell(data="owner/name", tokenizer="demo", model="/"), tmp_path) == []


def test_what_is_too_large_to_travel_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "large").open("wb") as stream:
        stream.truncate(600 * 2**20)
    inputs = Inputs(lambda _: pytest.fail("it is not to be stored"))
    with pytest.raises(
        CampaignFileError, match=r"file\.yaml:7: cell c: --data .* is 600 MiB, and 512 MiB at"
    ):
        inputs.of(cell(data=str(tmp_path / "data")), tmp_path / "file.yaml")


FOLDER = """
from mmlu_client.campaign.ray.node_folder import node_folder
with node_folder() as folder:
    print(folder, flush=True)
    input()
"""
CLAIM = """
from mmlu_client.campaign.ray.cores import claim_cores
print(claim_cores({}), flush=True)
input()
"""


@contextmanager
def running(code: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs this code, and the line that it has said."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_the_folder_of_a_killed_worker_is_removed_by_the_next_one(tmp_path: Path) -> None:
    with running(FOLDER, tmp_path) as (_, alive):
        with running(FOLDER, tmp_path) as (killed, abandoned):
            killed.kill()
            killed.wait()
        assert Path(abandoned).is_dir()
        with running(FOLDER, tmp_path) as (last, own):
            assert (Path(alive).is_dir(), Path(abandoned).exists(), Path(own).is_dir()) == (True, False, True)
            last.communicate("\n")
            assert not Path(own).exists()


def test_no_core_is_given_twice_and_a_killed_worker_has_none(tmp_path: Path) -> None:
    with running(CLAIM.format(CORES), tmp_path) as (_, all_of_them):
        assert all_of_them == str(sorted(os.sched_getaffinity(0)))
        with running(CLAIM.format(1), tmp_path) as (_, none):
            assert none == "None"
    with running(CLAIM.format(1), tmp_path) as (_, one), running(CLAIM.format(1), tmp_path) as (_, other):
        assert one == str(sorted(os.sched_getaffinity(0))[:1])
        assert other != one
