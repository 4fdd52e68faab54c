"""The campaign of `make torture`, small: what strangers send, and kills at random points, are survived.

Everything follows from SEED, which a failure names; TORTURE_SEED sets another one.
"""

from __future__ import annotations

import os
from pathlib import Path

import campaign
import pytest
from client_kills import kill_clients
from floods import AT_ONCE, flood
from full_disk import fill_disks
from garbage import connect_garbage
from mutated_messages import send_mutated
from mutation import mutated_body, mutated_request
from outcome import Outcome
from server_kills import kill_servers
from soak import soak

SEED = int(os.environ.get("TORTURE_SEED", "20261127"))


def holds(outcome: Outcome) -> None:
    """Fails with the seed and with what does not hold."""
    assert not outcome.breaches, f"seed {SEED}: {outcome.breaches} times, {outcome.broken}"
    assert outcome.figures


def test_mutated_messages_are_each_answered(llama_folder: Path) -> None:
    holds(send_mutated(llama_folder, 10_000, SEED))


def test_garbage_connections_cost_nothing_that_stays(llama_folder: Path) -> None:
    holds(connect_garbage(llama_folder, 600, SEED))


def test_floods_take_no_more_than_their_budget(llama_folder: Path) -> None:
    holds(flood(llama_folder, AT_ONCE))


def test_killed_servers_leave_a_whole_cache_and_the_next_one_serves(
    tmp_path: Path, llama_folder: Path
) -> None:
    holds(kill_servers(tmp_path, llama_folder, 10, SEED))


def test_killed_runs_are_resumed_with_nothing_asked_twice(tmp_path: Path) -> None:
    holds(kill_clients(tmp_path, 10, SEED))


def test_full_disks_leave_nothing_half_written(tmp_path: Path, llama_folder: Path) -> None:
    outcome = fill_disks(tmp_path, llama_folder, 2, SEED)
    if why := outcome.figures.get("not done"):
        pytest.skip(why)
    holds(outcome)


def test_twice_the_capacity_is_refused_and_not_queued(llama_folder: Path) -> None:
    holds(soak(llama_folder, 5))


def test_the_same_seed_gives_the_same_messages() -> None:
    assert [mutated_request(SEED, n) for n in range(300)] == [mutated_request(SEED, n) for n in range(300)]
    assert len({mutated_request(SEED, n) for n in range(300)}) > 280
    assert mutated_request(SEED, 3) != mutated_request(SEED + 1, 3)
    assert len({mutated_body(SEED, n) for n in range(300)}) > 200


def test_what_does_not_hold_is_told_and_is_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With parts that stand for all of them: one that holds, and one that does not."""
    good, bad = Outcome("good"), Outcome("bad")
    good.tell("messages", 1_000_000)
    bad.hold(False, "memory grew")
    for parts, status in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(campaign, "_parts", lambda *_, parts=parts: iter(parts))
        assert campaign.main(["--minutes", "1", "--seed", "7"]) == status
        said = capsys.readouterr().out
        assert "| messages | 1,000,000 |" in said
        assert ("does not hold: bad: memory grew" in said) == bool(status)
        assert said.startswith("seed 7,")


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan"])
def test_no_time_is_refused(minutes: str) -> None:
    with pytest.raises(SystemExit) as caught:
        campaign.main(["--minutes", minutes])
    assert caught.value.code == 2
