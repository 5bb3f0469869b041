"""`ColumnType`: how the values of one Python type are stored, and what makes one total.

An annotation is compiled once, when its class is declared, into a column type. Column types compose: those of containers
hold those of what they contain, as the functions `dumper` and `loader` give them, so that nothing is decided anew for a
value. An error tells where inside a value it happened: what is inside says what is wrong, each container around it adds its
step to the path (`within`).
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import attrs

from convexorm.conditions import Operator
from convexorm.errors import LimitExceeded, ValidationError
from convexorm.schema import AnyValue, Validator
from convexorm.types.names import Names
from convexorm.values import MAX_DOCUMENT_NESTING, Missing, Value, check_value, same

__all__ = [
    "ColumnType",
    "Quick",
    "dumper",
    "key_step",
    "loader",
    "quick_adopt_of",
    "quick_load_of",
    "quick_of",
    "refuse",
    "rounded",
    "total",
    "within",
]

T = TypeVar("T")
C = TypeVar("C", bound="type[ColumnType[Any]]")


@attrs.frozen
class Quick:
    """What `dump` does with the commonest values, in Python's words about `{0}`, for functions that are made of text and
    need not call it: under this condition it answers this. `names` are those that the two use.
    """

    condition: str
    stored: str = "{0}"
    names: Mapping[str, Any] = {}


class ColumnType(Generic[T]):
    """Converts the values of one kind of column: give a subclass `dump` and `load`, and a `validator` for the schema.

    `name` is what an error says was expected. `mutable` says whether what `load` returns can be changed in place, so that
    a session has to look for changes; `holds_none` that `None` is a value like any other; `json_text` that what is stored
    as a string is JSON, equal if it means the same; `ordered` that stored values sort as the values do, so that `<` may be
    asked for. `as_is` is a class of stored values that are the attribute's values, unconverted, or None.
    """

    validator: Validator = AnyValue()
    mutable: bool = True
    json_text: ClassVar[bool] = False
    holds_none: bool = False
    ordered: bool = True
    as_is: type | None = None
    quick: ClassVar[Quick | None] = None
    quick_adopt: ClassVar[Quick | None] = None
    quick_load: ClassVar[Quick | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "load" in vars(cls) and "as_is" not in vars(cls):
            cls.as_is = None  # that of the base says what the base loads

    @property
    def name(self) -> str:
        """What it is called in errors: Python's name of the type."""
        return type(self).__name__

    def dump(self, value: T) -> Value:
        """The Convex value for an attribute's value. Raises ValidationError where there is none."""
        return value

    def load(self, value: Value) -> T:
        """The attribute's value for what a document holds; never the document's own mutable object."""
        return typing.cast(T, value)

    def equal(self, a: Value | Missing, b: Value | Missing) -> bool:
        """Whether two stored values mean the same."""
        return same(a, b) or (
            self.json_text and isinstance(a, str) and isinstance(b, str) and same(self.load(a), self.load(b))
        )

    def bound(self, op: Operator, value: T) -> Value:
        """What stored values are compared with by `op`, for a value that may lie between two that can be stored."""
        return dumper(self)(value)

    @property
    def adopts(self) -> bool:
        """Whether `adopt` may answer something else than it is given."""
        return type(self).adopt is not ColumnType.adopt

    def adopt(self, value: Any) -> Any:
        """What an attribute shows for a value it is set to: the value itself, unless storing it changes what it says."""
        return value

    def seen_from(self, names: Names | None) -> ColumnType[T]:
        """The type as it is written where these names are seen; it may speak of classes by name."""
        return self

    def sample(self, name: str, number: int) -> T:
        """A value for tests, another for each number. Raises TypeError where none can be made up."""
        raise TypeError(f"no {self.name} can be made up")


# -- what is wrong, and where --------------------------------------------------------------------------------------


def refuse(expected: str, value: object) -> NoReturn:
    """Raise the ValidationError of a value of another type than `expected`."""
    raise ValidationError(f"expected {expected}, got {type(value).__name__}")


def within(step: str, error: ValidationError) -> ValidationError:
    """The error of a value inside another: `step` leads there."""
    return ValidationError(error.problem, path=step + error.path)


def key_step(key: object) -> str:
    """The step of a path that leads to the value under a key, as Python would write it."""
    return f"[{json.dumps(key, ensure_ascii=False)}]" if isinstance(key, str) else f"[{key!r}]"


def rounded(codec: ColumnType[Any], value: Any) -> Any:
    """What a container shows of what is in it: what storing rounds it to; what stands for a value of another type stays."""
    try:
        shown = codec.adopt(value)
    except Exception:  # `dump` is to say what is wrong with it, and where
        return value
    return shown if type(shown) is type(value) else value


# -- column types that may do anything -----------------------------------------------------------------------------

_TOTAL: set[type] = set()


def total(cls: C) -> C:
    """Say of a column type that its `dump` and `load` raise nothing but ValidationError, and its `dump` answers nothing
    that its validator or Convex would not take. Those of others are checked each time.
    """
    _TOTAL.add(cls)
    return cls


def _is_total(codec: ColumnType[Any], method: str) -> bool:
    return next(base for base in type(codec).__mro__ if method in vars(base)) in _TOTAL


def quick_load_of(codec: ColumnType[Any]) -> Quick | None:
    """The same for a call of `load`; it may raise ValueError, as `load` would."""
    return codec.quick_load if type(codec) in _TOTAL else None


def quick_adopt_of(codec: ColumnType[Any]) -> Quick | None:
    """The values that `adopt` answers as they are; None where it has to be asked."""
    return codec.quick_adopt if type(codec) in _TOTAL else None


def quick_of(codec: ColumnType[Any]) -> Quick | None:
    """What may stand for a call of `dump`, unless the type is one of somebody else, who may have another `dump`."""
    return codec.quick if type(codec) in _TOTAL else None


def dumper(codec: ColumnType[T]) -> Callable[[T], Value]:
    """The `dump` of a column type, made total."""
    if _is_total(codec, "dump"):
        return codec.dump

    def dump(value: T) -> Value:
        try:
            stored = codec.dump(value)
        except (ValidationError, LimitExceeded):
            raise
        except Exception as error:
            raise ValidationError(f"expected {codec.name}, got {type(value).__name__}") from error
        if not codec.validator.accepts(stored):
            problem = f"{codec.name} dumps {type(stored).__name__} where its validator is {codec.validator.noun}"
            raise ValidationError(problem)
        check_value(stored, nesting=MAX_DOCUMENT_NESTING - 1)
        return stored

    return dump


def loader(codec: ColumnType[T]) -> Callable[[Value], T]:
    """The `load` of a column type, made total."""
    if _is_total(codec, "load"):
        return codec.load

    def load(value: Value) -> T:
        try:
            return codec.load(value)
        except ValidationError:
            raise
        except Exception as error:
            raise ValidationError(f"expected {codec.name}, got {type(value).__name__}") from error

    return load
