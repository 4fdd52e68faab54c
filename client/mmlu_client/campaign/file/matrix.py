"""The axes of a campaign → the coordinates of its cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from trt_common.command_line.nearest import suggestion

from mmlu_client.campaign.file.axis import AXES, COORDINATES, MODEL, PROMPT_FORMAT, SERVER, WORKLOAD, Axis
from mmlu_client.campaign.file.yaml_file import Entry

# Each is a run, with a folder, a row and a point of its own.
MOST_CELLS = 10_000
# The name of a value by its coordinate, in the order of COORDINATES.
Coordinates: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Matrix:
    """The axes, and what decides which combinations of their values are cells.

    Attributes:
        axes: by coordinate, in the order of a cell's name.
        own_model: the servers that have a model of their own, and are not combined with models.
        own_prompts: the workloads that have prompts of their own, and are not combined with prompt formats.
    """

    axes: Mapping[str, Axis]
    own_model: frozenset[str]
    own_prompts: frozenset[str]

    def cells(self, chosen: Entry, exclude: Entry, include: Entry) -> list[Coordinates]:
        """Return the coordinates of each cell, in the order of the axes' values.

        Args:
            chosen: the names that are combined, by the axis's key; all of an axis that is not there.
            exclude: a list of coordinates; a combination that has all of one of them is no cell.
            include: a list of coordinates; what they leave open is every value. They are cells too.

        Raises:
            CampaignFileError: a name is none of the file's, or an entry changes nothing.
        """
        found = self._combined(self._chosen(chosen), chosen)
        for each in exclude.sequence("`exclude`"):
            wanted = self.selection(each)
            left = [cell for cell in found if not _matches(cell, wanted)]
            if len(left) == len(found):
                each.fail(f"no cell is {each.text}: correct this `exclude`, or leave it away")
            found = left
        known = {tuple(cell.items()) for cell in found}
        for each in include.sequence("`include`"):
            wanted = self.selection(each)
            added = [cell for cell in self._combined(wanted, each) if tuple(cell.items()) not in known]
            if not added:
                each.fail(f"two cells would have one name: every cell of {each.text} is there already")
            found += added
            known |= {tuple(cell.items()) for cell in added}
            check_count(len(found), each)
        return found

    def selection(self, entry: Entry) -> dict[str, list[str]]:
        """Return the names that an entry like `{model: a, server: [b, c]}` allows, by coordinate.

        Raises:
            CampaignFileError: it is not like that, or names what the file has not.
        """
        wanted = {}
        for key, each in entry.mapping("an entry of `exclude` or `include`").items():
            if key not in self.axes:
                here = [name for name in COORDINATES if name in self.axes]
                each.fail(
                    f"`{key}` is no coordinate of this file's cells, which have {', '.join(here)}"
                    f"{suggestion(key, here)}"
                )
            values = each.value if isinstance(each.value, list) else [each]
            wanted[key] = [self.axes[key].named(value) for value in values]
        if not wanted:
            entry.fail("an entry of `exclude` or `include` has to name a coordinate, as `model: NAME`")
        return wanted

    def _chosen(self, entry: Entry) -> dict[str, list[str]]:
        chosen = {}
        for key, each in entry.mapping("`matrix`").items():
            if key not in AXES or AXES[key] not in self.axes:
                here = [name for name, coordinate in AXES.items() if coordinate in self.axes]
                each.fail(f"`{key}` is no axis of this file{suggestion(key, here)}")
            axis = self.axes[AXES[key]]
            chosen[AXES[key]] = [axis.named(value) for value in each.sequence(f"`{key}` of `matrix`")]
        return chosen

    def _combined(self, wanted: Mapping[str, Sequence[str]], entry: Entry) -> list[Coordinates]:
        """Return every combination of the wanted values, each once; refuse an entry that makes too many."""
        names = [wanted.get(coordinate, axis.names) for coordinate, axis in self.axes.items()]
        check_count(math.prod(map(len, names)), entry)
        combined = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*names)]
        found: list[Coordinates] = []
        seen: set[tuple[tuple[str, str], ...]] = set()
        for cell in combined:
            if cell.get(SERVER) in self.own_model:
                cell.pop(MODEL, None)
            if cell.get(WORKLOAD) in self.own_prompts:
                cell.pop(PROMPT_FORMAT, None)
            if (key := tuple(cell.items())) not in seen:
                seen.add(key)
                found.append(cell)
        return found


def check_count(cells: int, entry: Entry) -> None:
    """Refuse a file that describes too many cells, before they are made.

    Raises:
        CampaignFileError: it does.
    """
    if cells > MOST_CELLS:
        entry.fail(
            f"values and repetitions are combined to {cells:,} cells, and {MOST_CELLS:,} are the most: name "
            "fewer, or part them into several files"
        )


def _matches(cell: Coordinates, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(cell.get(coordinate) in names for coordinate, names in wanted.items())
