"""`Rows`: documents as a deployment has them that keeps them as JSON text, for whoever makes something else of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias, overload

from convexorm.values import Value

__all__ = ["Row", "Rows"]

Row: TypeAlias = tuple[int, str, str]
"""The tick (the creation time in microseconds) and the `_id` of a document, and its other fields as JSON."""


class Rows(Sequence[Mapping[str, Value]]):
    """Documents as rows, which are parsed when somebody looks at a document."""

    __slots__ = ("_parse", "parsed", "rows")

    def __init__(self, rows: Sequence[Row], parse: Callable[[Sequence[Row]], list[Mapping[str, Value]]]) -> None:
        self.rows = rows
        self._parse = parse
        self.parsed: list[Mapping[str, Value]] | None = None
        """The documents, once somebody has looked at one."""

    def document(self, row: Row) -> Mapping[str, Value]:
        """The document of one of the rows."""
        (document,) = self._parse((row,))
        return document

    def _documents(self) -> list[Mapping[str, Value]]:
        if self.parsed is None:
            self.parsed = self._parse(self.rows)
        return self.parsed

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Value]: ...
    @overload
    def __getitem__(self, place: slice) -> list[Mapping[str, Value]]: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, Value] | list[Mapping[str, Value]]:
        return self._documents()[place]

    def __iter__(self) -> Iterator[Mapping[str, Value]]:
        return iter(self._documents())
