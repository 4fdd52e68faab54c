"""Which cell is next: servers are used for all their cells before another one is started."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from mmlu_client.campaign.cell import Cell, ServerSetting


class Schedule:
    """Gives each lane its next cell. Any thread may call it."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        """Take the cells that are to be run, in the order of the campaign's file."""
        self._waiting = list(cells)
        self._on = 0
        self._held: dict[int, ServerSetting] = {}
        self._changed = threading.Condition()

    def next(self, lane: int, is_stopped: Callable[[], bool]) -> Cell | None:
        """Return the next cell of a lane, once there is one; None where none is left, or on a stop.

        It is one of the server that the lane holds; else of one that no lane holds; else of the one that
        most cells wait for, so that a further server of it is started. A server that runs already is asked
        by one lane at a time.
        """
        with self._changed:
            while not is_stopped():
                if (cell := self._choose(lane)) is not None:
                    self._waiting.remove(cell)
                    self._held[lane] = cell.setting
                    self._on += 1
                    return cell
                # A cell that is on may come back, or end with a server that others wait for.
                if not self._on:
                    break
                self._changed.wait(0.2)
            self._held.pop(lane, None)
            return None

    def done(self) -> None:
        """Note that a cell which was given is not run any more."""
        with self._changed:
            self._on -= 1
            self._changed.notify_all()

    def again(self, cell: Cell) -> None:
        """Take a cell back, behind the others of its server."""
        with self._changed:
            self._waiting.append(cell)
            self._on -= 1
            self._changed.notify_all()

    def give_up(self, setting: ServerSetting) -> list[Cell]:
        """Take away and return the cells that wait for a server."""
        with self._changed:
            lost = [cell for cell in self._waiting if cell.setting.name == setting.name]
            self._waiting = [cell for cell in self._waiting if cell.setting.name != setting.name]
            self._changed.notify_all()
            return lost

    def _choose(self, lane: int) -> Cell | None:
        held = self._held.get(lane)
        taken = {setting.name for other, setting in self._held.items() if other != lane}
        free = [cell for cell in self._waiting if cell.setting.is_started or cell.setting.name not in taken]
        for cell in free:
            if held is not None and cell.setting.name == held.name:
                return cell
        for cell in free:
            if cell.setting.name not in taken:
                return cell
        if not free:
            return None
        ((most, _),) = Counter(cell.setting.name for cell in free).most_common(1)
        return next(cell for cell in free if cell.setting.name == most)
