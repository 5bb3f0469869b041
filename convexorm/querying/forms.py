"""Reads canonical forms: from bytes that `values.canonical` made back to values."""

from __future__ import annotations

import struct

from convexorm.values import MAX_SAFE_INTEGER, MISSING, Missing, Value

__all__ = ["values_of"]


def values_of(forms: bytes) -> list[Value | Missing]:
    """The values of canonical forms that stand one behind the other; a whole number is an int, as in JSON.

    Raises ValueError for other bytes.
    """
    found: list[Value | Missing] = []
    place = 0
    try:
        while place < len(forms):
            value, place = _value(forms, place)
            found.append(value)
    except (IndexError, ValueError, struct.error) as error:
        raise ValueError("these bytes are no canonical forms") from error
    return found


def _value(forms: bytes, place: int) -> tuple[Value | Missing, int]:
    """The value whose form begins at a place, and the place behind it."""
    tag, place = forms[place], place + 1
    if tag in _SIMPLE:
        return _SIMPLE[tag], place
    if tag == 0x0D:
        return _float(forms, place), place + 8
    if tag in (0x10, 0x11):
        data, place = _bytes(forms, place)
        return (data if tag == 0x11 else data.decode()), place
    if 0x04 <= tag <= 0x0C:
        return _int64(forms, place, 1 << abs(tag - 0x08) - 1 if tag != 0x08 else 0)
    if tag == 0x12:
        return _list(forms, place)
    if tag == 0x15:
        return _object(forms, place)
    raise ValueError


_SIMPLE = {0x01: MISSING, 0x03: None, 0x0E: False, 0x0F: True}


def _float(forms: bytes, place: int) -> float:
    (bits,) = struct.unpack_from(">Q", forms, place)
    (value,) = struct.unpack(">d", struct.pack(">Q", bits & ~(1 << 63) if bits >> 63 else bits ^ 0xFFFFFFFFFFFFFFFF))
    whole = value.is_integer() and abs(value) <= MAX_SAFE_INTEGER and (value != 0 or bits >> 63)
    return int(value) if whole else value


def _bytes(forms: bytes, place: int) -> tuple[bytes, int]:
    end = forms.index(0, place)
    while forms[end + 1 : end + 2] == b"\xff":
        end = forms.index(0, end + 2)
    return forms[place:end].replace(b"\0\xff", b"\0"), end + 1


def _int64(forms: bytes, place: int, width: int) -> tuple[Value, int]:
    from convexorm.values import ConvexInt64  # takes long to import

    if len(forms) < place + width:
        raise IndexError
    return ConvexInt64(int.from_bytes(forms[place : place + width], "big", signed=True)), place + width


def _list(forms: bytes, place: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    while forms[place]:
        item, place = _value(forms, place)
        items.append(item)
    return items, place + 1


def _object(forms: bytes, place: int) -> tuple[dict[str, Value], int]:
    items: dict[str, Value] = {}
    while forms[place] or forms[place + 1 : place + 2] == _EMPTY_NAME:
        name, place = _bytes(forms, place) if forms[place] else (b"", place + 2)
        items[name.decode()], place = _value(forms, place)
    return items, place + 1


_EMPTY_NAME = b"\xff"
"""Behind a zero, which alone would end the object."""
