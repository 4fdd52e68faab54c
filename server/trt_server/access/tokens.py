"""The tokens that let a caller in, as `--token-file` holds them at present."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from trt_common.access.reread import Reread
from trt_common.access.token import AUTHORIZATION, TokenFileError, read_tokens, token_of
from trt_common.one_line import cannot_read

from trt_server.errors import NotAdmittedError, StartError

log = logging.getLogger(__name__)


class Tokens:
    """The tokens in a file, any of which lets a caller in; a change counts from the next call on."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            StartError: It cannot be read, or holds no tokens.
        """
        self._path = path
        try:
            self._digests = Reread([path], self._read, self._on_change)
        except OSError as error:
            raise StartError(f"{cannot_read(error)}; check --token-file") from None
        except TokenFileError as error:
            raise StartError(f"--token-file {error}") from None

    def check(self, header: str | None) -> None:
        """Let a caller in, or not.

        Args:
            header: The value of `authorization` that it has sent; None: it has sent none.

        Raises:
            NotAdmittedError: It has no token, or one that is not in the file.
        """
        token = None if header is None else token_of(header)
        if token is None:
            raise NotAdmittedError(f"this server asks for a token: send `{AUTHORIZATION}: Bearer TOKEN`")
        if not self._holds(token):
            raise NotAdmittedError("this server does not know the token")

    def _holds(self, token: str) -> bool:
        """Return whether the file holds a token, in a time that does not tell how much of it is right."""
        digest = _digest(token)
        # All are compared, so that the time does not tell either which one it was.
        return sum(hmac.compare_digest(digest, known) for known in self._digests.now) > 0

    def _read(self) -> tuple[bytes, ...]:
        return tuple(map(_digest, read_tokens(self._path)))

    def _on_change(self, error: Exception | None) -> None:
        if error is None:
            log.info("the tokens in %s were read again", self._path)
            return
        reason = cannot_read(error) if isinstance(error, OSError) else str(error)
        log.error("%s; the tokens that it held before count until it is changed again", reason)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
