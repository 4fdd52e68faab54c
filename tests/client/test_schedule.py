"""Which cell a lane gets: one server for all its cells, as far as that keeps no lane idle."""

from __future__ import annotations

import threading

from mmlu_client.campaign.cell import Cell, Resources, ServerSetting
from mmlu_client.campaign.schedule import Schedule


def cell(name: str, server: str, url: str | None = None) -> Cell:
    setting = ServerSetting(name=server, flags={}, url=url, resources=Resources(), line=1)
    return Cell(name=name, coordinates={}, setting=setting, flags={}, line=1)


def never() -> bool:
    return False


def test_a_lane_keeps_its_server_and_another_takes_the_next() -> None:
    schedule = Schedule([cell("a1", "a"), cell("b1", "b"), cell("a2", "a"), cell("b2", "b")])
    order = []
    for lane in (0, 1, 0, 1):
        given = schedule.next(lane, never)
        assert given is not None
        order.append(given.name)
        schedule.done()
    assert order == ["a1", "b1", "a2", "b2"]
    assert schedule.next(0, never) is None


def test_a_lane_without_work_helps_where_most_wait() -> None:
    schedule = Schedule([cell("a1", "a"), *(cell(f"b{number}", "b") for number in range(3)), cell("a2", "a")])
    names = []
    for lane in (0, 1, 2):
        given = schedule.next(lane, never)
        assert given is not None
        names.append(given.name)
    assert names == ["a1", "b0", "b1"]


def test_a_cell_that_comes_back_is_behind_the_others_of_its_server() -> None:
    schedule = Schedule([first := cell("a1", "a"), cell("a2", "a")])
    assert schedule.next(0, never) is first
    schedule.again(first)
    names = []
    while (given := schedule.next(0, never)) is not None:
        names.append(given.name)
        schedule.done()
    assert names == ["a2", "a1"]


def test_a_server_that_runs_already_is_asked_by_one_lane_at_a_time() -> None:
    schedule = Schedule([cell("x1", "x", url="there:1"), cell("x2", "x", url="there:1")])
    assert schedule.next(0, never) is not None
    given: list[Cell | None] = []
    other = threading.Thread(target=lambda: given.append(schedule.next(1, never)))
    other.start()
    schedule.done()
    second = schedule.next(0, never)
    assert second is not None
    assert second.name == "x2"
    schedule.done()
    assert schedule.next(0, never) is None
    other.join(60)
    assert given == [None]


def test_cells_of_a_server_that_is_given_up_are_given_to_nobody() -> None:
    schedule = Schedule([cell("a1", "a"), cell("a2", "a"), cell("b1", "b")])
    first = schedule.next(0, never)
    assert first is not None
    assert [each.name for each in schedule.give_up(first.setting)] == ["a2"]
    schedule.done()
    last = schedule.next(0, never)
    assert last is not None
    assert last.name == "b1"


def test_a_stop_ends_the_wait() -> None:
    schedule = Schedule([cell("a1", "a")])
    assert schedule.next(0, never) is not None
    assert schedule.next(1, lambda: True) is None
