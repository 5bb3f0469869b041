"""Random commits, reads and searches, sent to the embedded deployment and to the TypeScript: both must answer the same.

`CONVEXORM_EXAMPLES` sets how many histories are tried, `CONVEXORM_SEED` which. A test that fails prints its seed. Without
one the default number of histories is always the same, another is drawn anew.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, TypeVar
from uuid import uuid4

import attrs
import pytest
from hypothesis import HealthCheck, Phase, example, given, note, seed, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from convexorm import ConvexORMError, Deployment, StaleDataError, ValidationError, aggregates, connect
from convexorm.aggregates import Partial
from convexorm.computed import Arithmetic, Constant, Extreme, Listed, Stored
from convexorm.conditions import Combined, Comparison, Condition, Containment, Membership, Negated
from convexorm.faces import finish
from convexorm.querying.planning import joined
from convexorm.requests import (
    Applied,
    Bound,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Fold,
    Insert,
    Key,
    KeyValue,
    Matrix,
    Ordering,
    Pack,
    Patch,
    Range,
    Read,
    ReadResult,
    Replace,
    Search,
    Target,
    Term,
    Unique,
    Upsert,
    Write,
    Written,
)
from convexorm.values import MISSING, ConvexInt64, Missing, Value, canonical, reach, same
from tests.conftest import Host
from tests.models import Anything, Chunk

T = TypeVar("T")
TABLE = Anything.__mapper__.table
DEFAULT_EXAMPLES = 150
EXAMPLES = int(os.environ.get("CONVEXORM_EXAMPLES", DEFAULT_EXAMPLES))
SEED = int(os.environ.get("CONVEXORM_SEED", 1 if EXAMPLES == DEFAULT_EXAMPLES else random.randrange(2**32)))
PROFILE = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


# -- histories: requests that name documents by the order in which they came ----------------------------------------


@attrs.frozen
class Nth:
    """The `_id`, or with `time` the creation time, of the document that came as number `number`."""

    number: int
    time: bool = False


@attrs.frozen
class Behind:
    """The index key of a document, as it was when it was last seen."""

    number: int


@attrs.frozen
class Current:
    """Whatever the document under a write holds in this field."""


STORED: list[Any] = [
    *(MISSING, None, ConvexInt64(-1), ConvexInt64(0), ConvexInt64(2**40), -1.5, -0.0, 0.0, 1.0, math.inf),
    *(False, True, "", "a", "a\0", "b", '{"x":1}', '[{"x":null}]', b"", b"\0\xff"),
    *([], [1.0], [0.1], [1.0, -0.0], [1e300, 2.0], [[]], {}, {"x": 1.0}, {"x": {"y": "a"}}),
]
values = st.sampled_from(STORED)
present = values.filter(lambda value: value is not MISSING)
keys = st.sampled_from(["k0", "k1", "k2"])
numbers = st.integers(0, 5)
ids = numbers.map(Nth)
times = numbers.map(lambda number: Nth(number, time=True))


def without_missing(document: Mapping[str, Any]) -> dict[str, Value]:
    return {name: value for name, value in document.items() if value is not MISSING}


documents = st.fixed_dictionaries(
    {"key": keys, "a": values, "b": values, "text": st.sampled_from([MISSING, "", "t", '{"x":[1,"a"]}', "[1"])}
).map(without_missing)

unique_keys = (
    keys.map(lambda key: Key("by_key", (key,)))
    | values.map(lambda a: Key("by_a", (a,)))
    | values.map(lambda a: Key("by_a_and_b", (a,)))
    | st.tuples(values, values).map(lambda pair: Key("by_a_and_b", pair))
    | st.tuples(keys, times).map(lambda pair: Key("by_key", pair))
    | ids.map(lambda one: Key("by_id", (one,)))
)
targets: st.SearchStrategy[Any] = ids | unique_keys
uniques = st.lists(
    st.sampled_from(["by_key", "by_a", "by_a", "by_a_and_b"]).map(Unique)
    | unique_keys.map(lambda key: Unique(key.index, key.key)),
    max_size=2,
)
paths = st.sampled_from([(), (), ("x",), (0,), ("x", "y"), ("x", 0), (0, "x"), (1,)])
operators: st.SearchStrategy[Any] = st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"])
fields = st.sampled_from(["a", "b", "text", "key"])
comparisons = st.builds(Comparison, fields, operators, values, paths) | st.builds(
    Comparison, st.just("_creationTime"), operators, times
)
memberships = st.builds(Membership, fields, st.lists(values, max_size=4).map(tuple), paths)
containments = st.builds(Containment, fields, st.just("contains"), values, paths) | st.builds(
    Containment,
    fields,
    st.sampled_from(["endswith", "like"]),
    st.sampled_from(["", "a", "%", "k%", "%1", "%a%", "a%a"]),
    paths,
)
filters: st.SearchStrategy[Condition] = st.recursive(
    comparisons | memberships | containments,
    lambda inner: (
        st.builds(Combined, st.sampled_from(["and", "or"]), st.lists(inner, max_size=3).map(tuple))
        | st.builds(Negated, inner)
    ),
    max_leaves=4,
)
bounds = st.builds(Bound, values, st.booleans())
time_bounds = st.builds(Bound, times | values, st.booleans())


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    index, declared = draw(
        st.sampled_from(
            [("by_key", 1), ("by_a", 1), ("by_a", 1), ("by_a_and_b", 2), ("by_a_and_b", 2), ("by_creation_time", 0)]
        )
    )
    equalities = draw(st.integers(0, declared))
    eq = tuple(draw(keys if index == "by_key" else values) for _ in range(equalities))
    edge = st.none() | (time_bounds if equalities == declared else bounds)
    return Range(TABLE, index, eq, draw(edge), draw(edge))


@st.composite
def unions(draw: st.DrawFn) -> Range:
    """Several ranges of one index, as queries join them."""
    index, declared = draw(st.sampled_from([("by_key", 1), ("by_a", 1), ("by_a_and_b", 2), ("by_a_and_b", 2)]))
    length = draw(st.integers(0, declared))
    value = keys if index == "by_key" else values
    alike = draw(st.booleans())  # as merged ranges have to be
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        eq = tuple(draw(value) for _ in range(length if alike else draw(st.integers(0, declared))))
        edge = st.none() | bounds if len(eq) < declared else st.none()
        parts.append(Range(TABLE, index, eq, draw(edge), draw(edge)))
    return Range(TABLE, index, union=tuple(joined(parts)))


packs = st.builds(Pack, st.sampled_from(["a", "b"]), st.sampled_from([0, 1, 2]))
terms = st.builds(Term, st.sampled_from(["count", "sum", "min", "max"]), st.sampled_from(["a", "b", "key"]))
folds = st.builds(
    Fold,
    st.sampled_from([(), ("key",), ("a",), ("a", "b"), ("text",)]),
    st.lists(terms, min_size=1, max_size=3).map(tuple),
)
sorts = st.lists(
    st.builds(Ordering, st.sampled_from(["a", "b", "key"]), st.sampled_from(["asc", "desc"])), min_size=1, max_size=2
).map(tuple)
afters: st.SearchStrategy[Any] = st.none() | st.none() | st.just(()) | numbers.map(Behind)
kinds: st.SearchStrategy[dict[str, Any]] = st.one_of(  # of answers
    st.fixed_dictionaries({"peek": st.booleans()}),
    st.fixed_dictionaries({"peek": st.booleans(), "count": st.just(True)}),
    st.fixed_dictionaries({"pack": packs}),
    st.fixed_dictionaries({"digest": st.sampled_from(["each", "all"])}),
    st.fixed_dictionaries({"peek": st.booleans(), "select": st.sampled_from([("a",), ("b", "key"), ("_id", "a")])}),
    st.fixed_dictionaries({"fold": folds}),
    st.fixed_dictionaries({"sort": sorts, "select": st.none() | st.just(("a",)), "skip": st.just(0)}),
)


@st.composite
def any_reads(draw: st.DrawFn) -> Read:
    whole = Range(TABLE, "by_creation_time")
    range_ = draw(ranges() | unions() | st.just(whole))
    lengths = {len(part.eq) for part in range_.parts}
    fields = len(TABLE.key_fields(range_.index))
    kind = draw(kinds)
    manner = draw(st.sampled_from(["", "", "merge", "" if "sort" in kind else "distinct"]))
    return Read(
        range_,
        merge=lengths.pop() if manner == "merge" and len(lengths) == 1 else None,
        distinct=draw(st.integers(1, fields)) if manner == "distinct" else None,
        order=draw(st.sampled_from(["asc", "desc"])),
        after=draw(afters),
        filter=draw(st.none() | filters),
        limit=draw(st.sampled_from([None, None, 0, 1, 1, 2, 5])),
        **({"skip": draw(st.sampled_from([0, 0, 0, 1, 2, 9]))} | kind),
    )


reads = any_reads()
expectations = st.dictionaries(st.sampled_from(["a", "b", "key", "text"]), st.just(Current()) | values, max_size=2)
missing: st.SearchStrategy[Any] = st.sampled_from(["fail", "skip", "skip"])


some_fields: st.SearchStrategy[Any] = st.lists(st.sampled_from(["a", "b", "text"]), unique=True, max_size=2).map(tuple)


operands: st.SearchStrategy[Any] = st.recursive(
    st.builds(Constant, st.sampled_from([1.0, 0.5, -2.0, 1e308, ConvexInt64(2**62), ConvexInt64(-3), "a", [1.0], True]))
    | st.builds(Stored, st.sampled_from(["a", "b", "text"]), st.sampled_from([MISSING, 0.0, ConvexInt64(1)])),
    lambda inner: (
        st.builds(Arithmetic, st.sampled_from(["add", "sub", "mul", "div"]), inner, inner, st.booleans())
        | st.builds(Extreme, st.sampled_from(["least", "greatest"]), inner, inner)
    ),
    max_leaves=3,
) | st.builds(Listed, st.sampled_from(["append", "remove"]), st.sampled_from(["a", "b"]), present)


@st.composite
def patches(draw: st.DrawFn) -> Patch:
    set_ = draw(st.dictionaries(st.sampled_from(["a", "b"]), present, max_size=2))
    unset = draw(st.lists(st.sampled_from(["a", "b", "text"]), unique=True, max_size=2))
    compute = draw(st.dictionaries(st.sampled_from(["a", "b"]), operands, max_size=2))
    compute = {name: one for name, one in compute.items() if name not in set_ and name not in unset}
    return Patch(
        TABLE,
        draw(targets),
        set_,
        tuple(one for one in unset if one not in set_),
        draw(expectations),
        draw(missing),
        draw(st.just([]) | uniques),
        draw(some_fields),
        compute=compute,
        where=draw(st.none() | st.none() | filters),
    )


writes = st.one_of(
    st.builds(Insert, st.just(TABLE), documents, st.just([]) | st.just([]) | uniques, st.booleans()),
    st.builds(Insert, st.just(TABLE), documents, st.just([]), st.booleans()),
    st.builds(
        Upsert,
        st.just(TABLE),
        unique_keys,
        documents,
        some_fields,
        some_fields,
        st.booleans(),
        st.just([]) | uniques,
        some_fields,
    ),
    patches(),
    st.builds(Replace, st.just(TABLE), targets, documents, expectations, missing, st.just([]) | uniques),
    st.builds(Delete, st.just(TABLE), targets, expectations, missing),
    st.builds(DeleteRange, ranges() | unions(), st.none() | filters, st.sampled_from([None, 1, 2, 9])),
)
beginnings = st.lists(st.builds(Insert, st.just(TABLE), documents), min_size=2, max_size=8)
"""Documents that are there before a history, so that there is something to read."""
histories = st.lists(
    st.lists(writes, min_size=1, max_size=4) | st.lists(reads, min_size=1, max_size=6).map(tuple), min_size=2, max_size=8
)


# -- one deployment, with its own ids and times ---------------------------------------------------------------------


class Side:
    """One of the two deployments: it turns the names of a history into its own and its own back."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.seen: list[Document] = []
        self.state: list[Document] = []
        self.digests: dict[tuple[str, object], object] = {}

    def look(self) -> list[dict[str, Value]]:
        """The documents there are, and the new ones among them remembered."""
        (result,) = finish(self.deployment.blocking.read([Read(Range(TABLE, "by_creation_time"))]))
        self.state = list(result.docs)
        latest = {document["_id"]: document for document in self.state}
        self.seen = [latest.pop(document["_id"], document) for document in self.seen] + list(latest.values())
        return [self.named(document) for document in self.state]

    # to this deployment

    def nth(self, value: Any) -> Any:
        if not isinstance(value, Nth):
            return value
        if value.number >= len(self.seen):
            return 1.0 if value.time else "nothing"
        return self.seen[value.number]["_creationTime" if value.time else "_id"]

    def bound(self, bound: Bound | None) -> Bound | None:
        return None if bound is None else Bound(self.nth(bound.value), bound.inclusive)

    def range(self, range: Range) -> Range:
        if range.union is not None:
            return range
        return replace(range, lower=self.bound(range.lower), upper=self.bound(range.upper))

    def filter(self, condition: Condition) -> Condition:
        match condition:
            case Comparison():
                return attrs.evolve(condition, value=self.nth(condition.value))
            case Combined():
                return attrs.evolve(condition, args=tuple(self.filter(one) for one in condition.args))
            case Negated():
                return Negated(self.filter(condition.arg))
        return condition

    def optional(self, condition: Condition | None) -> Condition | None:
        return None if condition is None else self.filter(condition)

    def after(self, after: Any, range: Range) -> KeyValue | None:
        if not isinstance(after, Behind):
            result: KeyValue | None = after
            return result
        if after.number >= len(self.seen):
            return None
        return tuple(reach(self.seen[after.number], name) for name in (*TABLE.key_fields(range.index), "_id"))

    def read(self, read: Read) -> Read:
        return replace(
            read, range=self.range(read.range), after=self.after(read.after, read.range), filter=self.optional(read.filter)
        )

    def key(self, key: Key) -> Key:
        return Key(key.index, tuple(self.nth(value) for value in key.key))

    def target(self, at: Any) -> Target:
        target: Target = self.key(at) if isinstance(at, Key) else self.nth(at)
        return target

    def expect(self, at: Target, expect: Mapping[str, Any]) -> dict[str, Value | Missing]:
        held = next((one for one in self.state if _is_at(one, at)), {})
        return {name: held.get(name, MISSING) if isinstance(one, Current) else one for name, one in expect.items()}

    def unique(self, unique: Sequence[Unique]) -> list[Unique]:
        return [one if one.key is None else Unique(one.index, tuple(map(self.nth, one.key))) for one in unique]

    def write(self, write: Write) -> Write:
        match write:
            case Insert():
                return replace(write, unique=self.unique(write.unique))
            case Upsert():
                return replace(write, at=self.key(write.at), unique=self.unique(write.unique))
            case Patch() | Replace():
                at = self.target(write.at)
                if isinstance(write, Patch):
                    write = replace(write, where=self.optional(write.where))
                return replace(write, at=at, expect=self.expect(at, write.expect), unique=self.unique(write.unique))
            case Delete():
                at = self.target(write.at)
                return replace(write, at=at, expect=self.expect(at, write.expect))
            case DeleteRange():
                return replace(write, range=self.range(write.range), filter=self.optional(write.filter))
        return write

    # and back

    def named(self, document: Document) -> dict[str, Value]:
        if "_creationTime" not in document:  # only some fields were asked for
            return {**document, **({"_id": self.number(document["_id"])} if "_id" in document else {})}
        number = self.number(document["_id"])
        assert document["_creationTime"] == self.seen[number]["_creationTime"]
        return {**document, "_id": number, "_creationTime": number}

    def number(self, id_: Value) -> int:
        return next(n for n, one in enumerate(self.seen) if one["_id"] == id_)

    def applied(self, write: Write, applied: Applied) -> object:
        if isinstance(applied, DeletedRange):
            return applied.deleted, applied.more
        if isinstance(applied, Written):
            assert isinstance(write, Insert | Upsert)
            number = next((n for n, one in enumerate(self.seen) if one["_id"] == applied.id), None)
            if number is not None and (write.returning or not applied.created):  # and not deleted by the same commit
                assert applied.creation_time == self.seen[number]["_creationTime"]
            return "written", number, applied.created, applied.identity
        return applied

    # requests

    def ask(self, reads: Sequence[Read]) -> list[object]:
        mine = [self.read(read) for read in reads]
        results = finish(self.deployment.blocking.read(mine))
        again = finish(self.deployment.blocking.read(mine))
        for result, same_result in zip(results, again, strict=True):
            assert result.digests == same_result.digests, "digests of what has not changed"
            self.remember(result)
        return [
            (
                [self.named(one) for one in result.docs],
                *(result.count, result.skipped, result.more, result.next),
                self.rows(result.matrix),
                [self.number(id_) if id_ else "" for id_ in result.digests],
                [self.own(value) for value in result.last or ()],
                sorted((name, list(map(_told, group.partials))) for name, group in result.groups.items()),
            )
            for result in results
        ]

    def own(self, value: Value | Missing) -> object:
        """A value of a key, without what only this deployment has."""
        names = {one[name]: number for number, one in enumerate(self.seen) for name in ("_id", "_creationTime")}
        return names.get(value) if isinstance(value, str | float | int) and value in names else canonical(value)

    def remember(self, result: ReadResult) -> None:
        """Digests of documents tell their versions apart."""
        for id_, digest in result.digests.items():
            if id_:
                document = canonical(dict(next(one for one in self.state if one["_id"] == id_)))
                assert self.digests.setdefault((id_, digest), document) == document, "another version, the same digest"
                assert self.digests.setdefault((id_, document), digest) == digest, "the same version, another digest"

    def rows(self, matrix: Matrix | None) -> object:
        if matrix is None:
            return None
        return [self.number(id_) for id_ in matrix.ids], matrix.rows.shape, matrix.rows.tobytes().hex(), matrix.rounded

    def commit(self, writes: Sequence[Write]) -> list[object]:
        mine = [self.write(write) for write in writes]
        applied = finish(self.deployment.blocking.commit(Commit(uuid4().hex, mine)))
        self.look()
        return [self.applied(write, one) for write, one in zip(mine, applied, strict=True)]

    def answer(self, requests: list[Write] | tuple[Read, ...]) -> tuple[Literal["answer", "refused"], object]:
        """What is answered to writes or to reads, or with what they are refused."""
        try:
            return "answer", self.commit(requests) if isinstance(requests, list) else self.ask(requests)
        except StaleDataError as error:
            return "refused", (StaleDataError, error.table, error.reason, error.write, sorted(error.fields))
        except ConvexORMError as error:
            return "refused", type(error)


