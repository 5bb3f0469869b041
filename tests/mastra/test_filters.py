"""The filter language, held to a table of cases and to an evaluator written a second time, straight from the rules.

`filter_cases.json` has one row a case: a filter, metadata, and whether it matches, or what the error says. JSON lacks some
operands; an object with one key spells them: `@datetime` (ISO text), `@naive`, `@date`, `@float`, `@pattern`
(text, then flags), `@bytes`, `@set`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convexorm.values import MISSING
from mastra_convex.errors import InvalidArgument
from mastra_convex.filters import MAX_NESTING, AllOf, AnyOf, Filter, Leaf, Node, Not, Several, compile_filter, reached

SPELLED: dict[str, Callable[[Any], Any]] = {
    "@datetime": datetime.fromisoformat,
    "@naive": datetime.fromisoformat,
    "@date": date.fromisoformat,
    "@float": float,
    "@pattern": lambda given: re.compile(given[0], sum(int(re.RegexFlag[letter.upper()]) for letter in given[1])),
    "@bytes": str.encode,
    "@set": set,
}


def spelled(pairs: dict[str, Any]) -> Any:
    name = next(iter(pairs), "")
    return SPELLED[name](pairs[name]) if name in SPELLED else pairs


CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "filter_cases.json").read_text(encoding="utf-8"), object_hook=spelled
)
MATCHING = [case for case in CASES if "matches" in case]
REFUSED = [case for case in CASES if "error" in case]


def compiled(filter: Mapping[str, Any] | None) -> Filter:
    return compile_filter(filter, operation="query")


@pytest.mark.parametrize("case", MATCHING, ids=lambda case: f"{case['filter']} on {case['metadata']}")
def test_a_case_of_the_table_matches_or_not(case: dict[str, Any]) -> None:
    assert compiled(case["filter"]).matches(case["metadata"]) is case["matches"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case["filter"])[:60])
def test_a_case_of_the_table_is_refused_when_compiled(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(case["error"])) as caught:
        compiled(case["filter"])
    assert (caught.value.operation, caught.value.argument) == ("query", "filter")


def test_the_table_has_every_operator_in_a_match_a_miss_and_an_error() -> None:
    operators = set(re.findall(r"\$[a-zA-Z]+", _refusal({"a": {"$unknown": 1}}))) - {"$unknown"}
    assert len(operators) == 19
    for name, cases in {
        "match": [case for case in MATCHING if case["matches"]],
        "miss": [case for case in MATCHING if not case["matches"]],
        "error": REFUSED,
    }.items():
        shown = set(re.findall(r"\$[a-zA-Z]+", str([case["filter"] for case in cases])))
        assert operators <= shown, name


def _refusal(filter: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        compiled(filter)
    return str(caught.value)


# -- a second evaluator --------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    if isinstance(b, datetime):
        return isinstance(a, str) and parsed(a) == b
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    return isinstance(a, int | float) == isinstance(b, int | float) and bool(a == b)


def parsed(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text) else None


def values_at(value: Any, steps: list[str]) -> list[Any]:
    """The ends of a path; MISSING for an element of an array, an object, that has none."""
    if not steps:
        return [value]
    if isinstance(value, dict):
        for end in reversed(range(1, len(steps) + 1)):
            if ".".join(steps[:end]) in value:
                return values_at(value[".".join(steps[:end])], steps[end:])
        return []
    if isinstance(value, list):
        if steps[0].isdigit():
            return values_at(value[int(steps[0])], steps[1:]) if int(steps[0]) < len(value) else []
        return [end for item in value if isinstance(item, dict) for end in values_at(item, steps) or [MISSING]]
    return []


def widened(values: list[Any]) -> list[Any]:
    return values + [item for value in values if isinstance(value, list) for item in value]


def ordered(value: Any, operand: Any, operator: str) -> bool:
    if isinstance(operand, datetime):
        if not isinstance(value, str) or parsed(value) is None:
            return False
        value = parsed(value)
    elif isinstance(operand, str) != isinstance(value, str) or isinstance(value, bool | list | dict) or value is None:
        return False
    below, equal = value < operand, value == operand
    return bool({"$lt": below, "$lte": below or equal, "$gt": not below and not equal, "$gte": not below}[operator])


def has(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        wanted = operand if isinstance(operand, list) else [operand]
        return all(any(same(item, one) for item in value) for one in wanted)
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    if isinstance(value, dict) and isinstance(operand, dict):
        return all(key in value and same(value[key], item) for key, item in operand.items())
    return False


class Naive:
    """Answers of 1 (it holds), 0 (it fails) and between; `null` is what a missing field answers to whether it equals None.

    That is 1 for MongoDB, 0 for who tells the two apart, and a half for who leaves it open.
    """

    def __init__(self, null: float) -> None:
        self.null = null

    def operator(self, name: str, operand: Any, ends: list[Any]) -> float:
        values = [end for end in ends if end is not MISSING]
        near = widened(values)
        match name:
            case "$eq":
                absent = operand is None and (not values or MISSING in ends)
                return max(float(any(same(value, operand) for value in near)), self.null if absent else 0)
            case "$in":
                return max([0, *(self.operator("$eq", one, ends) for one in operand)])
            case "$ne":
                return 1 - self.operator("$eq", operand, ends)
            case "$nin":
                return 1 - self.operator("$in", operand, ends)
            case "$all":
                return min([1, *(self.operator("$eq", one, ends) for one in operand)]) if operand else 0
            case "$gt" | "$gte" | "$lt" | "$lte":
                return any(ordered(value, operand, name) for value in near)
            case "$exists":
                return bool(values) is operand
            case "$size":
                return any(isinstance(value, list) and len(value) == operand for value in values)
            case "$contains":
                return any(has(value, operand) for value in values)
            case "$regex":
                return any(isinstance(value, str) and re.search(operand, value) is not None for value in near)
            case "$elemMatch":
                items = [item for value in values if isinstance(value, list) for item in value]
                if all(key.startswith("$") for key in operand):
                    return max([0, *(self.operators(operand, [item]) for item in items)])
                return max([0, *(self(operand, item) for item in items if isinstance(item, dict))])
            case "$not":
                return 1 - self.operators(operand, ends)
        raise AssertionError(name)

    def operators(self, given: dict[str, Any], ends: list[Any]) -> float:
        return min(self.operator(name, operand, ends) for name, operand in given.items())

    def __call__(self, filter: dict[str, Any], metadata: dict[str, Any]) -> float:
        answers: list[float] = [1]
        for name, operand in filter.items():
            if name in ("$and", "$or", "$nor"):
                parts = [self(part, metadata) for part in operand]
                answers.append({"$and": min([1, *parts]), "$or": max([0, *parts]), "$nor": 1 - max([0, *parts])}[name])
            elif name == "$not":
                answers.append(1 - self(operand, metadata))
            else:
                operators = isinstance(operand, dict) and any(key.startswith("$") for key in operand)
                answers.append(self.operators(operand if operators else {"$eq": operand}, ends_of(metadata, name)))
        return min(answers)


def ends_of(metadata: dict[str, Any], name: str) -> list[Any]:
    return values_at(metadata, name.split("."))


naive, mongodb, strict = Naive(0.5), Naive(1), Naive(0)


# -- properties ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
INSTANTS = st.sampled_from(
    [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))]
)
TEXTS = st.sampled_from(["", "a", "ab", "10", "2024-01-01T00:00:00.000Z", "2024-05-01T10:00:00.000Z"])
SCALARS = st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 1.5, 2, -0.0, 10]) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
KEYS = NAMES | st.sampled_from(["a.b", "a.b.c", "0"])
METADATA = st.dictionaries(KEYS, VALUES | st.lists(st.dictionaries(NAMES, VALUES, max_size=2), max_size=3), max_size=4)
PATHS = NAMES | st.sampled_from(["a.b", "a.b.c", "a.0", "a.0.b", "b.a", "b.1", "a.c.0"])
ORDERED = st.sampled_from([0, 1, 1.5, 10]) | TEXTS | INSTANTS
OPERANDS = VALUES | INSTANTS
OPERATORS: dict[str, st.SearchStrategy[Any]] = {
    "$eq": OPERANDS,
    "$ne": OPERANDS,
    "$gt": ORDERED,
    "$gte": ORDERED,
    "$lt": ORDERED,
    "$lte": ORDERED,
    "$in": st.lists(OPERANDS, max_size=3),
    "$nin": st.lists(OPERANDS, max_size=3),
    "$all": st.lists(OPERANDS, max_size=2),
    "$exists": st.booleans(),
    "$size": st.integers(0, 3),
    "$contains": VALUES,
    "$regex": st.sampled_from(["", "^a", "b$", "(a|1)+", "T00:"]),
}
FLAT = st.lists(st.sampled_from(list(OPERATORS)), min_size=1, max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: OPERATORS[name] for name in names})
)


def operators_of(conditions: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        FLAT,
        lambda inner: st.fixed_dictionaries({"$not": inner}) | st.fixed_dictionaries({"$elemMatch": inner | conditions}),
        max_leaves=3,
    )


FIELDS = st.dictionaries(
    PATHS, operators_of(st.dictionaries(NAMES, FLAT | SCALARS, min_size=1, max_size=2)) | OPERANDS, min_size=1, max_size=2
)
FILTERS: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.recursive(
    FIELDS,
    lambda inner: (
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$nor": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"$not": inner})
    ),
    max_leaves=4,
)


def decomposed(node: Node, metadata: dict[str, Any], answers: dict[Any, float]) -> float:
    """As a columnar evaluator would: each different leaf once, on what its path reaches."""
    match node:
        case Leaf():
            if node.key not in answers:
                value = reached(metadata, node.path)
                answers[node.key] = (1 + node.test(value) - node.fails(value)) / 2
            return answers[node.key]
        case Not():
            return 1 - decomposed(node.part, metadata, answers)
        case AllOf():
            return min([1, *(decomposed(part, metadata, answers) for part in node.parts)])
        case AnyOf():
            return max([0, *(decomposed(part, metadata, answers) for part in node.parts)])


@settings(max_examples=200, deadline=None)
@given(filter=FILTERS, metadata=METADATA)
def test_matching_is_what_the_rules_say_by_leaves_or_at_once(filter: dict[str, Any], metadata: dict[str, Any]) -> None:
    expected = naive(filter, metadata)
    whole = compiled(filter)
    assert whole.matches(metadata) is (expected == 1)
    assert whole.root.denies(metadata) is (expected == 0)
    assert decomposed(whole.root, metadata, {}) == expected


@settings(max_examples=300, deadline=None)
@given(filter=FILTERS, metadata=METADATA)
@example(filter={"$nor": [{"a": None}]}, metadata={})
@example(filter={"$not": {"a": {"$in": [1, None]}}}, metadata={})
@example(filter={"a": {"$not": {"$all": [None]}}}, metadata={})
@example(filter={"$nor": [{"$or": [{"a": 1}, {"$not": {"a": {"$ne": None}}}]}]}, metadata={"b": 1})
@example(filter={"a": {"$not": {"$elemMatch": {"b": None}}}}, metadata={"a": [{}]})
@example(filter={"a.b": {"$ne": None}}, metadata={"a": [{"b": 1}, {}]})
def test_what_matches_does_so_in_mongodb_too_and_whoever_tells_missing_from_none(
    filter: dict[str, Any], metadata: dict[str, Any]
) -> None:
    matches = compiled(filter).matches(metadata)
    by_others = [bool(mongodb(filter, metadata)), bool(strict(filter, metadata))]
    if by_others[0] is by_others[1] is False:
        assert not matches
    if "None" not in repr(filter):
        assert by_others == [matches, matches]
    assert not matches or all(by_others)


@settings(max_examples=60, deadline=None)
@given(a=FIELDS, b=FIELDS, metadata=METADATA)
def test_de_morgan_holds(a: dict[str, Any], b: dict[str, Any], metadata: dict[str, Any]) -> None:
    def holds(filter: dict[str, Any]) -> bool:
        return compiled(filter).matches(metadata)

    assert holds({"$not": {"$or": [a, b]}}) is holds({"$and": [{"$not": a}, {"$not": b}]}) is holds({"$nor": [a, b]})
    assert holds({"$not": {"$and": [a, b]}}) is holds({"$or": [{"$not": a}, {"$not": b}]})
    assert holds({"$not": {"$not": a}}) is holds(a)


@settings(max_examples=60, deadline=None)
@given(value=SCALARS, operands=st.lists(OPERANDS, max_size=3), conditions=FLAT)
def test_nin_is_not_in_and_not_twice_is_nothing(value: Any, operands: list[Any], conditions: dict[str, Any]) -> None:
    def holds(condition: dict[str, Any]) -> bool:
        return compiled({"a": condition}).matches({"a": value})

    assert holds({"$nin": operands}) is not holds({"$in": operands})
    assert holds({"$not": {"$not": conditions}}) is holds(conditions)


NUMBERS = st.sampled_from([0, 1, -1, 1.5, 2**53, 1e308]) | st.floats(allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(
    conditions=st.dictionaries(st.sampled_from(["$eq", "$gt", "$gte", "$lt", "$lte"]), NUMBERS, min_size=1, max_size=3),
    value=NUMBERS | SCALARS | st.just(MISSING) | st.dictionaries(NAMES, NUMBERS, max_size=1),
)
@example(conditions={"$eq": 1}, value=True)
def test_bounds_are_the_leaf_for_all_but_arrays(conditions: dict[str, Any], value: Any) -> None:
    (leaf,) = compiled({"a": conditions}).leaves
    assert leaf.bounds is not None
    comparisons = {"eq": "__eq__", "gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    expected = numeric and all(getattr(float(value), comparisons[op])(bound) for op, bound in leaf.bounds)
    assert leaf.test(value) is expected


# -- what a columnar evaluator relies on ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "path", "expected"),
    [
        ({"a": 1}, "a", 1),
        ({}, "a", MISSING),
        ({"a": {"b": None}}, "a.b", None),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a": {"b.c": 1, "b": {"c": 2}}}, "a.b.c", 1),
        ({"a": [{"b": 1}, {"c": 0}, 7, {"b": 2}]}, "a.b", Several((1, 2), lacking=True)),
        ({"a": [{"b": 1}, {"b": 2}, 7]}, "a.b", Several((1, 2))),
        ({"a": [{"b": 1}, {}]}, "a.b", Several((1,), lacking=True)),
        ({"a": [{"b": 1}]}, "a.b", 1),
        ({"a": [{"c": 1}]}, "a.b", MISSING),
        ({"a": [[{"b": 1}]]}, "a.b", MISSING),
        ({"a": [[{"b": 1}]]}, "a.0.b", 1),
        ({"a": [5, 6]}, "a.1", 6),
        ({"a": [5, 6]}, "a.2", MISSING),
        ({"a": [5, 6]}, "a.01", MISSING),
        ({"a": [5, 6]}, "a.-1", MISSING),
        ({"a": {"1": 6}}, "a.1", 6),
        ({"a": "text"}, "a.0", MISSING),
    ],
)
def test_a_path_reaches(metadata: dict[str, Any], path: str, expected: Any) -> None:
    assert reached(metadata, tuple(path.split("."))) == expected


@pytest.mark.parametrize(
    ("filter", "bounds"),
    [
        ({"a": 1}, (("eq", 1.0),)),
        ({"a": {"$gte": 1, "$lt": 2.5}}, (("gte", 1.0), ("lt", 2.5))),
        ({"a": {"$gt": 1, "$exists": True}}, None),
        ({"a": {"$gt": "1"}}, None),
        ({"a": True}, None),
        ({"a": {"$in": [1]}}, None),
        ({"a": {"$ne": 1}}, None),
        ({"a": {"$gt": 2**53 + 1}}, None),
        ({"a": {"$lt": 10**400}}, None),
        ({"a": {"$lt": float("inf")}}, (("lt", float("inf")),)),
    ],
)
def test_bounds_are_comparisons_with_numbers_and_nothing_else(filter: dict[str, Any], bounds: Any) -> None:
    (leaf,) = compiled(filter).leaves
    assert leaf.bounds == bounds


def test_a_leaf_is_one_path_and_a_not_has_a_leaf_of_its_own() -> None:
    root = compiled({"a": {"$gt": 1, "$not": {"$gt": 5}}, "$or": [{"b": 1}, {"a.b": {"$exists": False}}]}).root
    assert isinstance(root, AllOf)
    first, second = root.parts
    assert isinstance(first, AllOf)
    assert isinstance(second, AnyOf)
    above, denied = first.parts
    assert isinstance(above, Leaf)
    assert isinstance(denied, Not)
    assert (above.path, above.bounds) == (("a",), (("gt", 1.0),))
    assert isinstance(denied.part, Leaf)
    assert denied.part.bounds == (("gt", 5.0),)
    assert [leaf.path for leaf in compiled({"$or": [{"a.b": 1}, {"a.b": {"$eq": 1.0}}, {"c": 1}]}).leaves] == [
        ("a", "b"),
        ("c",),
    ]


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ({"a": 1}, {"a": {"$eq": 1.0}}, True),
        ({"a": {"$gt": 1, "$lt": 2}}, {"a": {"$lt": 2, "$gt": 1}}, True),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"$or": [{"b": 2}, {"a": 1}]}, True),
        ({"a": {"$in": [1, "x"]}}, {"a": {"$in": ["x", 1, 1]}}, True),
        ({"a": {"$regex": "x", "$options": "i"}}, {"a": re.compile("x", re.I)}, True),
        ({"a": datetime(2024, 1, 1, tzinfo=UTC)}, {"a": datetime.fromisoformat("2024-01-01T02:00:00+02:00")}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": {"$in": [True]}}, {"a": {"$in": [1]}}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": {"$gt": 1}}, {"a": {"$gte": 1}}, False),
        ({"a": "x"}, {"a": {"$regex": "x"}}, False),
        ({"a": [1]}, {"a": {"$in": [1]}}, False),
        ({"a": {"$exists": True}}, {"a": {"$size": 1}}, False),
        ({"a": {"$exists": True}}, {"a": {"$exists": False}}, False),
        ({"a": {"$size": 1}}, {"a": {"$size": 2}}, False),
        ({"a": {"$all": [1]}}, {"a": {"$all": [1, 2]}}, False),
        ({"a": {"$regex": "x"}}, {"a": {"$regex": "x", "$options": "i"}}, False),
        ({"$or": [{"a": 1}]}, {"$and": [{"a": 1}]}, False),
        ({"a": {"$not": {"$gt": 1}}}, {"a": {"$gt": 1}}, False),
        ({"a": {"$elemMatch": {"$gt": 1}}}, {"a": {"$elemMatch": {"b": {"$gt": 1}}}}, False),
        ({"a": {"$contains": "x"}}, {"a": {"$contains": ["x"]}}, False),
        ({"a": "2024-01-01T00:00:00.000Z"}, {"a": datetime(2024, 1, 1, tzinfo=UTC)}, False),
    ],
)
def test_keys_are_equal_for_filters_that_say_the_same(a: dict[str, Any], b: dict[str, Any], equal: bool) -> None:
    assert (compiled(a).root.key == compiled(b).root.key) is equal
    assert (hash(compiled(a).root.key) == hash(compiled(b).root.key)) or not equal


# -- the rest ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filter", "empty", "leaves"),
    [
        (None, True, 0),
        ({}, True, 0),
        ({"metadata": {}}, False, 0),
        ({"$nor": []}, False, 0),
        ({"$not": {"a": 1}}, False, 1),
    ],
)
def test_only_no_filter_is_empty(filter: Any, empty: bool, leaves: int) -> None:
    assert compiled(filter).is_empty is empty
    assert len(compiled(filter).leaves) == leaves


@pytest.mark.parametrize(
    ("filter", "constant"),
    [
        ({}, True),
        ({"metadata": {}}, True),
        ({"$nor": []}, True),
        ({"a": {"$nin": []}}, True),
        ({"a": {"$nin": []}, "b": {"$not": {"$in": []}}}, True),
        ({"a": {"$not": {"$all": []}}}, True),
        ({"a": {"$not": {"$elemMatch": {"$in": []}}}}, True),
        ({"$nor": [{"a": {"$elemMatch": {"b": {"$in": []}}}}]}, True),
        ({"a": {"$not": {"$all": [{"$elemMatch": {"$in": []}}]}}}, True),
        ({"a": {"$elemMatch": {"$nin": []}}}, None),
        ({"$or": [{"a": 1}, {"b": {"$nin": []}}]}, True),
        ({"$and": [{"$nor": []}, {"b": {"$nin": []}}]}, True),
        ({"$nor": [{"a": {"$in": []}}]}, True),
        ({"$not": {"a": {"$in": []}}}, True),
        ({"a": {"$in": []}}, False),
        ({"$nor": [{}]}, False),
        ({"$nor": [{"a": 1}, {"b": {"$nin": []}}]}, False),
        ({"a": {"$not": {"$nin": []}}}, False),
        ({"a": {"$nin": [], "$in": []}, "b": 1}, False),
        ({"a": 1}, None),
        ({"a": {"$nin": [1]}}, None),
        ({"a": {"$nin": []}, "b": 1}, None),
        ({"$or": [{"a": 1}, {"b": {"$in": []}}]}, None),
        ({"a": {"$exists": True}}, None),
    ],
    ids=repr,
)
def test_a_filter_knows_whether_it_asks_for_anything(filter: Any, constant: bool | None) -> None:
    assert compiled(filter).root.constant is constant
    for metadata in ({}, {"a": 1}, {"a": [None], "b": {}}):
        assert constant in (None, compiled(filter).matches(metadata))


def test_a_compiled_filter_is_not_changed_through_its_operands() -> None:
    operand: list[Any] = [1, {"b": [2]}]
    filter = compiled({"a": {"$in": operand}, "b": {"$contains": operand}})
    metadata = {"a": {"b": [2]}, "b": [1, {"b": [2]}]}
    assert filter.matches(metadata)
    operand[1]["b"].append(3)
    operand.append("more")
    assert filter.matches(metadata)


def test_a_filter_nests_to_a_limit() -> None:
    filter: dict[str, Any] = {"a": 1}
    for _ in range(MAX_NESTING - 1):
        filter = {"$not": filter}
    assert compiled(filter).matches({"a": 2})
    for deeper in ({"$not": filter}, {"a": {"$elemMatch": filter}}, {"$and": [filter]}):
        assert f"deeper than {MAX_NESTING} levels" in _refusal(deeper)
    endless: list[Any] = []
    endless += [endless, endless]
    assert "levels" in _refusal({"a": endless})
    assert "steps" in _refusal({".".join("a" * 51): 1})


def test_the_first_and_last_instants_compare() -> None:
    for moment in (datetime.min, datetime.max):
        for hours in (-14, 14):
            aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
            assert compiled({"a": aware}).matches({"a": aware.isoformat()})
            assert not compiled({"a": {"$lt": aware, "$gt": aware}}).matches({"a": aware.isoformat()})


def test_an_error_says_where_and_what_but_repeats_no_operand() -> None:
    message = _refusal({"$or": [{"user": {"$elemMatch": {"age": {"$gt": ["secret"]}}}}]})
    assert (
        message == "query: filter: field 'user': field 'age': $gt takes a number, a string or an aware datetime, got list"
    )
