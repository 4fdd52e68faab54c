"""`--model-config`: what the config.json of the served model says that its server does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trt_common.model.errors import ConfigError
from trt_common.model.flops import text_flops
from trt_common.model.geometry import Geometry, read_geometry

from mmlu_client.data.model_folder import model_folder
from mmlu_client.errors import InputError

FILE = "config.json"


class FlopsOf(Protocol):
    """Computes what a row of tokens takes."""

    def __call__(self, token_ids: Sequence[int], cached: int, scored_positions: int) -> int:
        """Return floating-point operations.

        Args:
            token_ids: of the row.
            cached: how many of its first tokens were not computed.
            scored_positions: in how many positions the head ran.
        """
        ...


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of the served model.

    Attributes:
        geometry: as its config.json has them.
    """

    geometry: Geometry

    @property
    def architecture(self) -> str:
        """The model_type."""
        return self.geometry.family

    @property
    def parameters(self) -> int:
        """How many weights the model has."""
        return self.geometry.total_parameters

    @property
    def vocabulary_size(self) -> int:
        """How many token ids the model has."""
        return self.geometry.vocabulary_size

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt after which a token can be generated."""
        return self.geometry.max_positions - 1

    def flops(self, token_ids: Sequence[int], cached: int, scored_positions: int) -> int:
        """Return the floating-point operations of a row. See `FlopsOf`."""
        tokens = len(token_ids)
        return text_flops(self.geometry, [(min(cached, tokens), tokens)], scored_positions)


def read_model_config(source: str) -> ModelConfig:
    """Read the config.json of the folder or the hub's repository that `--model-config` names.

    Raises:
        InputError: there is none, or it is of a model whose FLOPs cannot be counted.
    """
    path = model_folder(source, "--model-config", (FILE,)) / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--model-config {source}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"--model-config {source}: {path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"--model-config {source}: {path} is no object")
    try:
        return ModelConfig(read_geometry(found))
    except ConfigError as error:
        raise InputError(f"--model-config {source}: {error}") from None
