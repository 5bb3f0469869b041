"""The operands of conditions: columns, and paths into them.

On a model class an attribute is a `Column`, whose operators build `Condition`s. A condition already holds Convex values:
what cannot be stored cannot be asked for, so a wrong type is refused here, with the column named. On an instance the
column is the attribute's value.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, Protocol, TypeAlias, TypeVar, overload

from convexorm.computed import Arithmetic, Constant, Operand, Stored
from convexorm.conditions import Combined, Comparison, Condition, Containment, Membership, Negated, Operator
from convexorm.errors import ConvexORMError, InvalidRequestError, ValidationError
from convexorm.mapping.references import UNSET
from convexorm.requests import Ordering
from convexorm.schema import AnyOf, Null, Property
from convexorm.types import ColumnType, JsonType, dumper, loader
from convexorm.types.anything import AnyType
from convexorm.types.containers import ListType, SetType
from convexorm.types.scalars import FloatType, Int64Type, IntType, StrType
from convexorm.values import MISSING, Missing, Value, check_value, is_number_array, is_whole

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = [
    "Column",
    "Computed",
    "Handed",
    "Mapped",
    "NoneForm",
    "Path",
    "operand_of",
    "show",
    "unmade",
]

T = TypeVar("T")
S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)

NoneForm: TypeAlias = Literal["absent", "null", "either"]
"""How `None` is stored: no field at all, an explicit null, or (written as no field) both are read."""


# -- operands ------------------------------------------------------------------------------------------------------


class _Operand(Generic[T]):
    """The operators that columns and paths share."""

    def _compare(self, op: Operator, value: object) -> Condition:
        raise NotImplementedError

    def _bounded(self, op: Operator, stored: Value | Missing) -> Condition:
        """`_compare` with a value as it is stored, of whatever type."""
        raise NotImplementedError

    def _member(self, values: Iterable[object]) -> Condition:
        raise NotImplementedError

    def __eq__(self, other: T) -> Condition:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: T) -> Condition:  # type: ignore[override]
        return self._compare("ne", other)

    def __lt__(self, other: T) -> Condition:
        return self._compare("lt", other)

    def __le__(self, other: T) -> Condition:
        return self._compare("lte", other)

    def __gt__(self, other: T) -> Condition:
        return self._compare("gt", other)

    def __ge__(self, other: T) -> Condition:
        return self._compare("gte", other)

    __hash__ = object.__hash__
    __iter__: ClassVar[None] = None  # a place in documents, not values: `for x in Task.tags` would never end
    __contains__: ClassVar[None] = None

    def is_(self, other: T) -> Condition:
        """`==`, for `None`, `True` and `False` where a linter asks for `is`."""
        return self._compare("eq", other)

    def is_not(self, other: T) -> Condition:
        """`!=`, likewise."""
        return self._compare("ne", other)

    def in_(self, values: Iterable[T]) -> Condition:
        """One of `values`; false for none. Raises ValidationError for a string in place of values."""
        return self._member(_several(values))

    def not_in(self, values: Iterable[T]) -> Condition:
        """None of `values`; true for none. Raises ValidationError for a string in place of values."""
        return Negated(self._member(_several(values)))

    def between(self, lower: T, upper: T) -> Condition:
        """`lower <= self <= upper`."""
        return Combined("and", (self._compare("gte", lower), self._compare("lte", upper)))

    def startswith(self, prefix: str) -> Condition:
        """A string that begins with `prefix`: a range, so an index can serve it. ValidationError for what is no string."""
        if not isinstance(prefix, str):
            raise ValidationError(f"startswith() takes a str, got {type(prefix).__name__}")
        return Combined("and", (self._compare("gte", prefix), self._bounded("lt", _following(prefix))))

    def _contained(self, op: Literal["contains", "endswith", "like"], value: Value) -> Condition:
        raise NotImplementedError

    def _element(self, value: object) -> Value:
        """What documents hold for something that is contained."""
        raise NotImplementedError

    def contains(self, value: Any) -> Condition:
        """A text that contains this one, case and all, or an array with an element that is equal to it."""
        return self._contained("contains", self._element(value))

    def endswith(self, suffix: str) -> Condition:
        """A string that ends with `suffix`. Raises ValidationError for what is no string."""
        if not isinstance(suffix, str):
            raise ValidationError(f"endswith() takes a str, got {type(suffix).__name__}")
        return self._contained("endswith", suffix)

    def like(self, pattern: str) -> Condition:
        """A string that fits `pattern`, in which each `%` stands for any characters or none; case matters.

        What is before the first `%` is a range, so an index can serve it. Raises ValidationError for what is no string.
        """
        if not isinstance(pattern, str):
            raise ValidationError(f"like() takes a str, got {type(pattern).__name__}")
        if "%" not in pattern:
            return self._bounded("eq", pattern)
        prefix, _, rest = pattern.partition("%")
        fits = self._contained("like", pattern)
        if not prefix:
            return fits
        return self.startswith(prefix) if not rest.strip("%") else Combined("and", (self.startswith(prefix), fits))

    def is_missing(self) -> Condition:
        """No such field."""
        return self._bounded("eq", MISSING)

    def is_null(self) -> Condition:
        """A field that holds null."""
        return self._bounded("eq", None)


def _following(prefix: str) -> Value:
    """The least value behind every string that begins with `prefix`: the empty bytes, where no string is."""
    for end in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[end]) + 1
        if code <= 0x10FFFF:
            return prefix[:end] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
    return b""


class Path(_Operand[Any]):
    """A place inside a column's value: `Thread.metadata["topic"]`. Columns of JSON text are parsed on the server.

    Raises ValidationError for a step that is no key (a str) and no position (a whole number from 0).
    """

    def __init__(self, column: Column[Any], steps: tuple[str | int, ...]) -> None:
        self._column = column
        self._steps = tuple(self._step(step) for step in steps)

    def _step(self, step: object) -> str | int:
        if isinstance(step, str):
            return str.__str__(step)
        if is_whole(step):
            return int(step)  # type: ignore[call-overload,no-any-return]
        raise ValidationError(
            f"a step into a value is a str or a whole number from 0, got {type(step).__name__}",
            table=self._column.table,
            field=self._column.field,
        )

    def __getitem__(self, step: str | int) -> Path:
        return Path(self._column, (*self._steps, step))

    def _compare(self, op: Operator, value: object) -> Condition:
        return self._bounded(op, self._dumped(value))

    def _bounded(self, op: Operator, stored: Value | Missing) -> Condition:
        return Comparison(self._column.field, op, stored, self._steps, self._column.table)

    def _member(self, values: Iterable[object]) -> Condition:
        return Membership(self._column.field, tuple(map(self._dumped, values)), self._steps, self._column.table)

    def _contained(self, op: Literal["contains", "endswith", "like"], value: Value) -> Condition:
        return Containment(self._column.field, op, value, self._steps, self._column.table)

    def _element(self, value: object) -> Value:
        return self._dumped(value)

    def _dumped(self, value: object) -> Value | Missing:
        if value is MISSING:
            return MISSING
        try:
            dumped = _ANY.dump(value)
            check_value(dumped)
        except ValidationError as error:
            raise ValidationError(
                f"compared with what Convex has no value for: {error.problem}",
                table=self._column.table,
                field=self._column.field,
            ) from None
        return dumped

    __hash__ = object.__hash__


_ANY = JsonType()
"""What is inside a value has no declared type: it is compared with JSON."""


def _several(values: Iterable[T]) -> Iterable[T]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValidationError(f"in_() and not_in() take several values, such as a list, got {type(values).__name__}")
    return values


class _Number(Generic[T]):
    """The operators by which changes are computed where documents are."""

    def __add__(self, other: T | Column[T] | Computed[T]) -> Computed[T]:
        return _arithmetic("add", self, other)

    def __radd__(self, other: T) -> Computed[T]:
        return _arithmetic("add", self, other, swapped=True)

    def __sub__(self, other: T | Column[T] | Computed[T]) -> Computed[T]:
        return _arithmetic("sub", self, other)

    def __rsub__(self, other: T) -> Computed[T]:
        return _arithmetic("sub", self, other, swapped=True)

    def __mul__(self, other: T | Column[T] | Computed[T]) -> Computed[T]:
        return _arithmetic("mul", self, other)

    def __rmul__(self, other: T) -> Computed[T]:
        return _arithmetic("mul", self, other, swapped=True)

    def __truediv__(self, other: T | Column[T] | Computed[T]) -> Computed[T]:
        return _arithmetic("div", self, other)

    def __rtruediv__(self, other: T) -> Computed[T]:
        return _arithmetic("div", self, other, swapped=True)


class Computed(_Number[T]):
    """What an attribute is to hold, computed where the document is: `Account.coins + 1`, or made by `convexorm.func`."""

    def __init__(self, operand: Operand, column: Column[Any]) -> None:
        self.operand = operand
        self.column = (column,)
        """The column whose type it has; in a tuple, as a column is a descriptor."""

    def __bool__(self) -> NoReturn:
        raise TypeError("what is computed where the document is has no truth value in Python")

    def __repr__(self) -> str:
        return f"<Computed of {self.column[0].table}.{self.column[0].field}>"


def _arithmetic(op: Literal["add", "sub", "mul", "div"], one: Any, other: Any, *, swapped: bool = False) -> Computed[Any]:
    column: Column[Any] = one if isinstance(one, Column) else one.column[0]
    if type(column.type) not in _NUMERIC and not isinstance(column.type, AnyType):
        own = type(column.type).__name__ if isinstance(column.type, _NUMERIC) else column.type.name
        problem = f"a {own} is not computed with; int, float and Int64 are"
        raise ValidationError(problem, table=column.table, field=column.field)
    if op == "div" and isinstance(column.type, _WHOLE):
        raise ValidationError("an int is not divided, it would be none any more", table=column.table, field=column.field)
    left, right = operand_of(one, column), operand_of(other, column)
    if swapped:
        left, right = right, left
    return Computed(Arithmetic(op, left, right, isinstance(column.type, IntType)), column)


_WHOLE = (IntType, Int64Type)
_NUMERIC = (*_WHOLE, FloatType)


def operand_of(value: object, column: Column[Any]) -> Operand:
    """What a change is computed of: a column of the same kind and table, something computed, or a value of the column's."""
    other = value if isinstance(value, Column) else value.column[0] if isinstance(value, Computed) else None
    if other is None:
        dumped = column.dump(value)
        if dumped is MISSING or dumped is None:
            raise ValidationError("computed with a value, got None", table=column.table, field=column.field)
        if type(dumped) is not float or dumped != dumped:
            check_value(dumped)
        return Constant(dumped)
    if other.table != column.table or type(other.type) is not type(column.type):
        problem = f"computed with an attribute of another {'model' if other.table != column.table else 'type'}"
        raise ValidationError(problem, table=column.table, field=column.field)
    return value.operand if isinstance(value, Computed) else other.stored()