def _told(partial: Partial) -> object:
    return canonical(partial.value) if isinstance(partial, aggregates.Extreme) else partial


def _is_at(document: Document, at: Target) -> bool:
    if isinstance(at, str):
        return bool(document["_id"] == at)
    names = TABLE.key_fields(at.index)
    return all(same(reach(document, name), value) for name, value in zip(names, at.key, strict=False))


def _difference(a: Any, b: Any) -> tuple[object, object]:
    """The first parts of two answers that differ."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return next(_difference(one, other) for one, other in zip(a, b, strict=True) if not equal(one, other))
    return a, b


def equal(a: object, b: object) -> bool:
    """Equality that tells the values of Convex apart."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return canonical(a) == canonical(b)
    return a == b


@pytest.fixture(scope="module")
def sides(models_host: Host) -> Iterator[tuple[Deployment, Deployment]]:
    with connect("memory:") as embedded, models_host.connect() as convex:
        yield embedded, convex


@PROFILE
@seed(SEED)
@given(beginning=beginnings, history=histories)
def test_both_deployments_answer_the_same(
    sides: tuple[Deployment, Deployment], beginning: list[Write], history: list[Any]
) -> None:
    note(f"CONVEXORM_SEED={SEED}")
    embedded, convex = (Side(deployment) for deployment in sides)
    for side in (embedded, convex):
        side.commit([DeleteRange(Range(TABLE, "by_creation_time"))])
        side.seen = []
        side.commit(beginning)
    for requests in history:
        mine, theirs = (side.answer(requests) for side in (embedded, convex))
        if isinstance(requests, list):
            assert equal(embedded.look(), convex.look()), "the documents differ"
        assert equal(mine, theirs), _difference(mine, theirs)


