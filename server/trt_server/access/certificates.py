"""The certificate that the server shows, and those that it asks its callers for, as their files hold them."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import grpc
from cryptography import x509
from trt_common.access.reread import Reread
from trt_common.one_line import cannot_read, one_line
from trt_common.small_file import read_small_file

from trt_server.errors import StartError

log = logging.getLogger(__name__)

# What a certificate is for.
SERVER, CLIENTS = "server", "clients"


class CertificateError(ValueError):
    """The files cannot be used. The text is one line."""


@dataclass(frozen=True)
class _Loaded:
    """What the files held when they were read.

    Attributes:
        context: TLS as asyncio speaks it.
        configuration: The same for gRPC.
        expiries: By what certificates are for, SERVER or CLIENTS: when the first of them expires, in seconds
            since 1970.
    """

    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration
    expiries: Mapping[str, float]


class Certificates:
    """The server's certificate and key, and the authorities of its callers.

    A change of the files counts from the next connection on.

    Attributes:
        asks_for_one: Whether a caller has to show a certificate.
    """

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None = None) -> None:
        """Read the files.

        Args:
            certificate: The server's, in PEM, and behind it those of the authorities below the root.
            key: Its private key, in PEM, without a password.
            client_authorities: Authorities, in PEM, one of which has to have signed a caller's certificate;
                None: a caller needs none.

        Raises:
            StartError: They cannot be read, or not be used.
        """
        self._certificate, self._key, self._client_authorities = certificate, key, client_authorities
        self.asks_for_one = client_authorities is not None
        paths = [path for path in (certificate, key, client_authorities) if path is not None]
        try:
            self._loaded = Reread(paths, self._read, self._on_change)
        except OSError as error:
            flag = (
                "--tls-client-ca"
                if str(error.filename) == str(client_authorities)
                else "--tls-cert and --tls-key"
            )
            raise StartError(f"{cannot_read(error)}; check {flag}") from None
        except CertificateError as error:
            raise StartError(str(error)) from None

    @property
    def context(self) -> ssl.SSLContext:
        """TLS for the next connection of asyncio."""
        return self._loaded.now.context

    @property
    def expiries(self) -> Mapping[str, float]:
        """When certificates expire, in seconds since 1970.

        Under SERVER it is the first of the server's chain, and under CLIENTS the first of its callers'
        authorities, where they are asked for.
        """
        return self._loaded.now.expiries

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask for the files as they are at each new connection."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded.now.configuration,
            lambda: self._loaded.now.configuration,
            require_client_authentication=self.asks_for_one,
        )

    def _read(self) -> _Loaded:
        key, chain = _content(self._key), _content(self._certificate)
        authorities = None if self._client_authorities is None else _content(self._client_authorities)
        context = self._context()
        own = _parsed(chain, self._certificate, "--tls-cert")
        clients = (
            [] if authorities is None else _parsed(authorities, self._client_authorities, "--tls-client-ca")
        )
        for flaw in [*_flaws(own, self._certificate), *_flaws(clients, self._client_authorities)]:
            log.error(flaw)
        return _Loaded(
            context,
            grpc.ssl_server_certificate_configuration([(key, chain)], authorities),
            {name: _first_expiry(each) for name, each in ((SERVER, own), (CLIENTS, clients)) if each},
        )

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # No password: nobody is there to be asked for one.
            context.load_cert_chain(self._certificate, self._key, password="")
        except ssl.SSLError as error:
            raise CertificateError(
                f"--tls-cert {self._certificate} and --tls-key {self._key} are not a certificate and its "
                f"key, in PEM and without a password: {error.reason or one_line(error)}"
            ) from None
        if self._client_authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self._client_authorities)
            except ssl.SSLError as error:
                raise CertificateError(
                    f"--tls-client-ca {self._client_authorities} holds no certificates in PEM: "
                    f"{error.reason or one_line(error)}"
                ) from None
        return context

    def _on_change(self, error: Exception | None) -> None:
        if error is None:
            log.info("the certificates were read again: new connections get %s", self._certificate)
            return
        reason = cannot_read(error) if isinstance(error, OSError) else one_line(error)
        log.error("%s; the certificates that were read before count until they are changed again", reason)


def _content(path: Path) -> bytes:
    # OpenSSL reads it once more by its path.
    return read_small_file(path, takes_pipes=False)


def _parsed(content: bytes, path: Path | None, flag: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise CertificateError(f"{flag} {path} holds no certificates in PEM: {one_line(error)}") from None


def _first_expiry(certificates: list[x509.Certificate]) -> float:
    return min(each.not_valid_after_utc for each in certificates).timestamp()


def _flaws(certificates: list[x509.Certificate], path: Path | None) -> list[str]:
    """Return a line for each certificate that is not valid now."""
    now = datetime.now(timezone.utc)
    found = []
    for certificate in certificates:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if last < now:
            what = f"expired on {_day(last)}"
        elif first > now:
            what = f"is not valid before {_day(first)}"
        else:
            continue
        found.append(
            f"the certificate of {certificate.subject.rfc4514_string() or 'no name'} in {path} {what}: "
            "connections that need it fail until another is there, which is read without a restart"
        )
    return found


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
