"""Lists, tuples, sets and dicts of what has a column type."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.schema import AnyOf
from convexorm.types.anything import checked_key, refuse_alike
from convexorm.types.codec import ColumnType, dumper, key_step, loader, refuse, rounded, total, within
from convexorm.types.scalars import FloatType
from convexorm.values import Value, canonical, is_number_array

__all__ = ["DictType", "ListType", "SetType", "TupleType", "VectorType"]

T = TypeVar("T")

_NO_LISTS = (str, bytes, bytearray, memoryview)


def _items_of(name: str, value: Any) -> Any:
    """What a list is made of: any sequence but text and bytes. ValidationError for what can be gone through only once."""
    if is_number_array(value):
        return value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, _NO_LISTS):
        refuse(name, value)
    return value


@total
class ListType(ColumnType[list[T]]):
    """A list as an array. Any other sequence but text and bytes is taken for one."""

    def __init__(self, item: ColumnType[T]) -> None:
        self.item = item
        self.ordered = item.ordered
        self.validator = schema.Array(item.validator)
        self._dump = dumper(item)
        self._load = loader(item)

    @property
    def name(self) -> str:
        return f"list[{self.item.name}]"

    def dump(self, value: list[T]) -> Value:
        if type(value) is not list:
            value = _items_of(self.name, value)
        items: list[Value] = []
        try:
            items.extend(map(self._dump, value))  # up to the one that fails
        except ValidationError as error:
            raise within(f"[{len(items)}]", error) from error.__cause__
        return items

    def load(self, value: Value) -> list[T]:
        if type(value) is not list:
            value = _stored_items(self.name, value)
        items: list[T] = []
        try:
            items.extend(map(self._load, value))
        except ValidationError as error:
            raise within(f"[{len(items)}]", error) from error.__cause__
        return items

    @property
    def adopts(self) -> bool:
        return self.item.adopts

    def adopt(self, value: Any) -> Any:
        if type(value) is tuple:
            return _unless_same(value, tuple(rounded(self.item, item) for item in value))
        if type(value) is list:
            for place, item in enumerate(value):
                value[place] = rounded(self.item, item)
        return value

    def sample(self, name: str, number: int) -> list[T]:
        return []


def _unless_same(value: tuple[Any, ...], shown: tuple[Any, ...]) -> tuple[Any, ...]:
    return value if all(map(operator.is_, value, shown)) else shown


def _stored_items(name: str, value: Value) -> list[Value]:
    return value.tolist() if is_number_array(value) else refuse(name, value)  # type: ignore[no-any-return]


@total
class VectorType(ListType[float]):
    """A list of floats. A one-dimensional numpy array of float32 or float64 is stored as one too, unconverted."""

    def __init__(self) -> None:
        super().__init__(FloatType())

    def dump(self, value: list[float]) -> Value:
        return value if is_number_array(value) else super().dump(value)

    def load(self, value: Value) -> list[float]:
        return value.tolist() if is_number_array(value) else super().load(value)


@total
class TupleType(ColumnType[tuple[Any, ...]]):
    """A tuple as an array: of as many elements as have a type, or with `rest` of any number. A list is none."""

    def __init__(self, items: Sequence[ColumnType[Any]], rest: ColumnType[Any] | None = None) -> None:
        self._items = list(items)
        self._rest = rest
        self._members = members = self._items if rest is None else [rest]
        self.mutable = any(item.mutable for item in members)
        self.ordered = all(item.ordered for item in members)
        self.validator = schema.Array(AnyOf.of(*(item.validator for item in members)) if members else schema.Null())
        self._dumps = [dumper(item) for item in members]
        self._loads = [loader(item) for item in members]

    @property
    def name(self) -> str:
        if self._rest is not None:
            return f"tuple[{self._rest.name}, ...]"
        return f"tuple[{', '.join(item.name for item in self._items) or '()'}]"

    def dump(self, value: tuple[Any, ...]) -> Value:
        if type(value) is not tuple:
            refuse(self.name, value)
        return self._converted(value, self._dumps)

    def load(self, value: Value) -> tuple[Any, ...]:
        if type(value) is not list:
            value = _stored_items(self.name, value)
        return tuple(self._converted(value, self._loads))

    def _converted(self, value: Sequence[Any], converters: list[Any]) -> list[Any]:
        items: list[Any] = []
        if self._rest is not None:
            converters = converters * len(value)
        elif len(value) != len(converters):
            raise ValidationError(f"expected {self.name}, got {len(value)} elements")
        try:
            for convert, item in zip(converters, value, strict=True):
                items.append(convert(item))
        except ValidationError as error:
            raise within(f"[{len(items)}]", error) from error.__cause__
        return items

    @property
    def adopts(self) -> bool:
        return any(item.adopts for item in self._members)

    def adopt(self, value: Any) -> Any:
        if type(value) is not tuple or (self._rest is None and len(value) != len(self._members)):
            return value
        members = self._members if self._rest is None else self._members * len(value)
        return _unless_same(value, tuple(map(rounded, members, value)))

    def sample(self, name: str, number: int) -> tuple[Any, ...]:
        return tuple(item.sample(name, number) for item in self._items)


@total
class SetType(ColumnType[Any]):
    """A set or frozenset as an array in Convex's order: the same set is always one array. `<` would not mean subset."""

    ordered = False

    def __init__(self, kind: type[set[Any]] | type[frozenset[Any]], item: ColumnType[Any]) -> None:
        self._kind = kind
        self.item = item
        self.mutable = kind is set or item.mutable
        self.validator = schema.Array(item.validator)
        self._dump = dumper(item)
        self._load = loader(item)

    @property
    def name(self) -> str:
        return f"{self._kind.__name__}[{self.item.name}]"

    def dump(self, value: Any) -> Value:
        if not isinstance(value, Set):
            refuse(self.name, value)
        stored: dict[bytes, Value] = {}
        for item in value:
            try:
                dumped = self._dump(item)
            except ValidationError as error:
                raise within("{…}", error) from error.__cause__
            stored[canonical(dumped)] = dumped
        if len(stored) != len(value):
            raise ValidationError("two of its members are stored as one value, so one would be lost")
        return [stored[key] for key in sorted(stored)]

    def load(self, value: Value) -> Any:
        if type(value) is not list:
            value = _stored_items(self.name, value)
        try:
            return self._kind(map(self._load, value))
        except TypeError:
            raise ValidationError(f"expected {self.name}, got members that cannot be in a set") from None

    @property
    def adopts(self) -> bool:
        return self.item.adopts

    def adopt(self, value: Any) -> Any:
        if type(value) is frozenset:
            return frozenset(rounded(self.item, item) for item in value)
        if type(value) is set:
            shown = {rounded(self.item, item) for item in value}
            if shown != value:
                value.clear()
                value.update(shown)
        return value

    def sample(self, name: str, number: int) -> Any:
        return self._kind()


