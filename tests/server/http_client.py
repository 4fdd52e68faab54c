"""Plain HTTP, as any caller of OpenAI's endpoints would write it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processes import ServerProcess

DEADLINE_SECONDS = 60


@dataclass(frozen=True)
class Reply:
    """What came back; `content` is its JSON, None where the body is empty."""

    status: int
    headers: Mapping[str, str]
    content: Any

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which has all four of its keys."""
        error = dict(self.content["error"])
        assert error.keys() == {"message", "type", "param", "code"}
        return error


def ask(
    server: ServerProcess,
    path: str,
    fields: Mapping[str, Any] | bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """GET, or POST of `fields`."""
    body = fields if fields is None or isinstance(fields, bytes) else json.dumps(fields).encode()
    content_type = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(server.http + path, body, {**content_type, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            return _reply(response)
    except urllib.error.HTTPError as error:
        return _reply(error)


def complete(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    """The reply to a request for completions that has to succeed."""
    reply = ask(server, "/v1/completions", {"temperature": 0, "max_tokens": 1, **fields})
    assert reply.status == 200, reply.content
    return dict(reply.content)


def choice(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    """The only choice of such a reply."""
    (found,) = complete(server, **fields)["choices"]
    return dict(found)


def _reply(response: Any) -> Reply:
    content = response.read()
    return Reply(response.status, dict(response.headers), json.loads(content) if content else None)
