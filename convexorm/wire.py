"""Requests and answers as the values that travel to a Convex deployment: `docs/wire.md`, in Python."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from convexorm import computed
from convexorm.aggregates import LEAST, Extreme, Group, Groups, Partial, Sum, Tally, odds_of
from convexorm.computed import Arithmetic, Constant, Listed, Now, Operand, Stored
from convexorm.conditions import Combined, Comparison, Condition, Containment, Exists, Membership, Negated
from convexorm.errors import DeploymentError
from convexorm.foreign import is_array
from convexorm.late import need
from convexorm.requests import (
    Applied,
    Bound,
    Cancel,
    Check,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Expect,
    Fold,
    Follow,
    Followed,
    Gone,
    Insert,
    Key,
    KeyValue,
    Matrix,
    OneOf,
    Pack,
    Patch,
    Range,
    Read,
    ReadResult,
    Recount,
    Replace,
    Rule,
    Schedule,
    Search,
    Target,
    TextSearch,
    Unique,
    Upsert,
    Write,
    Written,
    key_length,
    version_digest,
    version_of,
)
from convexorm.schema import BUILT_IN_INDEXES, Table
from convexorm.values import MAX_ARRAY_LENGTH, MISSING, Missing, Value, canonical, digest, size_of

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DEPLOY",
    "VERSION",
    "decode_commit",
    "decode_reads",
    "decode_search",
    "decode_withdraw",
    "decoding",
    "encode_commit",
    "encode_read",
    "encode_reads",
    "encode_search",
    "encode_withdraw",
]

VERSION = 4
DEPLOY = (
    "copy this library's functions into the Convex project with `python -m convexorm functions convex`, then deploy them "
    "with `npx convex deploy`"
)
"""What mends a deployment whose functions are of another version."""
_CHUNK = 4_096
"""Writes in one array of a commit; an array holds at most 8,192 elements."""
_LARGE = 128
"""Bytes from which an expected value travels as its digest (64 characters)."""

Json = dict[str, Any]


def _bound(value: Value | Missing) -> list[Value]:
    return [] if value is MISSING else [value]


def _bounds(values: KeyValue) -> list[list[Value]]:
    return [_bound(value) for value in values]


# -- filters -------------------------------------------------------------------------------------------------------


def _encode_filter(condition: Condition) -> Json:
    return _FILTERS[type(condition)](condition)


def _place(condition: Comparison | Membership | Containment) -> Json:
    return {"field": condition.field, **({"path": list(condition.path)} if condition.path else {})}


def _parts(values: Sequence[Any]) -> list[Sequence[Any]]:
    """Values in as many arrays as Convex needs for them."""
    return [values[start : start + MAX_ARRAY_LENGTH] for start in range(0, len(values), MAX_ARRAY_LENGTH)] or [[]]


def _parted(op: str, filters: list[Json]) -> Json:
    return filters[0] if len(filters) == 1 else {"op": op, "args": filters}


_FILTERS: dict[type[Condition], Callable[[Any], Json]] = {
    Comparison: lambda one: {"op": one.op, **_place(one), "value": _bound(one.value)},
    Membership: lambda one: _parted(
        "or", [{"op": "in", **_place(one), "values": values} for values in _parts(_bounds(one.values))]
    ),
    Containment: lambda one: {"op": one.op, **_place(one), "value": _bound(one.value)},
    Combined: lambda one: _parted(
        one.op, [{"op": one.op, "args": args} for args in _parts([_encode_filter(arg) for arg in one.args])]
    ),
    Negated: lambda one: {"op": "not", "arg": _encode_filter(one.arg)},
    Exists: lambda one: {"op": "exists", **_encode_follow(one.edge)},
}


# -- read ----------------------------------------------------------------------------------------------------------


def _encode_index(table: Table, index: str) -> Json:
    """An index, and the fields that this side takes it to have: the deployment refuses one that has others."""
    if index in BUILT_IN_INDEXES:
        return {"index": index}
    return {"index": index, "fields": list(table.declared_fields(index))}


def _encode_range(range: Range) -> Json:
    encoded: Json = {"table": range.table.name, **_encode_index(range.table, range.index)}
    if range.union is None:
        return encoded | _encode_interval(range)
    return encoded | {"ranges": [_encode_interval(part) for part in range.union]}


def _encode_interval(range: Range) -> Json:
    encoded: Json = {}
    if range.eq:
        encoded["eq"] = _bounds(range.eq)
    for name, bound in (("lower", range.lower), ("upper", range.upper)):
        if bound is not None:
            encoded[name] = _encode_bound(bound)
    return encoded


def _encode_bound(bound: Bound) -> Json:
    return {"value": _bound(bound.value), "inclusive": bound.inclusive}


def encode_read(read: Read) -> Json:
    """One `Read`; defaults are left out."""
    encoded = _encode_range(read.range)
    if read.order != "asc":
        encoded["order"] = read.order
    if read.after is not None:
        encoded["after"] = _bounds(read.after)
    if read.filter is not None:
        encoded["filter"] = _encode_filter(read.filter)
    if read.skip:
        encoded["skip"] = read.skip
    if read.limit is not None:
        encoded["limit"] = read.limit
    if read.peek:
        encoded["peek"] = True
    if read.count:
        encoded["count"] = True
    if read.pack is not None:
        encoded["pack"] = {"field": read.pack.field, "length": read.pack.length}
    if read.digest is not None:
        encoded["digest"] = read.digest
    since = None if read.since is None else version_of(read.since)
    if since is not None:
        encoded["since"] = since
    if read.follow:
        encoded["follow"] = [_encode_follow(one) for one in read.follow]
    if read.select is not None:
        encoded["select"] = list(read.select)
    if read.fold is not None:
        encoded["fold"] = _encode_fold(read.fold)
    if read.merge is not None:
        encoded["merge"] = read.merge
    if read.distinct is not None:
        encoded["distinct"] = read.distinct
    if read.sort is not None:
        encoded["sort"] = [{"field": one.field, "order": one.order} for one in read.sort]
    if read.search is not None:
        encoded["search"] = _encode_text(read.range.table, read.search)
    return encoded


def _encode_text(table: Table, search: TextSearch) -> Json:
    encoded: Json = {"index": search.index, "field": table.search_index(search.index).field, "text": search.text}
    if search.filter:
        encoded["filter"] = [{"field": name, "value": _bound(value)} for name, value in search.filter]
    return encoded


def _encode_follow(follow: Follow) -> Json:
    encoded: Json = {"field": follow.field, **_encode_range(follow.range)}
    if follow.order != "asc":
        encoded["order"] = follow.order
    if follow.filter is not None:
        encoded["filter"] = _encode_filter(follow.filter)
    if follow.limit is not None:
        encoded["limit"] = follow.limit
    if follow.follow:
        encoded["follow"] = [_encode_follow(one) for one in follow.follow]
    return encoded


def _encode_fold(fold: Fold) -> Json:
    of = [{"op": term.op} if term.field is None else {"op": term.op, "field": term.field} for term in fold.of]
    return {"by": list(fold.by), "of": of}


def encode_reads(reads: Sequence[Read], share: int = 1) -> Json:
    """The arguments of `read`; with a `share` the call ends that many times earlier."""
    return {
        "version": VERSION,
        "reads": [encode_read(read) for read in reads],
        **({"share": share} if share > 1 else {}),
    }


@contextmanager
def decoding() -> Iterator[None]:
    """What a malformed answer does to its decoder, as a DeploymentError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DeploymentError(f"the deployment's answer is not of wire version {VERSION}; {DEPLOY}") from error