@total
class DictType(ColumnType[dict[str, T]]):
    """A dict with keys of str as an object, which loads with its keys in Convex's order. Any mapping is taken for one."""

    ordered = False

    def __init__(self, item: ColumnType[T]) -> None:
        self.item = item
        self.validator = schema.Record(item.validator)
        self._dump = dumper(item)
        self._load = loader(item)

    @property
    def name(self) -> str:
        return f"dict[str, {self.item.name}]"

    def dump(self, value: dict[str, T]) -> Value:
        if type(value) is not dict and not isinstance(value, Mapping):
            refuse(self.name, value)
        dump = self._dump
        members: dict[str, Value] = {}
        for key, item in value.items():
            name = checked_key(key)
            try:
                members[name] = dump(item)
            except ValidationError as error:
                raise within(key_step(name), error) from error.__cause__
        if len(members) != len(value):
            refuse_alike()
        return members

    def load(self, value: Value) -> dict[str, T]:
        if type(value) is not dict:
            refuse(self.name, value)
        load = self._load
        members: dict[str, T] = {}
        for name in sorted(value):
            try:
                members[name] = load(value[name])
            except ValidationError as error:
                raise within(key_step(name), error) from error.__cause__
        return members

    @property
    def adopts(self) -> bool:
        return self.item.adopts

    def adopt(self, value: Any) -> Any:
        if type(value) is dict:
            for key, item in value.items():
                value[key] = rounded(self.item, item)
        return value

    def sample(self, name: str, number: int) -> dict[str, T]:
        return {}
