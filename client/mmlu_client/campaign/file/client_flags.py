"""The flags of a cell's run, checked as mmlu-client itself checks them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from trt_common.command_line.nearest import suggestion
from trt_common.command_line.parser import RefusedArgumentError, RefusingParser

from mmlu_client.campaign.cell import Cell, words
from mmlu_client.campaign.file.errors import CampaignFileError
from mmlu_client.campaign.file.flags import flags_of, refuse
from mmlu_client.campaign.file.yaml_file import Entry
from mmlu_client.config.command_line import refusing_parser
from mmlu_client.config.reading import settings_from
from mmlu_client.config.settings import SERVER, Settings
from mmlu_client.errors import InputError

# A campaign gives each run its server and its folder, and makes a cell of each load.
REFUSED = frozenset(
    {
        "url", "output", "resume", "config", "metrics-port", "metrics-host", "label", "verbose", "help",
        "version",
    }
)  # fmt: skip
# Flags of mmlu-client that say which server is asked, and how.
OF_SERVER = frozenset(flag.removeprefix("--") for flag in refusing_parser().flags_of_group(SERVER))
# A started server is waited for as the run says.
OF_SERVER_ALONE = OF_SERVER - {"server-timeout", "request-timeout"}
# An address that a server which is started may get.
SOME_ADDRESS = "127.0.0.1:1"


def settings_of(cell: Cell, parser: RefusingParser) -> Settings:
    """Return the settings of a cell's run; the address of a server that is to be started is a stand-in.

    Raises:
        RefusedArgumentError: a flag is wrong.
        InputError: two flags do not go together, or what one names is wrong.
    """
    return settings_from([*cell.words, f"--url={cell.setting.url or SOME_ADDRESS}"], parser=parser)


class ClientFlags:
    """Reads flags of mmlu-client from a campaign's file."""

    def __init__(self, base: Path) -> None:
        """Prepare to read.

        Args:
            base: the file's folder.
        """
        self._base = base
        self._parser = refusing_parser()
        self._names = [flag.removeprefix("--") for flag in self._parser.flags]

    def read(self, entry: Entry, what: str, only: Collection[str] | None = None) -> dict[str, Any]:
        """Return the flags of a mapping, each of which mmlu-client takes by itself.

        Args:
            entry: the mapping.
            what: what an error calls it.
            only: the flags that may stand here; None: all but those of servers that run already.

        Raises:
            CampaignFileError: it is no mapping of flags to values, or a flag or a value is none.
        """
        flags = {}
        for name, each, value in flags_of(entry, self._base, what):
            refuse(name, each, REFUSED, "a campaign sets it for each of its runs")
            if name == "sweep":
                each.fail("`sweep` is several runs: name each load under `loads`")
            if name not in self._names:
                each.fail(f"`{name}` is no flag of mmlu-client{suggestion(name, self._names)}")
            if only is not None and name not in only:
                each.fail(f"`{name}` says nothing of a server: move it to the workload or the load")
            if only is None and name in OF_SERVER_ALONE:
                each.fail(f"`{name}` is of a server that runs already: move it to a server with `url`")
            self._check(name, value, each)
            flags[name] = value
        return flags

    def check_together(self, cell: Cell, path: Path) -> None:
        """Check that a cell's flags go together.

        Raises:
            CampaignFileError: they do not.
        """
        try:
            settings_of(cell, self._parser)
        except (RefusedArgumentError, InputError) as error:
            raise CampaignFileError(path, cell.line, f"cell {cell.name}: {error}") from None

    def _check(self, name: str, value: Any, entry: Entry) -> None:
        is_switch = self._parser.is_switch(f"--{name}")
        if is_switch != isinstance(value, bool):
            what = "true or false" if is_switch else "a value"
            entry.fail(f"`{name}` has to be {what}, and is {entry.text}")
        try:
            self._parser.parse_args(words({name: value}))
        except RefusedArgumentError as error:
            entry.fail(str(error))
