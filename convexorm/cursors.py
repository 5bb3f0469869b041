"""Page cursors: an index key as opaque text, bound to the query it came from.

A cursor is stateless: it names the place in the index behind which the next page begins, so it stays valid after writes
elsewhere. It carries a digest of its query, so that using it with another one is an error and not a wrong page.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

from msgspec.structs import replace

from convexorm.errors import InvalidCursorError
from convexorm.requests import KeyValue, Read, key_length
from convexorm.values import MISSING, canonical, dumps, loads
from convexorm.wire import encode_read

__all__ = ["decode_cursor", "encode_cursor"]

_VERSION = 1


def encode_cursor(read: Read, key: KeyValue) -> str:
    """The cursor that resumes `read` behind `key`."""
    bounds = [[] if value is MISSING else [value] for value in key]
    text = dumps([_VERSION, _digest(read), bounds])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(read: Read, cursor: str) -> KeyValue:
    """The key a cursor holds. Raises InvalidCursorError for text that is no cursor, or one of another query."""
    table = read.range.table.name
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, digest, bounds = loads(text)
        key = tuple(bound[0] if bound else MISSING for bound in bounds)
        canonical([value for value in key if value is not MISSING])
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, RecursionError, binascii.Error):
        raise InvalidCursorError("not a cursor; pass the one of the page before, unchanged", table=table) from None
    if version != _VERSION or digest != _digest(read) or len(key) not in (key_length(read.range), read.distinct):
        raise InvalidCursorError("the cursor belongs to another query", table=table)
    return key


def _digest(read: Read) -> str:
    """What makes two reads the same query: all but where they begin and how much they ask for."""
    query = encode_read(replace(read, after=None, skip=0, limit=None, peek=False, count=False, follow=()))
    return sha256(canonical(query)).hexdigest()[:16]
