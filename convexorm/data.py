"""`Data` and `Draft`: what requests, their answers, and queries are: values with names, made many times a call.

They are made, compared, and copied with a change (`msgspec.structs.replace`) in C, where generated Python takes ten times
as long. Nothing that they hold refers back to them, so Python's collector need not look at them; a class where that may be
otherwise says `gc=True`. `hidden` are the names that their `repr` leaves out: keys and contents.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

__all__ = ["Data", "Draft"]


class Data(msgspec.Struct, frozen=True, gc=False):
    """Values with names, for good; equal if all of them are."""

    hidden: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        return _shown(self, self.hidden)


class Draft(msgspec.Struct, gc=False):
    """The same, for whoever makes it to change until it is sent."""

    hidden: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        return _shown(self, self.hidden)


def _shown(one: msgspec.Struct, hidden: tuple[str, ...]) -> str:
    values = ", ".join(f"{name}={getattr(one, name)!r}" for name in one.__struct_fields__ if name not in hidden)
    return f"{type(one).__name__}({values})"
