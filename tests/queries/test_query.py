"""Queries: how conditions become ranges and filters, what `explain` says, and what is refused while building."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convexorm import (
    Condition,
    FullTableScanError,
    IndexRangeError,
    LimitExceeded,
    Query,
    ValidationError,
    and_,
    not_,
    or_,
)
from convexorm.conditions import Combined, Comparison, Membership, Negated
from convexorm.requests import MAX_RANGES, Bound
from convexorm.values import MISSING
from tests.models import Anything, Everything, Note, Task

DAY = datetime(2024, 5, 17, tzinfo=UTC)
DAY_MS = DAY.timestamp() * 1_000
NEXT_DAY = DAY + timedelta(days=1)


# -- ranges --------------------------------------------------------------------------------------------------------


def test_equalities_on_a_prefix_are_a_range() -> None:
    read = Task.query().by_index("by_owner", owner_id="u1").plan()
    assert (read.range.index, read.range.eq, read.range.lower, read.range.upper) == ("by_owner", ("u1",), None, None)
    assert read.filter is None


def test_equalities_are_taken_in_index_order_however_they_are_given() -> None:
    assert Task.query().by_index("by_owner", done=True, owner_id="u1").plan().range.eq == ("u1", True)


def test_bounds_on_the_next_field_are_part_of_the_range() -> None:
    read = Task.query().by_index("by_owner_and_due", Task.due >= DAY, Task.due < NEXT_DAY, owner_id="u1").plan()
    assert read.range.eq == ("u1",)
    assert read.range.lower == Bound(DAY_MS, True)
    assert read.range.upper == Bound(DAY_MS + 86_400_000, False)


def test_every_index_ends_with_the_creation_time() -> None:
    read = Task.query().by_index("by_owner", Task.creation_time > 5.0, owner_id="u1", done=True).plan()
    assert (read.range.eq, read.range.lower) == (("u1", True), Bound(5.0, False))


def test_an_index_is_named_by_its_attribute_too() -> None:
    assert Task.query().by_index(Task.by_owner, owner_id="u") == Task.query().by_index("by_owner", owner_id="u")
    assert repr(Task.by_owner) == "<Index by_owner (owner_id, done)>"
    with pytest.raises(IndexRangeError, match=r"no such index; there are .*by_owner"):
        Task.query().by_index(Note.by_title, title="x")


def test_conditions_have_so_many_levels() -> None:
    condition = Task.text == "x"
    for _ in range(19):
        condition = (Task.rank == 1.0) & condition if condition.levels % 2 else (Task.rank == 2.0) | condition
    with pytest.raises(LimitExceeded, match="levels of a condition: at most 20, got 21"):
        (Task.rank == 2.0) & (condition | (Task.rank == 3.0))


def test_between_and_startswith_are_ranges() -> None:
    between = Task.query().by_index("by_rank", Task.rank.between(1.0, 2.0)).plan().range
    assert (between.lower, between.upper) == (Bound(1.0, True), Bound(2.0, True))
    prefix = Note.query().by_index("by_title", Note.title.startswith("ab")).plan().range
    assert (prefix.lower, prefix.upper) == (Bound("ab", True), Bound("ac", False))


@pytest.mark.parametrize(
    ("prefix", "behind"),
    [("a", "b"), ("", b""), ("a\U0010ffff", "b"), ("\ud7ff".encode().decode(), "\ue000"), ("\U0010ffff", b"")],
)
def test_a_prefix_ends_before_the_next_string(prefix: str, behind: object) -> None:
    upper = Note.query().by_index("by_title", Note.title.startswith(prefix)).plan().range.upper
    assert upper == Bound(behind, False)


def test_none_is_asked_for_in_the_form_it_is_stored() -> None:
    def condition(one: Condition) -> Condition:
        return one

    assert condition(Everything.absent == None) == Comparison("absent", "eq", MISSING)  # noqa: E711
    assert Everything.null.is_(None) == Comparison("null", "eq", None)
    assert Everything.either.is_(None) == Comparison("either", "lte", None)
    assert Everything.either.is_not(None) == Comparison("either", "gt", None)
    assert Task.rank.is_(None) == Comparison("rank", "eq", MISSING)
    assert Anything.a.is_(None) == Comparison("a", "eq", None)
    assert Everything.text_json.is_(None) == Comparison("textJson", "eq", "null")


def test_where_continues_the_range_of_the_index() -> None:
    query = Task.query().by_index("by_owner", owner_id="u1").where(Task.done.is_(True), Task.text != "")
    read = query.plan()
    assert read.range.eq == ("u1", True)
    assert read.filter == Comparison("text", "ne", "")


def test_no_condition_of_by_index_is_lost_when_where_says_more_about_its_field() -> None:
    query = Task.query().by_index("by_owner_and_due", Task.due > DAY, owner_id="u")
    assert query.where(Task.due == NEXT_DAY).plan().range.eq == ("u", DAY_MS + 86_400_000)
    assert query.where(Task.due == DAY).plan().range.union == ()


def test_of_two_bounds_on_one_side_the_narrower_is_the_range() -> None:
    read = Task.query().by_index("by_rank", Task.rank > 1.0).where(Task.rank > 2.0, Task.rank < 9.0).plan()
    assert (read.range.lower, read.range.upper, read.filter) == (Bound(2.0, False), Bound(9.0, False), None)


# -- unions --------------------------------------------------------------------------------------------------------


def ranges(*conditions: Condition) -> list[tuple[tuple[Any, ...], Bound | None, Bound | None]]:
    read = Task.query().where(*conditions).plan()
    assert read.filter is None
    return [(part.eq, part.lower, part.upper) for part in read.range.parts]


def above(value: Any, *, inclusive: bool = False) -> Bound:
    return Bound(value, inclusive)


below = above


def test_the_values_of_a_membership_are_ranges_in_the_order_of_the_index() -> None:
    assert ranges(Task.owner_id.in_(["b", "a", "b"])) == [(("a",), None, None), (("b",), None, None)]
    assert ranges(Task.owner_id.in_(["b"])) == [(("b",), None, None)]
    assert ranges(Task.owner_id.in_([])) == []
    assert ranges(Task.rank.in_([2.0, None])) == [((MISSING,), None, None), ((2.0,), None, None)]


def test_memberships_of_several_fields_are_crossed() -> None:
    assert ranges(Task.owner_id.in_(["a", "b"]), Task.done.in_([True, False])) == [
        ((owner, done), None, None) for owner in "ab" for done in (False, True)
    ]
    assert ranges(Task.owner_id.in_(["a", "b"]), Task.due > DAY) == [((owner,), above(DAY_MS), None) for owner in "ab"]


def test_alternatives_are_ranges_that_have_nothing_in_common() -> None:
    assert ranges((Task.rank > 5.0) | (Task.rank < 1.0)) == [((), None, below(1.0)), ((), above(5.0), None)]
    assert ranges((Task.rank > 1.0) | (Task.rank.between(0.0, 2.0))) == [((), Bound(0.0, True), None)]
    nested = (
        (Task.owner_id == "a")
        | ((Task.owner_id == "b") & (Task.done.is_(True)))
        | ((Task.owner_id == "a") & Task.done.is_(False))
    )
    assert ranges(nested) == [(("a",), None, None), (("b", True), None, None)]


def test_what_is_unlike_a_value_lies_on_both_sides_of_it() -> None:
    both = [((), None, below(1.0)), ((), above(1.0), None)]
    assert ranges(Task.rank != 1.0) == ranges(~(Task.rank == 1.0)) == ranges(Task.rank.not_in([1.0])) == both
    assert ranges(~((Task.rank < 1.0) | (Task.rank > 2.0))) == [((), Bound(1.0, True), Bound(2.0, True))]
    assert ranges(Task.owner_id == "a", ~(Task.done.is_(True))) == [
        (("a",), None, below(True)),
        (("a",), above(True), None),
    ]


def test_conditions_that_exclude_each_other_read_nothing() -> None:
    query = Task.query().where(Task.rank > 2.0, Task.rank < 1.0)
    assert query.plan().range.union == ()
    assert "range   none: the conditions exclude each other" in query.explain()


def test_an_alternative_that_no_index_covers_is_filtered() -> None:
    either = (Task.owner_id == "a") | (Task.text == "x")
    with pytest.raises(FullTableScanError):
        Task.query().where(either).plan()
    read = Task.query().where(Task.owner_id.in_(["a", "b"]), either).plan()
    assert ([part.eq for part in read.range.parts], read.filter) == ([("a",), ("b",)], either)


def test_by_index_with_several_values_for_a_field_behind_its_equalities() -> None:
    read = Task.query().by_index("by_owner", owner_id="u").where(Task.done.in_([True, False])).plan()
    assert [part.eq for part in read.range.parts] == [("u", False), ("u", True)]


def test_very_many_values_are_read_in_fewer_ranges_and_filtered() -> None:
    condition = Task.rank.in_(map(float, range(4 * MAX_RANGES)))
    read = Task.query().where(condition).plan()
    assert len(read.range.parts) == MAX_RANGES
    assert (read.range.parts[0].lower, read.range.parts[0].upper) == (Bound(0.0, True), Bound(3.0, True))
    assert read.filter == condition
    read.range.check()


def test_a_long_alternative_is_planned_at_once() -> None:
    condition = or_(*(Task.rank == float(number) for number in range(2_000)))
    assert len(Task.query().where(condition).plan().range.parts) == 2_000


def test_where_alone_picks_the_index_that_covers_most() -> None:
    assert Task.query().where(Task.owner_id == "u", Task.due > DAY).plan().range.index == "by_owner_and_due"
    assert Task.query().where(Task.owner_id == "u", Task.done.is_(True)).plan().range.index == "by_owner"
    assert Task.query().where(Task.rank > 1.0).plan().range.index == "by_rank"
    assert Task.query().where(Task.convex_id == "x").plan().range.index == "by_id"
    assert Task.query().where(Task.creation_time > 1.0).plan().range.index == "by_creation_time"


@pytest.mark.parametrize(
    "query",
    [
        Task.query(),
        Task.query().where(Task.text == "x"),
        Task.query().where(Task.done.is_(True)),
        Task.query().where(or_(Task.owner_id == "a", Task.text == "b")),
        Task.query().where(~(Task.text == "x")),
    ],
    ids=["nothing", "no index", "not a prefix", "or", "not"],
)
def test_what_no_index_covers_must_say_full_scan(query: Query[Task]) -> None:
    with pytest.raises(FullTableScanError, match="full_scan") as refused:
        query.plan()
    assert refused.value.indexes == ("by_owner", "by_owner_and_due", "by_rank")
    assert query.full_scan().plan().range.index == "by_creation_time"
    assert "refused" in query.explain()


def test_a_query_is_immutable() -> None:
    query = Task.query().by_index("by_rank")
    query.where(Task.done.is_(True)).order("desc").limit(3)
    read = query.plan()
    assert (read.filter, read.order, read.limit) == (None, "asc", None)
    with pytest.raises(AttributeError):
        query._limit = 5  # type: ignore[misc]


# -- conditions ----------------------------------------------------------------------------------------------------


def test_conditions_combine_with_operators_and_functions() -> None:
    a, b = Task.text == "a", Task.text == "b"
    assert (a & b) == and_(a, b) == Combined("and", (a, b))
    assert (a | b) == or_(a, b) == Combined("or", (a, b))
    assert ~a == not_(a) == Negated(a)


def test_conditions_have_no_truth_value() -> None:
    with pytest.raises(TypeError, match="truth value"):
        bool(Task.text == "a")


def test_membership_is_one_condition() -> None:
    assert Task.text.in_(["a", "b"]) == Membership("text", ("a", "b"))
    assert Task.text.not_in(["a"]) == Negated(Membership("text", ("a",)))
    assert Task.rank.in_([1.0, None]) == Combined("or", (Membership("rank", (1.0,)), Comparison("rank", "eq", MISSING)))


def test_paths_reach_into_a_column() -> None:
    assert (Note.meta["a"][0]["b"] == 1) == Comparison("meta", "eq", 1, ("a", 0, "b"))
    assert Note.meta["a"].in_([1, "x"]) == Membership("meta", (1, "x"), ("a",))


# -- what is refused -----------------------------------------------------------------------------------------------

RANGE_ERRORS: dict[str, Any] = {
    "an unknown index": lambda: Task.query().by_index("by_nothing"),
    "an unknown attribute": lambda: Task.query().by_index("by_owner", nobody="u"),
    "an equality out of order": lambda: Task.query().by_index("by_owner", done=True),
    "an equality behind a range": lambda: Task.query().by_index("by_owner", Task.owner_id > "a", done=True),
    "a range in the middle": lambda: Task.query().by_index("by_owner", Task.owner_id > "a", Task.done.is_(True)),
    "a range on a later field": lambda: Task.query().by_index("by_owner", Task.done >= False),
    "two lower bounds": lambda: Task.query().by_index("by_rank", Task.rank > 1.0, Task.rank >= 2.0),
    "an equality and a bound": lambda: Task.query().by_index("by_rank", Task.rank > 1.0, rank=2.0),
    "a field of another index": lambda: Task.query().by_index("by_rank", Task.text == "x"),
    "an inequality": lambda: Task.query().by_index("by_rank", Task.rank != 1.0),
    "an alternative": lambda: Task.query().by_index("by_rank", (Task.rank == 1.0) | (Task.rank == 2.0)),
    "a membership": lambda: Task.query().by_index("by_rank", Task.rank.in_([1.0])),
    "a path": lambda: Note.query().by_index("by_title", Note.title["a"] == 1),
}


@pytest.mark.parametrize("name", RANGE_ERRORS)
def test_what_is_no_range_of_the_index_is_refused_while_building(name: str) -> None:
    with pytest.raises(IndexRangeError) as refused:
        RANGE_ERRORS[name]()
    assert refused.value.table in ("tasks", "notes")
    assert refused.value.index in str(refused.value)


def test_a_range_error_tells_the_index_its_fields_and_what_was_given() -> None:
    with pytest.raises(IndexRangeError) as refused:
        Task.query().by_index("by_owner", done=True)
    error = refused.value
    assert (error.table, error.index, error.fields) == ("tasks", "by_owner", ("ownerId", "done", "_creationTime"))
    assert "done =" in str(error)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (Task.owner_id != "confidential", "ownerId !="),
        (Task.owner_id.in_(["confidential"]), "ownerId in"),
        (~(Task.owner_id == "confidential"), "is no range"),
        ((Task.owner_id == "confidential") | (Task.rank == 1.0), "or_(...)"),
    ],
    ids=["other than", "a membership", "a negation", "an alternative"],
)
def test_a_range_error_does_not_tell_what_is_compared_with(condition: Condition, told: str) -> None:
    with pytest.raises(IndexRangeError) as refused:
        Task.query().by_index("by_owner", condition)
    assert told in str(refused.value)
    assert "confidential" not in str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [Note.body == "x", Note.body["a"] == 1, (Task.rank == 1.0) | ~(Note.body.in_(["x"]))],
    ids=["a comparison", "a path", "deep inside"],
)
def test_a_condition_on_another_models_field_is_refused(condition: Condition) -> None:
    with pytest.raises(ValidationError, match=r"there are text, ownerId, .*_creationTime") as refused:
        Task.query().where(condition)
    assert (refused.value.table, refused.value.field) == ("tasks", "body")


def test_conditions_on_system_fields_are_taken() -> None:
    query = Task.query().where(Task.creation_time > 0, Task.convex_id != "x").full_scan()
    assert query.plan().filter is not None


@pytest.mark.parametrize("values", ["abc", b"abc"], ids=["text", "bytes"])
def test_a_membership_takes_several_values(values: Any) -> None:
    for member in (Task.owner_id.in_, Task.owner_id.not_in, Note.title["a"].in_):
        with pytest.raises(ValidationError, match="several values"):
            member(values)


VALUE_ERRORS: dict[str, tuple[Any, str]] = {
    "a wrong type": (lambda: Task.rank >= "x", "rank"),  # type: ignore[operator]
    "a wrong type in by_index": (lambda: Task.query().by_index("by_owner", owner_id=1), "ownerId"),
    "bytes for a text": (lambda: Task.text == b"", "text"),
    "bytes for a number": (lambda: Task.rank == b"", "rank"),
    "a bool for a number": (lambda: Task.rank == True, "rank"),  # noqa: E712
    "a naive datetime": (lambda: Task.due >= datetime(2024, 1, 1), "due"),
    "NaN": (lambda: Task.rank == math.nan, "rank"),
    "an integer past 2**53": (lambda: Task.rank == 2**53 + 1, "rank"),
    "a lone surrogate": (lambda: Task.text == "\ud800", "text"),
    "a lone surrogate in a list": (lambda: Task.text.in_(["\ud800"]), "text"),
    "a key that is not ASCII": (lambda: Anything.a == {"é": 1}, "a"),
    "17 levels": (lambda: Anything.a == [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]], "a"),
    "an int64 too large": (lambda: Everything.big == 2**63, "big"),
}


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_what_a_column_cannot_hold_cannot_be_asked_for(name: str) -> None:
    build, bad = VALUE_ERRORS[name]
    with pytest.raises(ValidationError) as refused:
        build()
    assert (refused.value.field or "").split(".")[-1] == bad


def test_a_path_cannot_be_compared_with_what_convex_cannot_hold() -> None:
    with pytest.raises(ValidationError, match="NaN"):
        Note.meta["a"] == math.nan  # noqa: B015
    with pytest.raises(LimitExceeded):
        Note.meta["a"].in_([[0] * 8_193])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Task.query().limit(-1),
        lambda: Task.query().limit(True),
        lambda: Task.query().limit(1.5),  # type: ignore[arg-type]
        lambda: Task.query().order("up"),  # type: ignore[arg-type]
        lambda: Task.query().order(Task.rank),  # type: ignore[arg-type]
        lambda: Task.query().where(True),  # type: ignore[arg-type]
    ],
    ids=["negative limit", "bool limit", "float limit", "order", "a column as order", "no condition"],
)
def test_other_misuse_is_refused_while_building(build: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        build()
    assert refused.value.table == "tasks"


# -- explain -------------------------------------------------------------------------------------------------------


def test_explain_tells_table_index_range_filter_order_and_limit() -> None:
    query = (
        Task.query()
        .by_index("by_owner_and_due", Task.due >= DAY, owner_id="u1")
        .where(Task.text != "", ~(Task.rank < 1.0) | Task.text.in_(["a"]))
        .order("desc")
        .limit(20)
    )
    assert query.explain() == (
        "table   tasks\n"
        "index   by_owner_and_due (ownerId, due, _creationTime)\n"
        f'range   ownerId = "u1" and due >= {DAY_MS:.1f}\n'
        'filter  (text != "") and ((not (rank < 1.0)) or (text in ["a"]))\n'
        "order   desc\n"
        "limit   20"
    )


def test_explain_of_everything_says_so() -> None:
    text = Task.query().full_scan().explain()
    assert "range   the whole table" in text
    assert "filter  none" in text
    assert "limit   none" in text
    assert "range   the whole index" in Task.query().by_index("by_rank").explain()


def test_explain_shows_paths_and_missing_fields() -> None:
    query = Note.query().full_scan().where(Note.meta["a"][0] == 1, Note.meta.is_(None))
    assert 'filter  (meta["a"][0] = 1) and (meta = missing)' in query.explain()