@decoding()
def decode_reads(answer: Value, reads: Sequence[Read]) -> list[ReadResult]:
    """What `read` has answered to `reads`. Raises DeploymentError for what is no answer of this version."""
    results = _results(answer, "results", len(reads))
    return [_decode_result(read, one) for read, one in zip(reads, results, strict=True)]


def _decode_result(read: Read, one: Json) -> ReadResult:
    docs, matrix = one["docs"], None
    if read.select is None and not all(isinstance(doc["_id"], str) and "_creationTime" in doc for doc in docs):
        raise ValueError("documents lack what Convex gives each")
    if one["more"] and read.peek and read.limit and not one["count"]:
        raise ValueError("more documents, behind none")
    following = None if one["next"] is None else _decode_bounds(one["next"])
    if following and len(following) not in (key_length(read.range), read.distinct):
        raise ValueError("a place to go on behind that is none of the index")
    if read.pack is not None:
        docs, matrix = _unpacked(docs, read.pack, rounded=one["rounded"])
    counted = following is not None or (read.pack is None and read.digest is None)
    return ReadResult(
        docs,
        int(one["count"]) if counted else 0,
        int(one["skipped"]) if counted else 0,
        one["more"],
        following,
        matrix,
        _decode_digests(one),
        frozenset(one["gone"]) if "gone" in one else None,
        last=_decode_bounds(one["last"]) if "last" in one else None,
        groups={} if read.fold is None else _decode_groups(read.fold, one["groups"]),
        followed=_decode_followed(
            read.follow, one.get("followed") or (), {doc["_id"]: doc for doc in docs} if read.follow else {}
        ),
    )


