"""An HTTP error in answer to a request → what the load does with it."""

from __future__ import annotations

from http import HTTPStatus

from mmlu_client.errors import RunError
from mmlu_client.service.address import Address
from mmlu_client.service.http.endpoint import HttpAnswer
from mmlu_client.service.messages import Refusal

# By gRPC's names, which records have.
CODES: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "OUT_OF_RANGE",
    HTTPStatus.UNPROCESSABLE_ENTITY: "INVALID_ARGUMENT",
    HTTPStatus.TOO_MANY_REQUESTS: "RESOURCE_EXHAUSTED",
    HTTPStatus.BAD_GATEWAY: "UNAVAILABLE",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}
# Any other request would be refused as well.
FINAL = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def raise_if_refused(answer: HttpAnswer, address: Address) -> None:
    """Check that a server takes the client's key, before the load begins.

    Args:
        answer: of the server, to whatever it was asked.
        address: of the server.

    Raises:
        RunError: it refuses the client.
    """
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise RunError(f"{address} refuses the client: {answer.message}; name its key with --api-key-file")


def refused(id: str, answer: HttpAnswer, address: Address) -> Refusal:
    """Return the refusal of a request.

    Args:
        id: the request's.
        answer: an error.
        address: of the server.

    Raises:
        RunError: every request would be refused.
    """
    if answer.status in FINAL:
        raise RunError(f"{address} refuses the client: {answer.message}")
    return Refusal(id, CODES.get(answer.status, "INTERNAL"), answer.message, answer.retry_after)
