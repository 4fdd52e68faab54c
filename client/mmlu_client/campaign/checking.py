"""Whether trt-server would start with a setting's flags, as it says itself."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trt_common.installed_program import program
from trt_common.one_line import one_line

from mmlu_client.campaign.cell import ServerSetting
from mmlu_client.campaign.file.errors import CampaignFileError
from mmlu_client.campaign.local.child import own_environment

# Checks that run at the same time.
AT_ONCE = 4
PREFIX = re.compile(r"trt-server( check)?: error: ")


def refusals(settings: Iterable[ServerSetting]) -> list[tuple[ServerSetting, str]]:
    """Return the settings that trt-server refuses on this machine, each with its reason in one line."""
    settings = list(settings)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(refusal, settings)
        return [(setting, why) for setting, why in zip(settings, found, strict=True) if why is not None]


def refusal(setting: ServerSetting) -> str | None:
    """Return why trt-server would not start with these flags on this machine; None: it would."""
    command = [program("trt-server"), "check", *setting.words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=own_environment()
        )
    except OSError as error:
        return f"cannot run trt-server: {error.strerror}"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"trt-server check ended with status {done.returncode}"]
    return one_line(PREFIX.sub("", lines[-1]))


def raise_first(path: Path, found: Iterable[tuple[ServerSetting, str]]) -> None:
    """Refuse a campaign's file because of its first setting that cannot be started.

    Raises:
        CampaignFileError: there is one.
    """
    for setting, why in found:
        raise CampaignFileError(path, setting.line_of(why), f"server {setting.name}: {why}")
