"""Authorities, and certificates in files as operators have them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> tuple[bytes, bytes]:
        """Key and certificate, as gRPC takes them."""
        return self.key.read_bytes(), self.certificate.read_bytes()


class Authority:
    """An authority whose certificate lies in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    @property
    def pem(self) -> bytes:
        return self.file.read_bytes()

    def issue(self, name: str, *identities: str, until: datetime | None = None) -> Pair:
        """A certificate for these names, in `name.pem` and `name.key`; those of that name are replaced."""
        issued = self._ca.issue_cert(*(identities or ("localhost", "127.0.0.1")), not_after=until)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        replace(pair.key, issued.private_key_pem.bytes())
        replace(pair.certificate, b"".join(each.bytes() for each in issued.cert_chain_pems))
        return pair


def replace(path: Path, content: bytes) -> None:
    """Put another file in a file's place, at once."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
