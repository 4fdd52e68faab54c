"""Generates scoring_pb2.py, its stub and scoring_pb2_grpc.py from scoring.proto.

python protos/generate.py
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PROTOS = Path(__file__).parent


def googleapis_folder() -> Path:
    """Return the folder that google/rpc/status.proto is found from.

    Raises:
        SystemExit: googleapis-common-protos is not installed.
    """
    spec = find_spec("google.rpc.status_pb2")
    if spec is None or spec.origin is None:
        raise SystemExit("googleapis-common-protos is missing: it is a build requirement in pyproject.toml")
    return Path(spec.origin).parents[2]


def generate() -> None:
    """Run protoc.

    Raises:
        SystemExit: protoc failed.
    """
    from grpc_tools import protoc

    includes = [PROTOS, Path(protoc.__file__).parent / "_proto", googleapis_folder()]
    arguments = [f"-I{include}" for include in includes]
    arguments += [f"--{kind}_out={PROTOS}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", *arguments, "scoring/v1/scoring.proto"]) != 0:
        raise SystemExit("protoc failed on protos/scoring/v1/scoring.proto")


if __name__ == "__main__":
    generate()
