"""Checking what the contract's methods are given, before anything is read or written.

Every check raises `InvalidArgument` with the operation, the argument and what would be right.

Who owns what, and which record is meant, is told by ids: `check_id` where one is needed, `check_optional_id` where none may
be given, `check_options` for mappings that hold them. Only what is not given, or None, is no id and no filter. What is as
good as nothing to Python (an empty text, 0, False, an empty list) is refused: taken for "no filter" it would answer what
is everybody's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

import attrs

from convexorm import ValidationError
from convexorm.types import JsonType, json_text
from convexorm.values import check_value, is_finite, is_whole
from mastra_convex.errors import InvalidArgument, named
from mastra_convex.instants import in_milliseconds

__all__ = [
    "DateRange",
    "Include",
    "MessageFilter",
    "OrderBy",
    "Paging",
    "ThreadFilter",
    "check_amount",
    "check_choice",
    "check_date_range",
    "check_flag",
    "check_id",
    "check_ids",
    "check_include",
    "check_instant",
    "check_json",
    "check_keys",
    "check_limit",
    "check_list",
    "check_mapping",
    "check_metadata_filter",
    "check_milliseconds",
    "check_optional_id",
    "check_optional_text",
    "check_options",
    "check_order",
    "check_paging",
    "check_several",
    "check_text",
    "check_texts",
    "check_whole",
    "naming",
]

MAX_SAFE_INTEGER = 2**53 - 1
"""JavaScript's: the contract's page numbers and offsets stay below it."""
_WHOLE = "a whole number from 0 to 2**53 - 1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VALUE = JsonType()
"""How whatever Convex has a value for is stored."""
_STRINGS = (str, bytes, bytearray, memoryview)
"""Sequences to Python; where several are meant, an empty one would be none of them."""
_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_FORBIDDEN_KEYS = frozenset(("constructor", "prototype", "__proto__"))


class OrderBy(TypedDict, total=False):
    """Which timestamp a list is ordered by, and whether the oldest (`ASC`) or the newest comes first."""

    field: Literal["created_at", "updated_at"]
    direction: Literal["ASC", "DESC"]


class DateRange(TypedDict, total=False):
    """Both ends belong to the range unless said otherwise; aware datetimes."""

    start: datetime
    end: datetime
    start_exclusive: bool
    end_exclusive: bool


class MessageFilter(TypedDict, total=False):
    """`metadata`: scalars that `content["metadata"]` must hold, exactly."""

    date_range: DateRange
    metadata: Mapping[str, str | float | bool | None]


class ThreadFilter(TypedDict, total=False):
    """`metadata`: JSON values that the thread's metadata must hold, exactly."""

    resource_id: str
    metadata: Mapping[str, Any]


class _IncludeId(TypedDict):
    id: str


class Include(_IncludeId, total=False):
    """A message to answer besides the page, with its neighbours in its own thread."""

    thread_id: str
    with_previous_messages: int
    with_next_messages: int


@attrs.frozen
class Paging:
    """Which part of a list: `per_page` False is all of it, 0 none of it."""

    page: int
    per_page: int | Literal[False]

    @property
    def offset(self) -> int:
        """How many items come before the part."""
        return 0 if self.per_page is False else self.page * self.per_page


def check_paging(
    operation: str, page: int, per_page: int | Literal[False] | None, *, default: int, one_page: bool = False
) -> Paging:
    """The part of a list asked for. With `one_page` a `per_page` of False allows only page 0, else it ignores the page."""
    size: int | Literal[False] = default if per_page is None else per_page
    if not is_whole(page):
        raise InvalidArgument(_WHOLE, operation=operation, argument="page", status="INVALID_PAGE")
    if size is not False and not is_whole(size):
        raise InvalidArgument(
            f"{_WHOLE}, or False for all", operation=operation, argument="per_page", status="INVALID_PAGE"
        )
    if size is False and one_page and page != 0:
        raise InvalidArgument("0 when per_page is False", operation=operation, argument="page", status="INVALID_PAGE")
    if size is not False and (page + 1) * size >= MAX_SAFE_INTEGER:  # one more is read, to see whether there is one
        argument = "page" if page else "per_page"
        raise InvalidArgument("too large", operation=operation, argument=argument, status="INVALID_PAGE")
    return Paging(page, size)


def check_order(
    operation: str, order_by: OrderBy | None, *, fields: Sequence[str], direction: Literal["ASC", "DESC"]
) -> tuple[str, Literal["asc", "desc"]]:
    """The attribute and the direction to order by."""
    given = check_options(operation, "order_by", order_by, ("field", "direction"))
    field, chosen = given.get("field"), given.get("direction")
    field, chosen = fields[0] if field is None else field, direction if chosen is None else chosen
    if field not in fields:
        raise InvalidArgument(f"field is one of {', '.join(fields)}", operation=operation, argument="order_by")
    if chosen not in ("ASC", "DESC"):
        raise InvalidArgument("direction is 'ASC' or 'DESC'", operation=operation, argument="order_by")
    return field, "asc" if chosen == "ASC" else "desc"


