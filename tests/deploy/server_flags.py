"""What of the environment trt-server reads."""

from __future__ import annotations

import re

from trt_server.command_line import parser


def environment_names() -> set[str]:
    """TRT_SERVER_<FLAG> of every flag in its help."""
    flags = re.findall(r"--([a-z][a-z0-9-]*)", parser().format_help())
    return {f"TRT_SERVER_{flag.replace('-', '_').upper()}" for flag in flags}
