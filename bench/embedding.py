"""Vectors of texts without a model: hashed character n-grams, weighed by how rare they are in a collection.

Crude, but deterministic and made offline: texts that share words and parts of words are near each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import attrs
import numpy as np

__all__ = ["Embedding", "Question", "questions"]

_GRAMS = (3, 4, 5)
_WORD = re.compile(r"[^\W_]+")
_SESSION = re.compile(r"session_\d+_observation\Z")

Matrix = np.ndarray[Any, np.dtype[np.float64]]


class Embedding:
    """Vectors of `dimension` numbers for texts, by what is rare in `collection`."""

    def __init__(self, collection: Sequence[str], dimension: int = 384) -> None:
        self._dimension = dimension
        counts = np.zeros(dimension)
        for text in collection:
            counts[np.unique([place for place, _ in self._grams(text)])] += 1
        self._weights = np.log((1 + len(collection)) / (1 + counts)) + 0.1

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 for each text, in float64."""
        rows = np.zeros((len(texts), self._dimension))
        for row, text in zip(rows, texts, strict=True):
            for place, sign in self._grams(text):
                row[place] += sign * self._weights[place]
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows[norms[:, 0] == 0, 0] = 1.0  # nothing to hash
        matrix: Matrix = rows / np.where(norms > 0, norms, 1.0)
        return matrix

    def _grams(self, text: str) -> Iterator[tuple[int, int]]:
        """The place and the sign of each n-gram."""
        letters = f" {' '.join(_WORD.findall(text.lower()))} "
        yield 0, 0
        for size in _GRAMS:
            for start in range(len(letters) - size + 1):
                code = crc32(letters[start : start + size].encode())
                yield code % self._dimension, 1 if code >> 31 else -1


@attrs.frozen
class Question:
    """A text, and the turns (by `dia_id`) that it comes from or is answered by."""

    text: str
    turns: frozenset[str]
    kind: str


def questions(path: Path) -> list[Question]:
    """The observations and the questions of a LoCoMo conversation that name a turn of it."""
    source: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = [
        Question(text, frozenset([turn] if isinstance(turn, str) else turn), "observation")
        for name in source
        if _SESSION.match(name)
        for observations in source[name].values()
        for text, turn in observations
    ]
    found += [
        Question(one["question"], frozenset(one["evidence"]), "question") for one in source["qa"] if one.get("evidence")
    ]
    return found