class _Compiled:
    """What a column knows once its annotation is compiled; to look at it before compiles it.

    It then stands in the column itself, where it is found without asking here. (`__getattr__` would make every look at any
    attribute of a column slow.)
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, column: Column[Any] | None, owner: type) -> Any:
        """Raises ValidationError for a name in the annotation that is not there."""
        if column is None:
            return self
        try:
            column.compile()
        except NameError as error:
            problem = f"the annotation names {error.name!r}, which is not there"
            raise ValidationError(problem, table=column.table, field=column.name) from None
        return column.__dict__[self._name]


class Some(Protocol[T_co]):
    """A column, by what its least or greatest value is: None where there is none."""

    def _of_some(self) -> T_co: ...


class Summed(Protocol[T_co]):
    """A column, by what its values add up to."""

    def _of_sum(self) -> T_co: ...


class Column(_Operand[T], _Number[T]):
    """A field of a model: a typed operand on the class, the attribute's value on an instance.

    `name` is the attribute's, `field` the Convex field's. On a persistent instance the value is converted from the loaded
    document at first access, so reading a thousand rows converts nothing that nobody looks at. What the annotation says,
    `type` and `nullable`, is found out once: when the class is declared, or, where it names what is not there yet, when it
    is first needed.
    """

    if TYPE_CHECKING:
        type: ColumnType[Any]
        nullable: bool
        _dump: Callable[[Any], Value]
        _load: Callable[[Value], Any]
        _is_text: bool
        _as_is: builtins.type | None

        def _of_some(self) -> T | None: ...

        @overload
        def _of_sum(self: Column[S | None]) -> S: ...
        @overload
        def _of_sum(self) -> T: ...
        def _of_sum(self) -> Any: ...
    else:
        type = _Compiled()
        nullable = _Compiled()
        _dump = _Compiled()
        _load = _Compiled()
        _is_text = _Compiled()
        _as_is = _Compiled()

    def __init__(
        self,
        *,
        table: str,
        name: str,
        field: str,
        none: NoneForm,
        optional: bool = False,
        default: Callable[[], Any] | None = None,
        compile: Callable[[], tuple[ColumnType[Any], bool]],
        told_default: Any = None,
    ) -> None:
        self.table = table
        self.name = name
        self.field = field
        self.none = none
        self.optional = optional
        self._default = default
        self._compile = compile
        self._told_default = told_default

    def compile(self) -> None:
        """Find out what the annotation says. ValidationError if that cannot be stored, NameError for a later name."""
        try:
            self.type, self.nullable = self._compile()
        except ValidationError as error:
            raise ValidationError(error.problem, table=self.table, field=self.name, path=error.path) from None
        self._dump, self._load = dumper(self.type), loader(self.type)
        self._is_text = builtins.type(self.type) is StrType
        self._as_is = self.type.as_is

    @builtins.property
    def has_default(self) -> bool:
        """Whether the constructor can do without it."""
        return self._default is not None

    @builtins.property
    def makes_default(self) -> bool:
        """Whether its default is made anew for each instance."""
        return self._default is not None and self._told_default is None

    @builtins.property
    def _stored_either_way(self) -> bool:
        """Whether documents may hold None as a null and as no field at all."""
        return self.none == "either" or (self.none == "null" and self.nullable and self.optional)

    def default(self) -> T:
        """The default of the attribute. Raises ValidationError where there is none."""
        if self._default is None:
            raise ValidationError("required, and not given", table=self.table, field=self.name)
        return self._default()  # type: ignore[no-any-return]

    def defaults(self, stored: Value | Missing) -> bool:
        """Whether the default stands for what a document holds. Then one that was set is a change, though it is equal."""
        lacking = stored is MISSING or (stored is None and not self.type.holds_none)
        return lacking and self._default is not None and not self.nullable and self._told_default is not UNSET

    def check_default(self) -> None:
        """Raise ValidationError for a default, told as a value, that could not be stored.

        None may be told of any column: it is to be set before a commit.
        """
        if self._told_default is None or self._told_default is UNSET:
            return
        try:
            self.dump(self._told_default)
        except ValidationError as error:
            raise self._placed(error, f"its default cannot be stored: {error.problem}") from error.__cause__

    def property(self) -> Property:
        """The field as the schema declares it."""
        validator = self.type.validator
        if self.nullable and self.none != "absent":
            validator = AnyOf.of(validator, Null())
        return Property(validator, optional=self.optional or (self.nullable and self.none != "null"))

    # the attribute of an instance

    @overload
    def __get__(self, instance: None, owner: builtins.type[Model]) -> Column[T]: ...
    @overload
    def __get__(self, instance: Model, owner: builtins.type[Model]) -> T: ...
    def __get__(self, instance: Model | None, owner: builtins.type[Model]) -> Column[T] | T:
        if instance is None:
            return self
        name = self.name
        try:
            state = instance._state
        except AttributeError:
            raise AttributeError(f"{owner.__name__}.{name} is not set: {unmade(instance)}") from None
        held = state.held
        if held is None:
            raise AttributeError(f"{owner.__name__}.{name} is not set")
        if not state.looked_at:  # the first look takes along what needs no conversion
            state.looked_at = True
            attributes = show(instance, held)
            if name in attributes:
                return attributes[name]  # type: ignore[no-any-return]
        else:
            attributes = instance.__dict__
        value: Any = held.get(self.field, MISSING)
        if builtins.type(value) is not self._as_is:
            stored = value
            try:
                value = self.load(stored)
            except ValidationError as error:
                raise error.of(state.known_id) from error.__cause__
            if (stored is MISSING or stored is None) and self.defaults(stored):
                if self._told_default is not None and not self.type.mutable:
                    return value  # type: ignore[no-any-return]
                state.make(name, value)  # which the instance has from now on, though nobody has set it
            if self.type.mutable:
                state.touch(instance)
        attributes[name] = value
        return value  # type: ignore[no-any-return]

    def dump(self, value: object) -> Value | Missing:
        """What a document holds for an attribute's value. ValidationError, with field and path, if nothing can."""
        if value is None:
            if self.nullable:
                return None if self.none == "null" else MISSING
            if not self.type.holds_none:
                raise ValidationError(f"expected {self.type.name}, got None", table=self.table, field=self.field)
        try:
            return self._dump(value)
        except ValidationError as error:
            unset = "required, and not set; give it, or the relation that sets it"
            raise self._placed(error, unset if value is UNSET else error.problem) from error.__cause__
        except (ConvexORMError, MemoryError):
            raise
        except Exception as error:  # of the value's own code
            problem = f"this {builtins.type(value).__name__} raises {builtins.type(error).__name__} when it is looked at"
            raise ValidationError(problem, table=self.table, field=self.field) from error

    def load(self, value: Value | Missing) -> T:
        """The attribute's value for what a document holds."""
        if value is MISSING or (value is None and (self.nullable or not self.type.holds_none)):
            if self.nullable:
                return None  # type: ignore[return-value]
            if self._default is not None:
                return self._default()  # type: ignore[no-any-return]
            raise ValidationError("the stored document lacks a required field", table=self.table, field=self.field)
        try:
            return self._load(value)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise self._placed(error, f"cannot be loaded: {error.problem}") from error.__cause__

    def _placed(self, error: ValidationError, problem: str) -> ValidationError:
        return ValidationError(problem, table=self.table, field=self.field, path=error.path)

    # the operand of a class

    def asc(self) -> Ordering:
        """Ascending, for `order_by`."""
        return Ordering(self.field, "asc", self.table)

    def desc(self) -> Ordering:
        """Descending, for `order_by`."""
        return Ordering(self.field, "desc", self.table)

    def stored(self) -> Stored:
        """What a document holds of it, for a change that is computed there; its default where that is missing or null."""
        default = self._default() if self._default is not None else None
        dumped = None if default is None else self.dump(default)
        return Stored(self.field, MISSING if dumped is None else dumped)

    def __getitem__(self, step: str | int) -> Path:
        return Path(self, (step,))

    def equality(self, value: object) -> Comparison:
        """`==` with a value that is not None."""
        return Comparison(self.field, "eq", self.operand(value), (), self.table)

    def _compare(self, op: Operator, value: object) -> Condition:
        if value is None and self._stored_either_way:  # missing and null are neighbours, and come before everything
            return Comparison(self.field, _EITHER_NONE[op], None, (), self.table)
        return self._bounded(op, self.operand(value, op))

    def _bounded(self, op: Operator, stored: Value | Missing) -> Condition:
        return Comparison(self.field, op, stored, (), self.table)

    def _member(self, values: Iterable[object]) -> Condition:
        values = list(values)
        held = tuple(self.operand(value) for value in values if value is not None)
        condition = Membership(self.field, held, (), self.table)
        none = any(value is None for value in values)
        return Combined("or", (condition, self._compare("eq", None))) if none else condition

    def _contained(self, op: Literal["contains", "endswith", "like"], value: Value) -> Condition:
        plain = (StrType, AnyType) if op != "contains" else (StrType, AnyType, ListType, SetType)
        if not isinstance(self.type, plain):
            problem = (
                f"{op}() asks in texts{' and arrays' if op == 'contains' else ''}, and a {self.type.name} is stored as none"
            )
            raise ValidationError(problem, table=self.table, field=self.field)
        if isinstance(value, str):
            self._checked(value)
        return Containment(self.field, op, value, (), self.table)

    def _element(self, value: object) -> Value:
        kind = self.type
        try:
            dumped = kind.item.dump(value) if isinstance(kind, ListType | SetType) else kind.dump(value)
        except ValidationError as error:
            raise self._placed(error, error.problem) from error.__cause__
        self._checked(dumped)
        return dumped

    def _checked(self, value: Value) -> None:
        try:
            check_value(value)
        except ValidationError as error:
            raise self._placed(error, error.problem) from None

    def operand(self, value: object, op: Operator = "eq") -> Value | Missing:
        """What documents hold for a value that the column is compared with by `op`. ValidationError, if nothing can."""
        if type(value) is str and self._is_text and value.isascii():  # the commonest: it is stored as it is
            return value
        if value is MISSING:
            return MISSING
        if value is None and not self.nullable:
            return self.dump(None) if self.type.holds_none else MISSING
        if op not in ("eq", "ne") and value is not None:
            if not self.type.ordered:
                problem = (
                    f"a {self.type.name} is stored in a form that has another order; it can be compared by == and in_()"
                )
                raise ValidationError(problem, table=self.table, field=self.field)
            try:
                dumped = self.type.bound(op, value)
            except ValidationError as error:
                raise self._placed(error, error.problem) from error.__cause__
        else:
            dumped = self.dump(value)
        if isinstance(dumped, list | dict) or is_number_array(dumped):
            try:
                check_value(dumped)
            except ValidationError as error:
                raise self._placed(error, error.problem) from None
        return dumped

    def __repr__(self) -> str:
        return f"<Column {self.table}.{self.field}>"

    __hash__ = object.__hash__


