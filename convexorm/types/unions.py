"""None beside a type at any depth, and unions whose members can be told apart when they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.foreign import is_int64
from convexorm.schema import AnyOf, AnyValue, Validator
from convexorm.types.choices import EnumType, LiteralType
from convexorm.types.codec import ColumnType, dumper, loader, refuse, total
from convexorm.types.records import RecordType
from convexorm.values import Value

__all__ = ["OptionalType", "UnionType", "kinds_of"]

T = TypeVar("T")


@total
class OptionalType(ColumnType[T | None], Generic[T]):
    """None as null, anything else as its own type has it."""

    holds_none = True

    def __init__(self, inner: ColumnType[T]) -> None:
        self._inner = inner
        self.mutable = inner.mutable
        self.ordered = inner.ordered
        self.validator = AnyOf.of(inner.validator, schema.Null())
        self._dump = dumper(inner)
        self._load = loader(inner)

    @property
    def name(self) -> str:
        return f"{self._inner.name} | None"

    def dump(self, value: T | None) -> Value:
        return None if value is None else self._dump(value)

    def load(self, value: Value) -> T | None:
        return None if value is None else self._load(value)

    @property
    def adopts(self) -> bool:
        return self._inner.adopts

    def adopt(self, value: Any) -> Any:
        return value if value is None else self._inner.adopt(value)

    def sample(self, name: str, number: int) -> T | None:
        return None


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    bytes: "bytes",
    list: "array",
    dict: "object",
}
_VALIDATED: Mapping[type[Validator], str] = {
    schema.Null: "null",
    schema.Boolean: "boolean",
    schema.Number: "number",
    schema.String: "string",
    schema.Id: "string",
    schema.Bytes: "bytes",
    schema.Int64: "int64",
    schema.Array: "array",
    schema.Object: "object",
    schema.Record: "object",
}


def kinds_of(validator: Validator) -> set[str]:
    """The kinds of Convex values that a validator accepts."""
    if isinstance(validator, AnyOf):
        return {kind for member in validator.members for kind in kinds_of(member)}
    if isinstance(validator, schema.Literal):
        return {_KINDS[type(validator.value)]}
    return {*_KINDS.values(), "int64"} if isinstance(validator, AnyValue) else {_VALIDATED[type(validator)]}


_PYTHON: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "bytes": bytes}


@total
class UnionType(ColumnType[Any]):
    """One of several types: of different kinds in Convex, or classes that a field of a `Literal` tells apart."""

    def __init__(self, members: Sequence[ColumnType[Any]]) -> None:
        """Raises ValidationError for members that cannot be told apart."""
        self._members = list(members)
        self.mutable = any(member.mutable for member in members)
        self.ordered = all(member.ordered for member in members)
        self.validator = AnyOf.of(*(member.validator for member in members))
        records = [member for member in members if isinstance(member, RecordType)]
        self._loads: dict[str, Callable[[Value], Any]] = {}
        for member in members:
            for kind in kinds_of(member.validator):
                if kind in self._loads and not (kind == "object" and len(records) > 1 and member in records):
                    other = next(one for one in members if kind in kinds_of(one.validator))
                    raise ValidationError(_ambiguous(other.name, member.name))
                self._loads[kind] = loader(member)
        self._taking: dict[type, list[ColumnType[Any]]] = {}
        for member in members:
            python = member.kind if isinstance(member, RecordType) else _PYTHON.get(member.name)
            if python is not None:
                self._taking.setdefault(python, []).append(member)
        self._dumps: dict[type, Callable[[Any], Value]] = {kind: dumper(of[0]) for kind, of in self._taking.items()}
        if len(records) > 1:
            self._tag, self._tagged = _tagged(records)
            self._loads["object"] = self._load_tagged
            # dicts, and instances of a generic class: what each is of is told by what it holds
            self._dumps.update({kind: self._dump_tagged for kind, of in self._taking.items() if len(of) > 1})

    @property
    def name(self) -> str:
        return " | ".join(member.name for member in self._members)

    def dump(self, value: Any) -> Value:
        dump = self._dumps.get(_taken_as(value))
        if dump is not None:
            return dump(value)
        for member in self._members:
            try:
                return dumper(member)(value)
            except ValidationError as error:
                if error.path:
                    raise
        return refuse(self.name, value)

    @property
    def adopts(self) -> bool:
        return any(member.adopts for member in self._members)

    def adopt(self, value: Any) -> Any:
        kind = type(value)
        for member in self._members if kind is dict else self._taking.get(kind, self._members):
            with suppress(ValidationError):
                dumper(member)(value)
                return member.adopt(value)
        return value

    def load(self, value: Value) -> Any:
        load = self._loads.get(_KINDS.get(type(value), "int64" if is_int64(value) else ""))
        return refuse(self.name, value) if load is None else load(value)

    def _record(self, tag: Any) -> RecordType:
        try:
            return self._tagged[type(tag) is bool, tag]
        except (KeyError, TypeError):
            raise ValidationError(f"expected {self.name}, got an object of another {self._tag!r}") from None

    def _load_tagged(self, value: Value) -> Any:
        return self._record(value.get(self._tag)).load(value)

    def _dump_tagged(self, value: Any) -> Value:
        kind = _taken_as(value)
        told = value.get(self._tag) if kind is dict else getattr(value, self._tag, None)
        for record in self._taking[kind]:
            with suppress(ValidationError):
                dumper(record.fields[self._tag])(told)  # type: ignore[attr-defined]
                break
        else:
            record = self._record(told)
        return record.dump(value)

    def sample(self, name: str, number: int) -> Any:
        return self._members[0].sample(name, number)


def _taken_as(value: object) -> type:
    """The class that says which member takes a value: a TypedDict takes dicts of subclasses, too."""
    return dict if isinstance(value, dict) else type(value)


def _tagged(records: Sequence[RecordType]) -> tuple[str, dict[tuple[bool, Value], RecordType]]:
    """The field that tells classes apart, and the class for each of its values."""
    for tag in records[0].fields:
        tagged: dict[tuple[bool, Value], RecordType] = {}
        values = [(record, _tags(record.fields.get(tag))) for record in records]
        for record, tags in values:
            for one in tags:
                tagged.setdefault((type(one) is bool, one), record)
        if all(tags for _, tags in values) and len(tagged) == sum(len(tags) for _, tags in values):
            return tag, tagged
    raise ValidationError(_ambiguous(records[0].name, records[1].name))


def _tags(codec: ColumnType[Any] | None) -> list[Value]:
    return codec.values if isinstance(codec, LiteralType | EnumType) else []


def _ambiguous(one: str, other: str) -> str:
    return (
        f"no Convex type for a union of {one} and {other}, which could not be told apart when loaded; use one of them, or "
        "classes with a field such as kind: Literal['a'] that has another value in each"
    )