def _decode_digests(one: Json) -> dict[str, str]:
    if "version" in one:
        return {"": version_digest(one["version"])}
    if "digest" in one:
        return {"": f"{int(one['count'])} {one['digest']}"}
    return dict(one.get("digests") or ())


def _decode_bounds(bounds: Iterable[Sequence[Value]]) -> KeyValue:
    return tuple(bound[0] if bound else MISSING for bound in bounds)


def _decode_groups(fold: Fold, groups: Iterable[tuple[Any, Any]]) -> Groups:
    decoded = {}
    for bounds, partials in groups:
        key = _decode_bounds(bounds)
        of = tuple(_PARTIALS[term.op](partial) for term, partial in zip(fold.of, partials, strict=True))
        decoded[b"".join(map(canonical, key))] = Group(key, of)
    return decoded


def _decode_sum(partial: Json) -> Sum:
    digits, exponent = partial.get("exact", ("0", LEAST))
    bits = int(digits, 16) << (int(exponent) - LEAST)
    return Sum(int(partial["n"]), bits, int(partial.get("int64", "0")), odds_of(float(partial.get("odd", 0))))


_PARTIALS: dict[str, Callable[[Any], Partial]] = {
    "count": lambda partial: Tally(int(partial)),
    "sum": _decode_sum,
    "min": lambda partial: Extreme(-1, partial[0] if partial else MISSING),
    "max": lambda partial: Extreme(1, partial[0] if partial else MISSING),
}


def _decode_followed(follow: Sequence[Follow], edges: Sequence[Json], sent: dict[str, Document]) -> tuple[Followed, ...]:
    """What edges led to. A document that was `sent` before in the same answer comes as its id."""
    if len(follow) != len(edges):
        raise ValueError("other edges than were asked for")
    decoded = []
    for asked, edge in zip(follow, edges, strict=True):
        followed = Followed({}, ())
        for (key,), docs, following in edge["groups"]:
            for doc in docs:
                if not isinstance(doc, str):
                    sent[doc["_id"]] = doc
            behind = None if following is None else tuple(bound[0] if bound else MISSING for bound in following)
            if behind and len(behind) != key_length(asked.range):
                raise ValueError("a place to go on behind that is none of the index")
            followed.add(key, [sent[doc] if isinstance(doc, str) else doc for doc in docs], behind)
        decoded.append(replace(followed, followed=_decode_followed(asked.follow, edge.get("followed") or (), sent)))
    return tuple(decoded)


def _unpacked(docs: Sequence[Json], pack: Pack, *, rounded: bool) -> tuple[Sequence[Json], Matrix]:
    """The documents without their packed field, and the field of all of them as a matrix."""
    need("numpy")
    import numpy as np

    floats = np.frombuffer(b"".join([doc.pop(pack.field) for doc in docs]), dtype="<f4")
    rows = floats.reshape(len(docs), pack.length).astype(np.float32)
    return docs, Matrix([doc["_id"] for doc in docs], rows, rounded)


def _results(answer: Value, name: str, expected: int | None) -> list[Any]:
    results = answer.get(name) if isinstance(answer, dict) and answer.get("version") == VERSION else None
    if not isinstance(results, list) or (expected is not None and len(results) != expected):
        raise DeploymentError(f"the deployment's answer is not of wire version {VERSION}; {DEPLOY}")
    return results


# -- commit --------------------------------------------------------------------------------------------------------


def _encode_key(table: Table, key: Key) -> Json:
    return {**_encode_index(table, key.index), "key": _bounds(key.key)}


def _encode_unique(table: Table, unique: Sequence[Unique]) -> list[Json]:
    return [
        _encode_index(table, one.index) if one.key is None else _encode_key(table, Key(one.index, one.key))
        for one in unique
    ]


def _encode_target(table: Table, at: Target) -> Json:
    return _encode_key(table, at) if isinstance(at, Key) else {"id": at}


def _encode_expect(expect: Expect) -> Json:
    return {name: _expectation(value) for name, value in expect.items()}


def _expectation(value: Value | Missing | OneOf) -> Json:
    if isinstance(value, OneOf):
        return {"in": [_bound(one) for one in value.values]}
    return {"is": _bound(value)} if size_of(value) < _LARGE else {"sha256": digest(value)}


def _encode_guarded(op: str, write: Patch | Replace | Delete, **rest: Any) -> Json:
    encoded: Json = {"op": op, "table": write.table.name, "at": _encode_target(write.table, write.at), **rest}
    if write.expect:
        encoded["expect"] = _encode_expect(write.expect)
    if write.missing != "fail":
        encoded["missing"] = write.missing
    return encoded