def check_mapping(operation: str, argument: str, value: object) -> Mapping[str, Any]:
    """A mapping, of whatever keys."""
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"a mapping, got {type(value).__name__}", operation=operation, argument=argument)
    return value


def check_keys(operation: str, argument: str, value: object, known: Sequence[str]) -> Mapping[str, Any]:
    """A mapping with no other keys than these."""
    mapping = check_mapping(operation, argument, value)
    for key in mapping:
        if key not in known:
            raise InvalidArgument(
                f"no key {named(key)}; there are {', '.join(known)}", operation=operation, argument=argument
            )
    return mapping


def check_options(operation: str, argument: str, value: object, known: Sequence[str]) -> Mapping[str, Any]:
    """A mapping with no other keys than these, which may be left out: None is an empty one, and nothing else is."""
    return {} if value is None else check_keys(operation, argument, value, known)


def check_id(operation: str, argument: str, value: object) -> str:
    """A record's id, or its owner's: a string with something in it."""
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise InvalidArgument(
            "a non-empty string", operation=operation, argument=argument, status=f"INVALID_{argument.upper()}"
        )
    return value


def _is_unicode(text: str) -> bool:
    """Whether text can be stored: half of a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_optional_id(operation: str, argument: str, value: object) -> str | None:
    """An id where one may be given: None is none."""
    return None if value is None else check_id(operation, argument, value)


def check_ids(operation: str, argument: str, value: object) -> list[str]:
    """One record id or several, each once, in order."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not values:
        raise InvalidArgument(
            "a non-empty string, or several",
            operation=operation,
            argument=argument,
            status=f"INVALID_{argument.upper()}",
        )
    return list(dict.fromkeys(check_id(operation, argument, one) for one in values))


def check_instant(operation: str, argument: str, value: object) -> datetime:
    """An aware datetime, or the ISO text of one, in UTC milliseconds as rows hold it."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidArgument("not an ISO timestamp", operation=operation, argument=argument) from None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        kind = "a naive datetime" if isinstance(value, datetime) else type(value).__name__
        raise InvalidArgument(f"an aware datetime, got {kind}", operation=operation, argument=argument)
    instant = in_milliseconds(value)
    if instant.utcoffset():  # it has no other form
        raise InvalidArgument("a time in the years 1 to 9999 of UTC", operation=operation, argument=argument)
    return instant


def check_milliseconds(operation: str, argument: str, value: object) -> int:
    """An instant in JavaScript's milliseconds: a whole number of them, or an aware datetime, cut off to milliseconds."""
    if isinstance(value, datetime):
        return (check_instant(operation, argument, value) - _EPOCH) // timedelta(milliseconds=1)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_SAFE_INTEGER:
        raise InvalidArgument("whole milliseconds, or an aware datetime", operation=operation, argument=argument)
    return value


def check_limit(operation: str, argument: str, value: object) -> int | None:
    """How many at most, None for all."""
    if value is not None and not is_whole(value):
        raise InvalidArgument(f"{_WHOLE}, or None", operation=operation, argument=argument)
    return value  # type: ignore[return-value]


def check_whole(operation: str, argument: str, value: object) -> int:
    """A whole number from 0."""
    if not is_whole(value):
        raise InvalidArgument(_WHOLE, operation=operation, argument=argument)
    return value  # type: ignore[return-value]


def check_amount(operation: str, argument: str, value: object, status: str | None = None) -> float:
    """A finite number from 0, such as tokens or milliseconds; `status` is that of the error."""
    if not is_finite(value) or value < 0:  # type: ignore[operator]
        raise InvalidArgument("a finite number from 0", operation=operation, argument=argument, status=status)
    return value  # type: ignore[return-value]


def check_flag(operation: str, argument: str, value: object) -> bool:
    """True or False, and nothing that is as good as either."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"True or False, got {type(value).__name__}", operation=operation, argument=argument)
    return value


def check_text(operation: str, argument: str, value: object) -> str:
    """A string, which may be empty, and can be stored."""
    if not isinstance(value, str):
        raise InvalidArgument(f"a string, got {type(value).__name__}", operation=operation, argument=argument)
    if not _is_unicode(value):
        raise InvalidArgument("text without half a surrogate pair", operation=operation, argument=argument)
    return value


def check_optional_text(operation: str, argument: str, value: object) -> str | None:
    """A string, or None."""
    return None if value is None else check_text(operation, argument, value)


def check_list(operation: str, argument: str, value: object) -> Sequence[Any]:
    """A sequence that is no string and no bytes, of whatever items."""
    if isinstance(value, _STRINGS) or not isinstance(value, Sequence):
        raise InvalidArgument(f"a list, got {type(value).__name__}", operation=operation, argument=argument)
    return value


def check_several(operation: str, argument: str, value: object) -> list[Any]:
    """Several items, out of whatever gives them one by one: no string, no bytes and no mapping."""
    if isinstance(value, (*_STRINGS, Mapping)) or not isinstance(value, Iterable):
        raise InvalidArgument(
            f"several, such as a list, got {type(value).__name__}", operation=operation, argument=argument
        )
    return list(value)


def check_texts(operation: str, argument: str, value: object) -> list[str]:
    """A list of strings."""
    return [check_text(operation, argument, one) for one in check_list(operation, argument, value)]


def check_choice(operation: str, argument: str, value: object, choices: Sequence[str]) -> str:
    """One of a few strings."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgument(f"one of {', '.join(map(repr, choices))}", operation=operation, argument=argument)
    return value


