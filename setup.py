"""Generates the protobuf modules when the package is built; everything else is in pyproject.toml."""

from importlib.util import find_spec
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def googleapis_folder() -> Path:
    """The folder that google/rpc/status.proto lies under."""
    spec = find_spec("google.rpc.status_pb2")
    if spec is None or spec.origin is None:
        raise SystemExit("googleapis-common-protos is missing: it is a build requirement in pyproject.toml")
    return Path(spec.origin).parents[2]


def generate_protos() -> None:
    """Write scoring_pb2.py, its stub and scoring_pb2_grpc.py beside scoring.proto."""
    from grpc_tools import protoc

    includes = [ROOT / "protos", Path(protoc.__file__).parent / "_proto", googleapis_folder()]
    out = ROOT / "protos"
    arguments = [f"-I{include}" for include in includes]
    arguments += [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", *arguments, "scoring/v1/scoring.proto"]) != 0:
        raise SystemExit("protoc failed on protos/scoring/v1/scoring.proto")


class BuildWithProtos(build_py):
    def run(self) -> None:
        generate_protos()
        super().run()


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithProtos})
