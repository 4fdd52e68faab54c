"""The parser of both programs: flags from the command line, a config file and the environment."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

import configargparse

from trt_common.command_line.config_file import ConfigFile, open_config
from trt_common.command_line.environment import set_variables


class OneLineParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Says what is wrong in one line, without the usage text before it. An empty variable is one not set."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        return super().parse_known_args(*arguments, **{**options, "env_vars": set_variables()})

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names a flag's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or isinstance(action.default, list):
            return action.help
        return super()._get_help_string(action)


def flag_parser(program: str, variables: str, **texts: Any) -> OneLineParser:
    """A parser whose flags may also stand in a YAML file, `--config`, and in the environment.

    Args:
        program: what messages call the program.
        variables: what the environment's variables begin with, as `TRT_SERVER_`.
        texts: `description`, `epilog`, `usage`.
    """
    parser = OneLineParser(
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
    parser.add_argument(
        "--config",
        is_config_file=True,
        env_var=f"{variables}CONFIG",
        metavar="FILE",
        help="YAML file with flags, as `flag: value`",
    )
    return parser