@contextmanager
def naming(operation: str, argument: str) -> Iterator[None]:
    """Whatever is refused inside as a value that cannot be stored is refused as this argument of the operation, or without
    one as the argument that has the name of what is stored."""
    try:
        yield
    except InvalidArgument:
        raise
    except ValidationError as error:
        attribute = _attribute(error.field or "")
        within = bool(attribute and argument) and re.split(r"[.\[]", attribute)[0] != argument
        place = f"{argument}.{attribute}" if within else attribute or argument
        raise InvalidArgument(error.problem, operation=operation, argument=place) from error


def _attribute(field: str) -> str:
    """The attribute of a field, with the rest of its path: `observed_message_ids[0]` of `observedMessageIds[0]`."""
    return _FIELD.sub(lambda name: re.sub(r"(?<=[a-z])[A-Z]", lambda one: f"_{one[0].lower()}", name[0]), field, count=1)


_FIELD = re.compile(r"\A\w+")


def check_json(operation: str, argument: str, value: object) -> Any:
    """A JSON value as it will be read back: lists for tuples, ISO text for datetimes."""
    with naming(operation, argument):
        text = json_text(value)
        check_value(text)
    return json.loads(text)


def check_date_range(operation: str, value: object) -> DateRange:
    """A range of dates in UTC milliseconds, None for any; both `exclusive` keys are there, an end not given is not."""
    keys = ("start", "end", "start_exclusive", "end_exclusive")
    given = check_options(operation, "date_range", value, keys)
    checked: DateRange = {"start_exclusive": False, "end_exclusive": False}
    if given.get("start_exclusive") is not None:
        checked["start_exclusive"] = check_flag(operation, "date_range.start_exclusive", given["start_exclusive"])
    if given.get("end_exclusive") is not None:
        checked["end_exclusive"] = check_flag(operation, "date_range.end_exclusive", given["end_exclusive"])
    # Between two milliseconds nothing is stored: what is from there on is what is after the first; so for what is before.
    if given.get("start") is not None:
        checked["start"] = check_instant(operation, "date_range.start", given["start"])
        checked["start_exclusive"] |= _is_later(given["start"], checked["start"])
    if given.get("end") is not None:
        checked["end"] = check_instant(operation, "date_range.end", given["end"])
        checked["end_exclusive"] &= not _is_later(given["end"], checked["end"])
    return checked


def _is_later(given: datetime | str, instant: datetime) -> bool:
    return (datetime.fromisoformat(given) if isinstance(given, str) else given) > instant


def check_metadata_filter(operation: str, value: object, *, scalars: bool) -> Mapping[str, Any]:
    """Metadata to filter by, None for any: keys are identifiers of at most 128 characters; with `scalars` values are JSON
    scalars.
    """
    given = {} if value is None else check_mapping(operation, "metadata", value)
    for key, one in given.items():
        if not isinstance(key, str) or not _METADATA_KEY.match(key) or key in _FORBIDDEN_KEYS:
            raise InvalidArgument(
                f"key {named(key)} cannot be filtered by; keys are letters, digits and underscores, at most 128",
                operation=operation,
                argument="metadata",
                status="INVALID_METADATA_KEY",
            )
        scalar = one is None or isinstance(one, str | bool) or is_finite(one)
        if scalars and not scalar:
            raise InvalidArgument(
                f"the value of {named(key)} is a string, a finite number, a boolean or None",
                operation=operation,
                argument="metadata",
                status="INVALID_METADATA_VALUE",
            )
        with naming(operation, "metadata"):
            check_value(_VALUE.dump(one))
    return given


def check_include(operation: str, value: Sequence[Include] | None) -> list[Include]:
    """The windows asked for, sizes filled in."""
    keys = ("id", "thread_id", "with_previous_messages", "with_next_messages")
    windows: list[Include] = []
    for one in () if value is None else check_list(operation, "include", value):
        given = check_keys(operation, "include", one, keys)
        window: Include = {"id": check_id(operation, "include.id", given.get("id"))}
        check_optional_id(operation, "include.thread_id", given.get("thread_id"))
        for key in ("with_previous_messages", "with_next_messages"):
            count = given.get(key)
            window[key] = 0 if count is None else check_whole(operation, f"include.{key}", count)
        windows.append(window)
    return windows
