"""The commands of both programs: how they are told apart, and their own help."""

from __future__ import annotations

import os
import re

import pytest
from processes import FREE_PORTS, run_program

COMMANDS = {
    "trt-server": ("serve", "build", "check", "cache"),
    "mmlu-client": ("run", "report", "compare", "campaign"),
}
EACH = [(program, command) for program, commands in COMMANDS.items() for command in commands]


def flags_in(text: str) -> list[str]:
    """The flags of a help text that have a line of their own, in its order."""
    return re.findall(r"^  (--[a-z0-9-]+)", text, re.MULTILINE)


@pytest.mark.parametrize("program", COMMANDS)
def test_help_has_a_line_on_each_command(program: str) -> None:
    done = run_program(program, "--help", env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {program} [{' | '.join(COMMANDS[program])}] [flags]\n")
    for command in COMMANDS[program]:
        assert len(re.findall(rf"^  {command} +\w.*$", done.stdout, re.MULTILINE)) == 1
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(("program", "command"), EACH)
def test_each_command_has_its_own_help(program: str, command: str) -> None:
    done = run_program(program, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {program} {command} ")
    assert "commands, which" not in done.stdout


@pytest.mark.parametrize(("program", "command"), [("trt-server", "serve"), ("mmlu-client", "run")])
def test_the_command_that_need_not_be_named_takes_the_same_flags(program: str, command: str) -> None:
    without, named = (run_program(program, *words, "--help").stdout for words in ((), (command,)))
    assert len(flags_in(named)) > 20
    assert flags_in(named) == flags_in(without)


@pytest.mark.parametrize(("program", "command"), EACH)
def test_a_misspelt_command_names_the_nearest(program: str, command: str) -> None:
    wrong = command[:-2] + command[-1] + command[-2]
    done = run_program(program, wrong, "--limit", "3")
    assert done.returncode == 2
    assert done.stderr == (
        f"{program}: error: {wrong!r} is none of the commands {', '.join(COMMANDS[program])}: "
        f"did you mean {command}? (see {program} --help)\n"
    )


@pytest.mark.parametrize(
    ("program", "words", "command"),
    [
        ("trt-server", ["--model", "demo", "build"], "build"),
        ("mmlu-client", ["--bs", "2", "report", "results"], "report"),
        ("mmlu-client", ["run", "--bs", "2", "compare"], "compare"),
    ],
)
def test_a_command_behind_flags_is_told_where_to_stand(program: str, words: list[str], command: str) -> None:
    done = run_program(program, *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f": {command} is a command, which stands before the flags" in done.stderr


@pytest.mark.parametrize("words", [[], ["serve"], ["build"]])
def test_a_server_takes_flags_with_and_without_a_command(words: list[str]) -> None:
    done = run_program("trt-server", *words, *FREE_PORTS, "--log-level", "error", "--model", "/nowhere/model")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "/nowhere/model" in done.stderr


@pytest.mark.parametrize("words", [[], ["run"]])
def test_a_client_takes_flags_with_and_without_a_command(words: list[str]) -> None:
    done = run_program("mmlu-client", *words, "--data", "/nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("mmlu-client: error: --data /nowhere: no such folder")


@pytest.mark.parametrize(("command", "folders"), [("report", ["/nowhere"]), ("compare", ["/nowhere", "/a"])])
def test_the_flags_of_a_run_are_not_those_of_other_commands(command: str, folders: list[str]) -> None:
    """Nor are the variables that set them: a wrong one is no matter of theirs."""
    refused = run_program("mmlu-client", command, *folders, "--bs", "2")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"mmlu-client {command}: error: unrecognized arguments: --bs 2")
    done = run_program("mmlu-client", command, *folders, env={**os.environ, "MMLU_CLIENT_BS": "none"})
    assert "/nowhere holds no run" in done.stderr
