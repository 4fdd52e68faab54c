"""The parser of both programs: flags from the command line, a config file and the environment."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import configargparse

from trt_common.command_line.config_file import ConfigFile, open_config
from trt_common.command_line.environment import set_variables, unknown_variables
from trt_common.command_line.nearest import suggestion
from trt_common.command_line.output import put_out
from trt_common.one_line import one_line, shortened
from trt_common.version import version

# These flags stand on the command line alone.
NOT_SETTABLE = ("config", "help", "version")


# Of an error, which may quote a value.
MOST_SHOWN_BYTES = 1024


class RefusedArgumentError(Exception):
    """An argument is wrong; the message says what and why."""


class OneLineParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """A parser that says what is wrong in one line, without the usage text before it."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse as configargparse does, with an empty variable taken for one that is not set."""
        return super().parse_known_args(*arguments, **{**options, "env_vars": self._environment()})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parse all arguments; the process exits with status 2 and one line where one is wrong."""
        chosen, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._remark(unknown[0])}")
        return chosen

    def _environment(self) -> dict[str, str]:
        """Return the variables that may set flags."""
        return set_variables()

    def _remark(self, word: str) -> str:
        """Return what an error says of an unknown argument: the flag that was probably meant."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        return suggestion(word.partition("=")[0], flags, "--")

    def error(self, message: str) -> NoReturn:
        """Print an error in one line and end the process with status 2."""
        with contextlib.suppress(OSError):
            print(f"{self.prog}: error: {_shown(message)} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print the help; argparse would say nothing where that cannot be done."""
        if file is None or file is sys.stdout:
            put_out(self.prog, message.rstrip("\n"))
        else:
            super()._print_message(message, file)


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """The formatter of `--help`, which names defaults and leaves texts of several lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(f"{indent}{line}" for line in text.splitlines())
        return super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or isinstance(action.default, list):
            return action.help
        return super()._get_help_string(action)


class _VersionAction(argparse._VersionAction):
    """Asks git for the commit only where somebody wants to know the version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        put_out(parser.prog, f"{parser.prog} {version()}")
        sys.exit(0)


class FlagParser(OneLineParser):
    """A parser of flags that may also be set in a YAML file, `--config`, and in the environment.

    Args:
        program: its name.
        variables: what the environment's variables begin with, as `TRT_SERVER_`.
        commands: the program's commands, and a line on each.
        command: whose flags these are; None for the program's own, whose help lists the commands.
        texts: `description` and `epilog`.
    """

    def __init__(
        self, program: str, variables: str, commands: Mapping[str, str], command: str | None, **texts: Any
    ) -> None:
        if command is None:
            texts["usage"] = f"{program} [{' | '.join(commands)}] [flags]"
        super().__init__(
            prog=f"{program} {command}" if command else program,
            auto_env_var_prefix=variables,
            config_file_parser_class=ConfigFile,
            config_file_open_func=open_config,
            formatter_class=_DefaultsFormatter,
            add_env_var_help=False,
            add_config_file_help=False,
            allow_abbrev=False,
            **texts,
        )
        self._config_file_parser.keys = self._file_keys
        self._program, self._variables, self._commands = program, variables, commands
        self.add_argument(
            "--config",
            is_config_file=True,
            env_var=f"{variables}CONFIG",
            metavar="FILE",
            help="YAML file with flags, as `flag: value`",
        )
        self.add_argument(
            "--version", action=_VersionAction, help="print the version, with its commit, and exit"
        )
        if command is None:
            width = max(map(len, commands))
            lines = "\n".join(f"{name:{width}}  {line}" for name, line in commands.items())
            self.add_argument_group("commands, which stand before the flags", lines)

    def unknown_variables(self, *others: str) -> list[str]:
        """Return a warning in one line for each variable that looks like this program's and sets nothing.

        Args:
            others: the variables that the program reads besides those of its flags.
        """
        flags = [flag for action in self._settable() for flag in action.option_strings]
        names = [f"{self._variables}{flag.lstrip('-').replace('-', '_').upper()}" for flag in flags]
        known = {*names, f"{self._variables}CONFIG", *others}
        return unknown_variables(self._program, self._variables, known)

    def _remark(self, word: str) -> str:
        if word in self._commands:
            return f": {word} is a command, which stands before the flags"
        return super()._remark(word)

    def _file_keys(self) -> list[str]:
        return [key for action in self._settable() for key in self.get_possible_config_keys(action)]

    def _settable(self) -> list[argparse.Action]:
        """Return the flags that a file and the environment may set."""
        return [action for action in self._actions if action.dest not in NOT_SETTABLE]


class RefusingParser(FlagParser):
    """A parser of flags that come from neither the environment nor a file, and whose errors are raised."""

    def error(self, message: str) -> NoReturn:
        """Refuse an argument.

        Raises:
            RefusedArgumentError: always.
        """
        raise RefusedArgumentError(_shown(message))

    @property
    def flags(self) -> list[str]:
        """Every flag, with its two dashes."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def flags_of_group(self, title: str) -> list[str]:
        """Return the flags of the group that `--help` lists under this title."""
        return [
            flag
            for group in self._action_groups
            if group.title == title
            for action in group._group_actions
            for flag in action.option_strings
        ]

    def is_switch(self, flag: str) -> bool:
        """Return whether a flag takes no value."""
        return bool(self._option_string_actions[flag].nargs == 0)

    def _environment(self) -> dict[str, str]:
        return {}


def _shown(message: str) -> str:
    return shortened(one_line(message), MOST_SHOWN_BYTES)
