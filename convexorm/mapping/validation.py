"""Validators: a column's `validator=` and a class's `__validate__`, whichever way values come in.

Their errors become ValidationErrors. A column's validator names the value it refuses, so that is left out of its words;
what `__validate__` says is said as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.hooks import check_done

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = ["check_value_of", "check_values_of", "check_whole", "telling", "validate", "validate_changes", "validators_in"]

_SHORT = 3
"""Characters of a text that stands in many a word."""


def validators_in(told: Any) -> tuple[Any, ...]:
    """What a column was told as its validator: none, one, or several in a list."""
    return tuple(told) if isinstance(told, list | tuple) else () if told is None else (told,)


def telling(validator: Any, table: str, field: str) -> Callable[[Any, Any, Any], None] | None:
    """A column's validator, or several in a list, as attrs takes it; it tells of one that would have to be awaited."""
    each = validators_in(validator)
    if not each or all(attrs.has(type(one)) for one in each):  # attrs' own: they answer nothing
        return validator  # type: ignore[no-any-return]

    def check(instance: Any, attribute: Any, value: Any) -> None:
        for one in each:
            answer = one(instance, attribute, value)
            if answer is not None:
                check_done(answer, "a validator", table, field)

    return check


def validate(instance: Model, changed: Container[str] | None = None) -> None:
    """Run all validators on an instance, or those of the fields that were `changed`. Raises ValidationError."""
    if not instance.__mapper__.validated:
        return
    columns = instance.__mapper__.columns
    for attribute in attrs.fields(type(instance)):  # type: ignore[arg-type]
        if attribute.validator is not None and (changed is None or columns[attribute.name].field in changed):
            check_value_of(instance, attribute, getattr(instance, attribute.name))
    check_whole(instance)


def validate_changes(model: type[Model], values: Mapping[str, Any], partial: Model) -> None:
    """Run the validators of attributes that are set without an instance; `partial` has them and nothing else.

    Raises ValidationError, and InvalidRequestError if `__validate__` looks at an attribute that is not among them.
    """
    if not model.__mapper__.validated:
        return
    for attribute in attrs.fields(model):  # type: ignore[arg-type]
        if attribute.validator is not None and attribute.name in values:
            check_value_of(partial, attribute, values[attribute.name])
    try:
        check_whole(partial)
    except AttributeError:
        raise InvalidRequestError(
            f"{model.__name__}.__validate__ looks at attributes that are not given: give them too, or load the instance "
            "and change it"
        ) from None


def check_value_of(instance: Model, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Run a column's validator on a value. Raises ValidationError."""
    validator = attribute.validator
    if validator is None:
        return
    try:
        validator(instance, attribute, value)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise
        words = _without(str(error.args[0] if error.args else "not accepted"), value)
        mapper = instance.__mapper__
        raise ValidationError(words, table=mapper.name, field=mapper.columns[attribute.name].field) from None


def _without(words: str, value: object) -> str:
    """What is said of a value, without the value.

    A number is one by itself: `1` is not in `n1`, nor in `10`. So is a short text, which is a part of many words; blanks
    tell of nothing.
    """
    if isinstance(value, int | float):
        return _without_alone(words, repr(value))
    words = words.replace(repr(value), "…")
    if not isinstance(value, str) or not value.strip():
        return words
    return words.replace(value, "…") if len(value) > _SHORT else _without_alone(words, value)


def _without_alone(words: str, text: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", words)


def check_values_of(instance: Model, values: Mapping[str, Any]) -> None:
    """Run the columns' validators on what attributes are about to be set to. Raises ValidationError."""
    if not instance.__mapper__.validated:
        return
    for attribute in attrs.fields(type(instance)):  # type: ignore[arg-type]
        if attribute.name in values:
            check_value_of(instance, attribute, values[attribute.name])


def check_whole(instance: Model) -> None:
    """Run the `__validate__` of the class, if it has one. Raises ValidationError."""
    check = getattr(instance, "__validate__", None)
    if check is None:
        return
    table = instance.__mapper__.name
    try:
        answer = check()
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError(str(error) or "not accepted", table=table) from error
    if answer is not None:
        check_done(answer, "a validator", table, "__validate__")
