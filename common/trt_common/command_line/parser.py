"""The parser of both programs: flags from the command line, a config file and the environment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import configargparse

from trt_common.command_line.config_file import ConfigFile, open_config
from trt_common.command_line.environment import set_variables, unknown_variables
from trt_common.command_line.nearest import suggestion
from trt_common.one_line import one_line

# They belong to the command line.
NOT_SETTABLE = ("config", "help", "version")


class OneLineParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Says what is wrong in one line, without the usage text before it. An empty variable is one not set."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        return super().parse_known_args(*arguments, **{**options, "env_vars": set_variables()})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Exits with status 2 and one line where an argument is wrong."""
        chosen, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            nearest = suggestion(unknown[0].partition("=")[0], flags, "--")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{nearest}")
        return chosen

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names a flag's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or isinstance(action.default, list):
            return action.help
        return super()._get_help_string(action)


class FlagParser(OneLineParser):
    """Its flags may also stand in a YAML file, `--config`, and in the environment.

    Args:
        program: what messages call the program.
        variables: what the environment's variables begin with, as `TRT_SERVER_`.
        texts: `description`, `epilog`, `usage`.
    """

    def __init__(self, program: str, variables: str, **texts: Any) -> None:
        super().__init__(
            prog=program,
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
        self._variables = variables
        self.add_argument(
            "--config",
            is_config_file=True,
            env_var=f"{variables}CONFIG",
            metavar="FILE",
            help="YAML file with flags, as `flag: value`",
        )

    def unknown_variables(self, *others: str) -> list[str]:
        """A line on each variable of the environment that looks like this program's and sets nothing.

        Args:
            others: variables besides those of flags that the program reads.
        """
        flags = [flag for action in self._settable() for flag in action.option_strings]
        names = [f"{self._variables}{flag.lstrip('-').replace('-', '_').upper()}" for flag in flags]
        known = {*names, f"{self._variables}CONFIG", *others}
        return unknown_variables(self.prog, self._variables, known)

    def _file_keys(self) -> list[str]:
        return [key for action in self._settable() for key in self.get_possible_config_keys(action)]

    def _settable(self) -> list[argparse.Action]:
        """The flags that a file and the environment may set."""
        return [action for action in self._actions if action.dest not in NOT_SETTABLE]
