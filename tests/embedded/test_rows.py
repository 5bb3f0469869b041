"""What rows hold: bodies that come back as they were whoever declares what, and keys that follow their fields."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from convexorm import Deployment, LimitExceeded, connect
from convexorm.deployments.embedded.format import APPLICATION_ID
from convexorm.faces import finish
from convexorm.requests import Commit, Document, Insert, Key, Patch, Range, Read, Unique, Upsert, Write, Written
from convexorm.schema import Array, Bytes, IndexDef, Int64, Number, Object, Property, Record, String, Table
from convexorm.values import ConvexInt64, Value, same


def table(*indexes: IndexDef, **fields: Any) -> Table:
    """A table whose fields may all be missing."""
    return Table("rows", {field: Property(validator, optional=True) for field, validator in fields.items()}, indexes)


def commit(deployment: Deployment, *writes: Write) -> list[Any]:
    return finish(deployment.blocking.commit(Commit.new(writes)))


def read(deployment: Deployment, rows: Table, index: str = "by_creation_time", *key: Value) -> list[dict[str, Value]]:
    (found,) = finish(deployment.blocking.read([Read(Range(rows, index, key))]))
    return [{name: value for name, value in one.items() if name[0] != "_"} for one in found.docs]


@pytest.mark.parametrize("stored", [b"\x00\xff", ConvexInt64(2**60), math.inf, [1.0, -math.inf]], ids=repr)
@pytest.mark.parametrize("seen", [String(), None], ids=["as text", "not at all"])
def test_what_one_program_stored_survives_another_that_declares_it_otherwise(
    stored: Value, seen: String | None, tmp_path: Path
) -> None:
    kinds = {bytes: Bytes(), float: Number(), list: Record(Array(Number())), ConvexInt64: Int64()}
    value = {"in": stored} if isinstance(stored, list) else stored
    writer = table(name=String(), x=kinds[type(stored)])
    other = table(IndexDef("by_name", ("name",)), name=String(), **({} if seen is None else {"x": seen}))
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        (written,) = commit(deployment, Insert(writer, {"name": "a", "x": value}))
        expected: Document = {"name": "a", "x": value}
        assert same(read(deployment, writer), [expected])
        assert same(read(deployment, other, "by_name", "a"), [expected])  # its index is added
        commit(deployment, Patch(other, written.id, {"name": "b"}))
        assert same(read(deployment, writer), [{"name": "b", "x": value}])
        commit(deployment, Upsert(other, Key("by_name", ("b",)), {"name": "b"}, keep=("x",)))
        assert same(read(deployment, writer), [{"name": "b", "x": value}])


@pytest.mark.parametrize(
    ("validator", "values"),
    [
        (Number(), [math.inf, -math.inf, -0.0, 0, 5, 5.0, 1e300, 2**53, 0.1]),
        (Array(Number()), [[], [1.5, math.inf], [1, -0.0], [1e300]]),
        (Object({"n": Property(Number()), "b": Property(Bytes())}), [{"n": -math.inf, "b": b"$"}, {"n": 1, "b": b""}]),
        (String(), ["null", '"$bytes"', "\x00\u2028\ud7ff😀", "\\ud800", ""]),
    ],
    ids=["number", "numbers", "object", "text"],
)
def test_a_value_beside_text_that_looks_like_json_comes_back_as_it_was(
    validator: Any, values: list[Value], tmp_path: Path
) -> None:
    rows = table(x=validator, text=String())
    documents: list[dict[str, Value]] = [{"text": '{"null":null,"$integer":1}', "x": value} for value in values]
    for url in ("memory:", f"sqlite:///{tmp_path / 'a.db'}"):
        with connect(url) as deployment:
            commit(deployment, *(Insert(rows, one) for one in documents))
            found = read(deployment, rows)
            assert same(found, documents)


def test_an_index_follows_the_fields_that_a_change_sets_and_removes() -> None:
    rows = table(
        IndexDef("by_a", ("a",)),
        IndexDef("by_a_b", ("a", "b")),
        IndexDef("by_city", ("at.city",)),
        a=String(),
        b=Number(),
        c=String(),
        at=Record(String()),
    )
    with connect("memory:") as deployment:
        (one,) = commit(deployment, Insert(rows, {"a": "x", "b": 1, "c": "", "at": {"city": "Rome"}}))

        def found() -> list[int]:
            keys: list[tuple[str, tuple[Value, ...]]] = [
                ("by_a", ("x",)),
                ("by_a", ("y",)),
                ("by_a_b", ("x", 1)),
                ("by_a_b", ("y", 2)),
                ("by_city", ("Rome",)),
                ("by_city", ("Oslo",)),
            ]
            return [len(read(deployment, rows, index, *key)) for index, key in keys]

        assert found() == [1, 0, 1, 0, 1, 0]
        commit(deployment, Patch(rows, one.id, {"c": "changed"}))
        assert found() == [1, 0, 1, 0, 1, 0]
        commit(deployment, Patch(rows, one.id, {"at": {"city": "Oslo"}}))
        assert found() == [1, 0, 1, 0, 0, 1]
        commit(deployment, Patch(rows, one.id, {"a": "y", "b": 2}))
        assert found() == [0, 1, 0, 1, 0, 1]
        commit(deployment, Patch(rows, one.id, {}, unset=("b", "at")))
        assert found() == [0, 1, 0, 0, 0, 0]


def test_a_document_that_grows_too_large_bit_by_bit_is_refused() -> None:
    rows = table(a=String(), b=String())
    with connect("memory:") as deployment:
        (one,) = commit(deployment, Insert(rows, {"a": "x" * 600_000}))
        with pytest.raises(LimitExceeded):
            commit(deployment, Patch(rows, one.id, {"b": "x" * 500_000}))
        assert [sorted(document) for document in read(deployment, rows)] == [["a"]]


def test_a_file_of_format_1_is_migrated_with_what_it_remembers(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    rows = table(IndexDef("by_name", ("name",)), name=String())
    answer: list[Any] = [f"{7:014x}{1:04x}{7:014x}", 0.007, True]
    connection = sqlite3.connect(path)
    connection.executescript(f"""
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = 1;
        CREATE TABLE convexorm_tables (
            number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, indexes TEXT NOT NULL, vectors TEXT NOT NULL,
            changes INTEGER NOT NULL DEFAULT 0);
        CREATE TABLE convexorm_commits (id TEXT PRIMARY KEY, at REAL NOT NULL, answer TEXT NOT NULL);
        CREATE INDEX convexorm_commits_at ON convexorm_commits (at);
        CREATE TABLE t1 (tick INTEGER PRIMARY KEY, id TEXT, body TEXT, k0 BLOB);
        CREATE INDEX i1_k0 ON t1 (k0);
        INSERT INTO convexorm_tables VALUES (1, 'rows', '[["name"]]', '[]', 0);
        INSERT INTO t1 VALUES (7, '{answer[0]}', '{{"name":"x"}}', CAST('\x10x' || char(0) AS BLOB));
        INSERT INTO convexorm_commits VALUES ('c', strftime('%s'), '{json.dumps([answer])}');
        """)
    connection.close()
    again = Commit("c", [Insert(rows, {"name": "x"}, (Unique("by_name"),))])
    with connect(f"sqlite:///{path}") as deployment:
        assert read(deployment, rows, "by_name", "x") == [{"name": "x"}]
        assert finish(deployment.blocking.commit(again)) == [Written(*answer)]
        assert len(commit(deployment, Insert(rows, {"name": "y"}, (Unique("by_name"),)))) == 1
    connection = sqlite3.connect(path)
    assert "convexorm_commits_at" not in [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()


def test_fields_that_come_to_be_packed_later_are_read_by_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    plain, first, second = table(name=String()), table(v=Array(Number())), table(v=Array(Number()), w=Array(Number()))
    with connect(url) as one, connect(url) as two:
        stored: list[dict[str, Value]] = []
        for rows in (plain, first, second):
            stored.append({field: "x" if field == "name" else [1.5, 2.0] for field in rows.fields})
            commit(two, Insert(rows, stored[-1]))
            assert read(one, plain) == read(two, plain) == stored
    for mode in ("", "?mode=ro"):
        with connect(url + mode) as deployment:
            assert [sorted(document) for document in read(deployment, plain)] == [["name"], ["v"], ["v", "w"]]
            assert read(deployment, second)[2]["w"] == [1.5, 2.0]
