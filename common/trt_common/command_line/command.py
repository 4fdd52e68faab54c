"""The commands of a program, such as `report` of `mmlu-client report`, which stand before everything else."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from trt_common.command_line.nearest import suggestion
from trt_common.command_line.parser import OneLineParser


def split_command(
    parser: OneLineParser, commands: Collection[str], words: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Return the command that the first word names, and the words behind it.

    The command is None where there is no word, or where the first is a flag.

    Args:
        parser: of the program; it ends the process with status 2 and one line where there is no such command.
        commands: their names.
        words: the command line behind the program's name.
    """
    if not words or words[0].startswith("-"):
        return None, list(words)
    command = words[0]
    if command not in commands:
        known = ", ".join(commands)
        parser.error(f"{command!r} is none of the commands {known}{suggestion(command, commands)}")
    return command, list(words[1:])