# -- searches: vectors of any length and direction ------------------------------------------------------------------

CHUNKS = Chunk.__mapper__.table
components = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-46, 1e-40, 1.2e-38, 3e38])
lengths = st.sampled_from([0.0, 1e-300, 5e-324, 1.0, 1e300, -1.7e308])
vectors = st.lists(components, min_size=3, max_size=3) | st.lists(
    st.sampled_from([0.0, 1e-300, -1e-46, 1e-40]), min_size=3, max_size=3
)
chunks = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), vectors | st.none() | st.just([1.0, 0.0, 4e38]) | st.just([math.nan] * 3)),
    max_size=8,
)
searches = st.tuples(
    st.tuples(components, components, lengths),
    st.sampled_from([1, 1, 2, 3, 9]),
    st.sampled_from([(), ("x",), ("y", "x"), ("z",)]),
)


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """By exact fractions; 0 where one has no direction."""
    a, b = ([Fraction(number) for number in vector] for vector in (left, right))
    squares = sum(one * one for one in a) * sum(one * one for one in b)
    if not squares:
        return 0.0
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return math.copysign(math.sqrt(product * product / squares), 1 if product > 0 else -1)  # a fraction from 0 to 1


@PROFILE
@seed(SEED)
@example(rows=[("x", [0.0] * 3), ("x", [0.0, 0.0, 1e-300])], asked=[((0.0, 0.0, 1.0), 1, ())])
@given(rows=chunks, asked=st.lists(searches, min_size=1, max_size=4))
def test_both_deployments_find_the_same(sides: tuple[Deployment, Deployment], rows: list[Any], asked: list[Any]) -> None:
    note(f"CONVEXORM_SEED={SEED}")
    stored: list[list[tuple[str, list[float]]]] = []
    for deployment in sides:
        port = deployment.blocking
        finish(port.commit(Commit(uuid4().hex, [DeleteRange(Range(CHUNKS, "by_creation_time"))])))
        stored.append([])
        for kind, vector in rows:
            embedding: dict[str, Any] = {} if vector is None else {"embedding": vector}
            document: Document = {"text": "", "kind": kind, **embedding}
            try:
                finish(port.commit(Commit(uuid4().hex, [Insert(CHUNKS, document)])))
            except ValidationError:
                continue
            if vector is not None:
                stored[-1].append((kind, vector))
        for query, limit, kinds in asked:
            search = Search(CHUNKS, "by_embedding", query, limit, tuple(("kind", kind) for kind in kinds))
            hits = finish(port.search(search))
            best = sorted(
                (cosine(query, vector) for kind, vector in stored[-1] if not kinds or kind in kinds), reverse=True
            )
            assert [score for score, _ in hits] == pytest.approx(best[:limit], abs=1e-12)
            for score, found in hits:
                assert score == pytest.approx(cosine(query, found["embedding"]), abs=1e-12)
                assert not kinds or found["kind"] in kinds
    assert stored[0] == stored[1]