class Handed:
    """The attribute of a column whose values can be changed in place. Whoever looks at one may change it: its session is
    told each time, and keeps the instance until the next commit.
    """

    def __init__(self, column: Column[Any]) -> None:
        self._column = column
        self._name = column.name

    def __get__(self, instance: Model | None, owner: builtins.type[Model]) -> Any:
        if instance is None:
            return self._column
        attributes = instance.__dict__
        if self._name not in attributes:
            return self._column.__get__(instance, owner)
        state = instance._state
        if state.session is not None and state.held is not None:
            state.session.touch(instance)
        return attributes[self._name]

    def __set__(self, instance: Model, value: Any) -> None:
        instance.__dict__[self._name] = value

    def __delete__(self, instance: Model) -> None:
        if instance.__dict__.pop(self._name, UNSET) is UNSET:
            raise AttributeError(f"{type(instance).__name__}.{self._name} is not set")


def show(instance: Model, held: Any) -> dict[str, Any]:
    """Give an instance the attributes that its document, or the record of it, holds as they are; all that it has now."""
    attributes = instance.__dict__
    if type(held) is dict:
        instance.__mapper__.fill(attributes, held)
    else:
        held.show(attributes)
    return attributes


def unmade(instance: object) -> InvalidRequestError:
    """The error of an instance that `Model.__init__` has not made."""
    return InvalidRequestError(
        f"this {type(instance).__name__} is not made yet; call super().__init__(...) with its columns first, in each "
        "__init__ of the class and its bases, and leave out @dataclass"
    )


_EITHER_NONE: dict[Operator, Operator] = {
    "eq": "lte",
    "lte": "lte",
    "ne": "gt",
    "gt": "gt",
    "gte": "gte",
    "lt": "lt",
}


class Mapped(Generic[T]):
    """The annotation of a column: `rank: Mapped[float | None]`.

    Type checkers see a `Column[float | None]` on the class and a `float | None` on an instance.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> Column[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: object, owner: Any) -> Column[T] | T: ...

        def __set__(self, instance: object, value: T) -> None: ...