def _with_packed(encoded: Json, table: Table, name: str, fields: Mapping[str, Value]) -> Json:
    """The fields of a write, those that are numpy arrays as bytes."""
    arrays = {field: fields[field] for field in table.vector_fields if is_array(fields.get(field))}
    encoded[name] = {**fields, **{field: _little_endian(array) for field, array in arrays.items()}}
    if arrays:
        encoded["packed"] = {field: array.dtype.itemsize for field, array in arrays.items()}
    return encoded


def _little_endian(array: np.ndarray[Any, Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _encode_insert(write: Insert) -> Json:
    encoded = _with_packed({"op": "insert", "table": write.table.name}, write.table, "doc", write.doc)
    if write.unique:
        encoded["unique"] = _encode_unique(write.table, write.unique)
    if write.returning:
        encoded["returning"] = True
    return _with_refs(encoded, write)


def _with_refs(encoded: Json, write: Insert | Upsert | Patch) -> Json:
    if write.refs:
        encoded["refs"] = dict(write.refs)
    return encoded


def _encode_upsert(write: Upsert) -> Json:
    encoded: Json = {"op": "upsert", "table": write.table.name, "at": _encode_key(write.table, write.at)}
    _with_packed(encoded, write.table, "doc", write.doc)
    if write.keep:
        encoded["keep"] = list(write.keep)
    if write.greatest:
        encoded["greatest"] = list(write.greatest)
    if write.returning:
        encoded["returning"] = True
    if write.unique:
        encoded["unique"] = _encode_unique(write.table, write.unique)
    if write.identity:
        encoded["identity"] = list(write.identity)
    return _with_refs(encoded, write)


def _encode_patch(write: Patch) -> Json:
    encoded = _encode_guarded("patch", write)
    if write.unset:
        encoded["unset"] = list(write.unset)
    if write.unique:
        encoded["unique"] = _encode_unique(write.table, write.unique)
    if write.greatest:
        encoded["greatest"] = list(write.greatest)
    if write.compute:
        encoded["compute"] = {name: _encode_operand(operand) for name, operand in write.compute.items()}
    if write.where is not None:
        encoded["where"] = _encode_filter(write.where)
    return _with_packed(_with_refs(encoded, write), write.table, "set", write.set)


def _encode_operand(operand: Operand) -> Json:
    return _OPERANDS[type(operand)](operand)


def _encode_both(one: Arithmetic | computed.Extreme) -> Json:
    return {"op": one.op, "left": _encode_operand(one.left), "right": _encode_operand(one.right)}


_OPERANDS: dict[type, Callable[[Any], Json]] = {
    Constant: lambda one: {"op": "value", "value": [one.value]},
    Stored: lambda one: {"op": "field", "field": one.field, "default": _bound(one.default)},
    Arithmetic: lambda one: _encode_both(one) | ({"whole": True} if one.whole else {}),
    computed.Extreme: _encode_both,
    Listed: lambda one: {"op": one.op, "field": one.field, "value": [one.value]},
    Now: lambda one: {"op": "now", "form": one.form},
}


def _encode_replace(write: Replace) -> Json:
    encoded = _with_packed(_encode_guarded("replace", write), write.table, "doc", write.doc)
    if write.unique:
        encoded["unique"] = _encode_unique(write.table, write.unique)
    return encoded


def _encode_delete(write: Delete) -> Json:
    encoded = _encode_guarded("delete", write)
    if write.tells:
        encoded["tells"] = True
    return encoded


def _encode_delete_range(write: DeleteRange) -> Json:
    encoded: Json = {"op": "deleteRange", **_encode_range(write.range)}
    if write.filter is not None:
        encoded["filter"] = _encode_filter(write.filter)
    if write.limit is not None:
        encoded["limit"] = write.limit
    if write.tells:
        encoded["tells"] = True
    return encoded


def _encode_schedule(write: Schedule) -> Json:
    when = {"delay": float(write.delay)} if write.delay is not None else {"at": float(write.at or 0)}
    return {"op": "schedule", "path": write.path, "args": write.arguments, **when}


_WRITES: dict[type, Callable[[Any], Json]] = {
    Insert: _encode_insert,
    Upsert: _encode_upsert,
    Patch: _encode_patch,
    Replace: _encode_replace,
    Delete: _encode_delete,
    DeleteRange: _encode_delete_range,
    Recount: lambda write: {"op": "recount", "table": write.table.name, "limit": write.limit},
    Schedule: _encode_schedule,
    Cancel: lambda write: {"op": "cancel", "id": write.id},
}


def encode_commit(commit: Commit) -> Json:
    """The arguments of `commit`."""
    encoded = [_WRITES[type(write)](write) for write in commit.writes]
    chunks = [encoded[start : start + _CHUNK] for start in range(0, len(encoded), _CHUNK)]
    encoded_commit: Json = {"version": VERSION, "commitId": commit.id, "writes": chunks}
    counters = _encode_counters(commit.tables())
    if counters:
        encoded_commit["counters"] = counters
    if commit.rules:
        encoded_commit["rules"] = {table: list(map(_encode_rule, rules)) for table, rules in commit.rules.items()}
    if commit.checks:
        encoded_commit["checks"] = {table: list(map(_encode_check, checks)) for table, checks in commit.checks.items()}
    return encoded_commit


def _encode_rule(rule: Rule) -> Json:
    encoded: Json = {"relation": rule.relation, "table": rule.table.name, **_encode_index(rule.table, rule.index)}
    encoded |= {"key": rule.key, "field": rule.field, "action": rule.action}
    if rule.null:
        encoded["null"] = True
    if rule.unique:
        encoded["unique"] = _encode_unique(rule.table, rule.unique)
    if rule.where is not None:
        encoded["where"] = _encode_filter(rule.where)
    if rule.filter is not None:
        encoded["filter"] = _encode_filter(rule.filter)
    return encoded


def _encode_check(check: Check) -> Json:
    return {"field": check.field, "table": check.table.name, **_encode_index(check.table, check.index)}


def _encode_counters(tables: Iterable[Table]) -> list[Json]:
    """The counters of the tables that a commit is about: it may write to those that its rules lead to as well."""
    return [
        {"table": name, "name": one.name, "by": list(one.by), **({} if one.of is None else {"of": one.of})}
        for name, table in {table.name: table for table in tables}.items()
        for one in table.counters
    ]


def encode_withdraw(commit: Commit) -> Json:
    """The arguments of `commit` that withdraw it."""
    return {"version": VERSION, "commitId": commit.id, "withdraw": True}


@decoding()
def decode_withdraw(answer: Value, writes: Sequence[Write]) -> list[Applied] | None:
    """What `commit` has answered to a withdrawal of `writes`: None if they were withdrawn, else what was applied before.
    Raises DeploymentError, likewise.
    """
    if isinstance(answer, dict) and answer.get("version") == VERSION and answer.get("withdrawn") is True:
        return None
    return decode_commit(answer, writes)


@decoding()
def decode_commit(answer: Value, writes: Sequence[Write]) -> list[Applied]:
    """What `commit` has answered to `writes`. Raises DeploymentError, likewise."""
    applied = list(chain.from_iterable(_results(answer, "results", None)))
    if len(applied) != len(writes):
        raise DeploymentError("the deployment answered another number of writes than it was sent")
    decoded = [_decode_applied(one) for one in applied]
    if any(type(one) not in _ANSWERS[type(write)] for one, write in zip(decoded, writes, strict=True)):
        raise DeploymentError("the deployment answered other writes than it was sent")
    return decoded


_ANSWERS: dict[type, tuple[type, ...]] = {
    Insert: (Written,),
    Upsert: (Written,),
    Patch: (bool,),
    Replace: (bool,),
    Delete: (bool, DeletedRange),
    DeleteRange: (DeletedRange,),
    Recount: (DeletedRange,),
    Schedule: (Written,),
    Cancel: (bool,),
}


def _decode_applied(one: Any) -> Applied:
    if isinstance(one, bool):
        return one
    if isinstance(one[0], str):
        return Written(*one)
    deleted, more, *told = one
    gone = tuple(Gone(table, field, tuple(ids)) for table, field, ids in told[0]) if told else ()
    return DeletedRange(int(deleted), more, gone)


# -- search --------------------------------------------------------------------------------------------------------


def encode_search(search: Search) -> Json:
    """The arguments of `search`."""
    index = search.table.vector_index(search.index)
    encoded: Json = {
        "version": VERSION,
        "table": search.table.name,
        "index": search.index,
        "field": index.field,
        "dimensions": index.dimensions,
        "vector": struct.pack(f"<{len(search.vector)}d", *search.vector),
        "limit": search.limit,
    }
    if search.filter:
        encoded["filter"] = [{"field": name, "value": _bound(value)} for name, value in search.filter]
    return encoded


@decoding()
def decode_search(answer: Value) -> list[tuple[float, Document]]:
    """Scores and documents, best first. Raises DeploymentError, likewise."""
    hits: Iterable[tuple[float, Mapping[str, Value]]] = _results(answer, "hits", None)
    return [(float(score), document) for score, document in hits]
