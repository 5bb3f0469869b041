"""Bodies of answers: unzipped as they come, and never more than Convex can answer."""

from __future__ import annotations

import zlib
from typing import Protocol

__all__ = ["MAX_BODY", "Body", "TooLarge", "Unreadable"]

MAX_BODY = 7 * (16 << 20) + (1 << 20)
"""Bytes of an answer that are read.

A function's result is at most 16 MiB of values (Convex limit). As JSON no value takes more than seven bytes for each of its
own: empty bytes, of 2, are `{"$bytes":""},`, a control character in a string is `\\u0001` for 1, `false,` is for 1, an
int64 of 9 is 28. What stands around the result, log lines included, has a mebibyte.
"""
_STEP = 1 << 20
"""Bytes unzipped at once."""
_MAX_MEMBERS = 10_000
"""Members of one gzip: those who send many have 64 KiB in each, and of empty ones there is no end."""


class Unreadable(Exception):
    """The body is cut, badly zipped, or in an encoding that was not asked for."""


class TooLarge(Exception):
    """The body is larger than any answer of Convex."""


class _Decoder(Protocol):
    def decode(self, data: bytes, most: int) -> bytes:
        """What the data decodes to, at most so many bytes; the rest of it comes when called with nothing."""
        ...

    def whole(self) -> bool: ...


class _Plain:
    def decode(self, data: bytes, most: int) -> bytes:
        return data

    def whole(self) -> bool:
        return True  # HTTP itself says whether it is


class _Gzip:
    """Members, one behind the other. What follows them and is none, such as padding, is passed over."""

    _WINDOW = 16 + zlib.MAX_WBITS
    _MAGIC = b"\x1f\x8b"

    def __init__(self) -> None:
        self._member = zlib.decompressobj(self._WINDOW)
        self._members = 1
        self._rest = b""
        self._ended = False

    def decode(self, data: bytes, most: int) -> bytes:
        self._rest += data
        while not self._ended:
            if self._member.eof:
                if len(self._rest) < len(self._MAGIC) and self._MAGIC.startswith(self._rest):
                    break  # nothing, or the beginning of another member
                self._ended = not self._rest.startswith(self._MAGIC)
                if self._ended:
                    break
                self._member = zlib.decompressobj(self._WINDOW)
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise Unreadable
            part = self._member.decompress(self._rest, most)
            self._rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if part or not self._member.eof:
                return part
        if self._ended:
            self._rest = b""
        return b""

    def whole(self) -> bool:
        return self._member.eof


class _Deflate:
    """The zlib format, which the name means, or the bare one, which some send for it."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._head = b""
        self._decided = False

    def decode(self, data: bytes, most: int) -> bytes:
        if not self._decided:
            self._head += data
            if len(self._head) < 2:
                return b""
            first, second = self._head[:2]
            if first & 0x0F != 8 or (first << 8 | second) % 31:  # no header of zlib's (RFC 1950)
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            data, self._head, self._decided = self._head, b"", True
        if self._stream.eof:
            return b""
        return self._stream.decompress(self._stream.unconsumed_tail + data, most)

    def whole(self) -> bool:
        return self._stream.eof


_DECODERS: dict[str, type[_Decoder]] = {
    "": _Plain,
    "identity": _Plain,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
}
ENCODINGS = b"gzip, deflate"
"""Those that are asked for."""


class Body:
    """The body of one answer. Raises Unreadable and TooLarge as soon as it is known to be so."""

    def __init__(self, encoding: str) -> None:
        decoder = _DECODERS.get(encoding.strip().lower())
        if decoder is None:
            raise Unreadable
        self._decoder = decoder()
        self._received = 0
        self._content = bytearray()

    def add(self, data: bytes) -> None:
        """The next bytes as they came."""
        self._received += len(data)
        if self._received > MAX_BODY:
            raise TooLarge
        try:
            while part := self._decoder.decode(data, _STEP):
                data = b""
                self._content += part
                if len(self._content) > MAX_BODY:
                    raise TooLarge
        except zlib.error as error:
            raise Unreadable from error

    @property
    def received(self) -> int:
        """Bytes that have come, as they came."""
        return self._received

    def end(self) -> bytes:
        """All of it, once nothing more comes."""
        if not self._decoder.whole():
            raise Unreadable
        return bytes(self._content)
