"""Bearer tokens as files and the header `authorization` hold them (RFC 6750)."""

from __future__ import annotations

import re
from pathlib import Path

from trt_common.small_file import read_small_file

# The header, and gRPC's metadata, whose keys are in small letters.
AUTHORIZATION = "authorization"
SCHEME = "Bearer"
# RFC 6750's b64token.
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenFileError(ValueError):
    """A file holds no tokens. The text is one line, without the file's content."""


def read_tokens(path: Path) -> tuple[str, ...]:
    """Read the tokens in a file: one a line, of which empty lines are no part.

    Raises:
        OSError: It cannot be read.
        TokenFileError: It holds none, or a line is no token.
    """
    try:
        lines = read_small_file(path).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise TokenFileError(f"{path} holds what is no token: letters, digits and -._~+/ alone are") from None
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise TokenFileError(f"{path} holds no token: write one a line")
    for number, token in enumerate(tokens, 1):
        if not TOKEN.fullmatch(token):
            raise TokenFileError(
                f"{path}: entry {number} is no token: letters, digits and -._~+/ alone are, without blanks"
            )
    return tokens


def authorization(token: str) -> str:
    """Return the header's value for a token."""
    return f"{SCHEME} {token}"


def token_of(value: str) -> str | None:
    """Return the token in the header's value; None where there is none."""
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == SCHEME.lower() else None
