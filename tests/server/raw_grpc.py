"""gRPC calls frame by frame, as no well-behaved client makes them: half a message, and nothing after it."""

from __future__ import annotations

import socket
import struct

from processes import ServerProcess

DEADLINE_SECONDS = 60.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
MAX_FRAME = 16384


class RawConnection:
    """One HTTP/2 connection, with calls that are begun one after the other."""

    def __init__(self, server: ServerProcess) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.ports["grpc_port"]))
        self._socket.settimeout(DEADLINE_SECONDS)
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        self._next_stream = 1

    def begin(self, path: str) -> int:
        """The headers of a call of this method; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._socket.sendall(frame(HEADERS, END_HEADERS, stream, _headers(path)))
        return stream

    def send(self, stream: int, content: bytes) -> None:
        """Bytes of the call's body, within the stream's first window."""
        assert len(content) < 65535
        for start in range(0, len(content), MAX_FRAME):
            self._socket.sendall(frame(DATA, 0, stream, content[start : start + MAX_FRAME]))

    def until_end(self, stream: int) -> bytes:
        """What the call's headers and trailers are, in HPACK, once the server has ended it."""
        found = b""
        while True:
            size, kind, flags, number = _frame_head(self._read(9))
            content = self._read(size)
            if kind == PING and not flags & ACK:
                self._socket.sendall(frame(PING, ACK, 0, content))
            if kind == SETTINGS and not flags & ACK:
                self._socket.sendall(frame(SETTINGS, ACK, 0, b""))
            if kind == GOAWAY:
                raise AssertionError(f"the server ended the connection: {content!r}")
            if number == stream and kind == HEADERS:
                found += content
            if number == stream and (kind == RST_STREAM or flags & END_STREAM):
                return found

    def until_closed(self) -> None:
        """Return when the server has closed the connection, none of whose pings is answered."""
        while head := self._socket.recv(9, socket.MSG_WAITALL):
            size, kind, flags, _ = _frame_head(head)
            self._read(size)
            if kind == SETTINGS and not flags & ACK:
                self._socket.sendall(frame(SETTINGS, ACK, 0, b""))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._socket.recv(size - len(found))
            assert part, "the server closed the connection"
            found += part
        return found


def message_head(size: int) -> bytes:
    """What comes before an uncompressed message of this size."""
    return struct.pack(">BI", 0, size)


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def _frame_head(content: bytes) -> tuple[int, int, int, int]:
    (size,) = struct.unpack(">I", b"\0" + content[:3])
    (stream,) = struct.unpack(">I", content[5:])
    return size, content[3], content[4], stream & 0x7FFFFFFF


def _headers(path: str) -> bytes:
    """HPACK without compression: static names where there are some."""
    return b"".join((
        b"\x83\x86",  # POST, http
        b"\x04" + _text(path),
        b"\x01" + _text("localhost"),
        b"\x0f\x10" + _text("application/grpc"),
        b"\x00" + _text("te") + _text("trailers"),
    ))  # fmt: skip


def _text(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()
