"""`trt-server check`: what a start would do, without loading the model."""

from __future__ import annotations

from trt_server.access.access import read_access
from trt_server.engines.choice import choose_engine, choose_reference
from trt_server.engines.chosen import EngineChoice
from trt_server.loading.opened_model import look_at_model
from trt_server.model.outline import ModelOutline
from trt_server.settings import Settings


def check(settings: Settings) -> str:
    """Check a start: its files, engine and devices, its model, and the memory and disk that it needs.

    Nothing is converted, built or made, no port is opened, and of a model on the hub no weights are
    downloaded. What is found only as the engine loads the weights stays unknown.

    Returns:
        A line that says what would be started.

    Raises:
        StartError: The start would fail.
    """
    read_access(settings)
    choice, reference = choose_engine(settings), choose_reference(settings)
    choice.check_machine()
    return _line(look_at_model(settings, choice, reference), choice, reference)


def _line(model: ModelOutline, choice: EngineChoice, reference: EngineChoice | None) -> str:
    line = (
        f"{model.model_id}: {model.architecture}, {model.geometry.total_parameters:,} parameters, "
        f"{_engine(choice)}"
    )
    if reference is not None:
        line += f"; reference {_engine(reference)}"
    return f"{line}; {model.missing}" if model.missing else line


def _engine(choice: EngineChoice) -> str:
    devices = ", ".join(device.label for device in choice.devices)
    return f"{choice.name} in {choice.precision} on {devices}"
