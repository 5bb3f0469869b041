"""Arrays of numbers as packed floats, which are read without parsing."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexorm.values import Value

__all__ = ["pack", "unpack"]

_DOUBLE = b"\x08"
"""Ends packed float64; packed float32 has nothing behind it, so its length is a multiple of 4."""


def pack(value: Value) -> bytes | None:
    """An array of numbers as little-endian floats: 4 bytes each if that is exact, else 8; None for all else."""
    if type(value) is list and value:
        return _floats(np.array(value, dtype=np.float64))
    return _floats(value) if type(value) is np.ndarray else None


def _floats(array: np.ndarray[Any, Any]) -> bytes:
    if array.dtype == np.float32:
        return array.astype("<f4", copy=False).tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        single = array.astype("<f4")
    if np.array_equal(single.astype(np.float64).view(np.uint64), array.view(np.uint64)):
        return single.tobytes()
    return array.astype("<f8", copy=False).tobytes() + _DOUBLE


def unpack(blob: bytes) -> np.ndarray[Any, Any]:
    """The numbers of a packed array, as float32 or float64, read-only."""
    if len(blob) % 4:
        if len(blob) % 8 != 1:
            raise ValueError("neither packed float32 nor float64")
        return np.frombuffer(blob, dtype="<f8", count=len(blob) // 8)
    return np.frombuffer(blob, dtype="<f4")
