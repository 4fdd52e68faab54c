"""What servers are shown of this client, a token and a certificate, and whose certificates it trusts."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

import trt_common.quiet_grpc  # noqa: F401

# isort: split
import grpc
from trt_common.access.reread import Reread
from trt_common.access.token import AUTHORIZATION, TokenFileError, authorization, read_tokens
from trt_common.one_line import one_line
from trt_common.small_file import read_small_file

from mmlu_client.errors import InputError
from mmlu_client.service.address import Address
from mmlu_client.service.proxy import is_this_machine

Metadata = tuple[tuple[str, str], ...]


class Access:
    """The same for every server of a run.

    Attributes:
        authorities: PEM certificates to trust instead of the system's; None: the system's.
        certificate: the client's, in PEM, for servers that ask for one.
        token_file: its first token is sent with each call; read again when it changes.
    """

    def __init__(
        self,
        authorities: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        token_file: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
        token_flag: str = "--token-file",
    ) -> None:
        """Read the token.

        Args:
            authorities: as the attribute.
            certificate: as the attribute.
            key: the certificate's private key, in PEM, without a password.
            token_file: as the attribute.
            say: prints a line for the person.
            token_flag: the flag that named the file of tokens, for messages.

        Raises:
            InputError: the file of tokens cannot be read, or holds none.
        """
        self.authorities = authorities
        self.certificate = certificate
        self.token_file = token_file
        self._key = key
        self._say = say
        self._token_flag = token_flag
        self._metadata: Reread[Metadata] | None = None
        if token_file is not None:
            try:
                self._metadata = Reread([token_file], lambda: _metadata(token_file), self._on_change)
            except (OSError, TokenFileError) as error:
                raise InputError(self._trouble(error, token_file)) from None

    @property
    def metadata(self) -> Metadata:
        """What goes with each call, as gRPC takes it."""
        return () if self._metadata is None else self._metadata.now

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel over TLS is made with, read from the files now.

        Raises:
            InputError: one of the files cannot be read or used.
        """
        # gRPC would not say what is wrong with them.
        self.tls_context()
        try:
            authorities, key, certificate = (
                None if path is None else read_small_file(path, takes_pipes=False)
                for path in (self.authorities, self._key, self.certificate)
            )
        except OSError as error:
            raise InputError(f"cannot read {error.filename}: {error.strerror}") from None
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def tls_context(self) -> ssl.SSLContext:
        """Return TLS as Python speaks it, with the same files.

        Raises:
            InputError: one of the files cannot be read or used.
        """
        try:
            if self.authorities is not None:
                # OpenSSL would wait for a pipe, and read a device without end.
                read_small_file(self.authorities, takes_pipes=False)
            context = ssl.create_default_context(cafile=self.authorities)
        except ssl.SSLError:
            raise InputError(f"--tls-ca {self.authorities} holds no certificate in PEM form") from None
        except OSError as error:
            raise InputError(f"cannot read --tls-ca {self.authorities}: {error.strerror}") from None
        if self.certificate is not None and self._key is not None:
            self._show_certificate(context, self.certificate, self._key)
        return context

    def _show_certificate(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        try:
            # ssl does not say which of them it cannot read.
            for path in (certificate, key):
                read_small_file(path, takes_pipes=False)
            # No password: nobody is asked for one in the middle of a run.
            context.load_cert_chain(certificate, key, password="")
        except ssl.SSLError as error:
            raise InputError(
                f"--tls-cert {certificate} and --tls-key {key} are not a certificate and its key, in PEM and "
                f"without a password: {error.reason or one_line(error)}"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot read {error.filename}: {error.strerror}; check --tls-cert and --tls-key"
            ) from None

    def _on_change(self, error: Exception | None) -> None:
        if error is not None and self.token_file is not None:
            self._say(f"{self._trouble(error, self.token_file)}; the token that it held before is still sent")

    def _trouble(self, error: Exception, token_file: Path) -> str:
        if isinstance(error, OSError):
            return f"cannot read {self._token_flag} {token_file}: {error.strerror}"
        return f"{self._token_flag} {error}"


async def in_plain_text(addresses: Iterable[Address]) -> list[str]:
    """Return the addresses whose servers are on other machines and are spoken to without TLS."""
    return [str(each) for each in addresses if not each.tls and not await is_this_machine(each)]


def _metadata(token_file: Path) -> Metadata:
    return ((AUTHORIZATION, authorization(read_tokens(token_file)[0])),)
