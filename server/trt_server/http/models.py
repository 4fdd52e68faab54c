"""The list of models, which has the one that is served, and the check of a request's model."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from trt_server.http.errors import RequestError
from trt_server.loading.served_model import ServedModel


def model_card(served: ServedModel, created: int) -> dict[str, Any]:
    """Return what /v1/models tells of the model.

    Args:
        served: The model.
        created: When the server started, in seconds since 1970.
    """
    return {
        "id": served.id,
        "object": "model",
        "created": created,
        "owned_by": "trt-server",
        "root": served.id,
        "parent": None,
        "max_model_len": served.limits.max_prompt_tokens,
    }


def check_model(served: ServedModel, name: str | None) -> None:
    """Check that a request names the served model, or none.

    Raises:
        RequestError: It names another.
    """
    if name and name != served.id:
        raise RequestError(
            f"the model {name!r} does not exist here: this server has {served.id!r}",
            "model",
            status=HTTPStatus.NOT_FOUND,
            code="model_not_found",
        )
