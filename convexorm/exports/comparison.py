"""What models say of their tables that a deployed schema does not say, or says otherwise.

Models may know a part: other tables, other indexes, and fields that may be missing are no differences. Documents are not
compared where Convex does not hold them to the schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import attrs

from convexorm.exports.export import Export, ExportedTable
from convexorm.schema import (
    SYSTEM_TABLES,
    AnyOf,
    AnyValue,
    Array,
    IndexDef,
    Object,
    Property,
    Record,
    SearchIndexDef,
    Table,
    Validator,
    VectorIndexDef,
    joined_shapes,
)

__all__ = ["Difference", "differences"]

_IndexDef: TypeAlias = IndexDef | SearchIndexDef | VectorIndexDef


@attrs.frozen
class Difference:
    """One thing that models and a deployed schema say differently: a `table`, or a field or an index of one, as `part`.

    `wanted` is what the models say of it and `deployed` what the deployment says, in TypeScript; None for nothing.
    """

    table: str
    part: str | None
    wanted: str | None
    deployed: str | None

    def __str__(self) -> str:
        what = f"table {self.table!r}" if self.part is None else f"{self.table}.{self.part}"
        if self.deployed is None:
            return f"{what} is not deployed" if self.part is None else f"{what}: {self.wanted} is not deployed"
        if self.wanted is None:
            return f"{what}: {self.deployed} is deployed, and the models do not have it"
        return f"{what}: the models say {self.wanted}, deployed is {self.deployed}"


def differences(table: Table, export: Export) -> Iterator[Difference]:
    """What differs of one table. Tables of Convex's own are on every deployment, and in no schema."""
    if table.name in SYSTEM_TABLES:
        return
    deployed = export.table(table.name)
    if deployed is None:
        yield Difference(table.name, None, "", None)
        return
    if export.validated:
        yield from _fields(table, deployed.documents)
    yield from _indexes(table, deployed)


def _fields(table: Table, documents: Validator) -> Iterator[Difference]:
    if isinstance(documents, AnyOf):
        documents = _joined(documents)
    if not isinstance(documents, Object):
        return
    for name in (*table.fields, *(name for name in documents.fields if name not in table.fields)):
        mine, theirs = table.fields.get(name), documents.fields.get(name)
        if mine is None:
            if theirs is not None and not theirs.optional:
                yield Difference(table.name, name, None, theirs.typescript())
        elif theirs is None or _canonical_property(mine) != _canonical_property(theirs):
            yield Difference(table.name, name, mine.typescript(), None if theirs is None else theirs.typescript())


def _joined(documents: AnyOf) -> Validator:
    """Objects of several shapes as one: what is not in all of them may be missing."""
    members = [member.fields for member in documents.members if isinstance(member, Object)]
    return Object(joined_shapes(members)) if len(members) == len(documents.members) else AnyValue()


def _indexes(table: Table, deployed: ExportedTable) -> Iterator[Difference]:
    wanted = _named((*table.indexes, *table.staged_indexes), table.search_indexes, table.vector_indexes)
    there = _named(deployed.indexes, deployed.search_indexes, deployed.vector_indexes)
    for name, index in wanted.items():
        found = there.get(name)
        if found is None or _ready(found) != _ready(index):
            yield Difference(table.name, name, index.typescript(), None if found is None else found.typescript())
        elif name in deployed.staged and not index.staged:
            yield Difference(table.name, name, index.typescript(), attrs.evolve(found, staged=True).typescript())


def _named(*kinds: Iterable[_IndexDef]) -> Mapping[str, _IndexDef]:
    return {one.name: one for kind in kinds for one in kind}


def _ready(index: _IndexDef) -> str:
    """An index that is built, as TypeScript."""
    return attrs.evolve(index, staged=False).typescript()


def _canonical_property(prop: Property) -> str:
    return f"{'?' if prop.optional else ''}{_canonical(prop.validator)}"


def _canonical(validator: Validator) -> str:
    """The same text for validators that accept the same for the same reasons, however they are written down."""
    match validator:
        case AnyOf(members):
            return f"union({', '.join(sorted(map(_canonical, members)))})"
        case Array(items):
            return f"array({_canonical(items)})"
        case Record(values):
            return f"record({_canonical(values)})"
        case Object(fields):
            inner = (f"{name!r}: {_canonical_property(prop)}" for name, prop in sorted(fields.items()))
            return f"object({', '.join(inner)})"
        case _:
            return validator.typescript()
