"""SQLite files: whose they are, of which format, opened by many at once, and those that can only be read."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convexorm import Deployment, DeploymentError, IndexRangeError, connect
from convexorm.deployments.embedded.format import APPLICATION_ID, FORMAT
from convexorm.deployments.embedded.keys import document_key
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Pack, Range, Read, Search
from convexorm.schema import Array, IndexDef, Number, Property, String, Table, VectorIndexDef
from tests.embedded.support import ROWS, add, in_child, intact, names


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


# -- files that go away --------------------------------------------------------------------------------------------


def test_nothing_is_written_to_a_file_that_was_deleted_or_moved(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "x")
        for name in os.listdir(tmp_path):
            (tmp_path / name).rename(tmp_path / name.replace("a", "b", 1))
        for _ in range(2):
            with pytest.raises(DeploymentError, match="not there any more"):
                add(deployment, "lost")
        assert not (tmp_path / "a.db").exists()
        for name in os.listdir(tmp_path):
            (tmp_path / name).rename(tmp_path / name.replace("b", "a", 1))
        add(deployment, "y")
        assert names(deployment) == ["x", "y"]
    assert intact(tmp_path / "a.db")


def test_a_file_in_the_place_of_another_is_looked_at_as_the_first_was(tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        with connect(f"sqlite:///{tmp_path / name}") as deployment:
            add(deployment, name)
    foreign(tmp_path / "c.db", "CREATE TABLE users (a)")
    theirs = (tmp_path / "c.db").read_bytes()
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        assert names(deployment) == ["a.db"]
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"a.db{suffix}").unlink(missing_ok=True)
        os.replace(tmp_path / "b.db", tmp_path / "a.db")
        add(deployment, "new")
        assert names(deployment) == ["b.db", "new"]
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"a.db{suffix}").unlink(missing_ok=True)
        os.replace(tmp_path / "c.db", tmp_path / "a.db")
        with pytest.raises(DeploymentError, match="another application"):
            add(deployment, "lost")
        assert (tmp_path / "a.db").read_bytes() == theirs


# -- whose they are ------------------------------------------------------------------------------------------------


def foreign(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE users (a)",),
        ("CREATE TABLE users (a)", "PRAGMA journal_mode = WAL"),
        ("PRAGMA application_id = 7",),
        ("PRAGMA user_version = 3",),
        ("CREATE TABLE convexorm_tables (a)",),
        ("CREATE TABLE t1 (a)",),
        (
            "CREATE TABLE convexorm_tables (number INTEGER PRIMARY KEY, name, indexes, vectors, changes)",
            "CREATE TABLE users (a)",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["", "?mode=ro"])
def test_a_file_of_another_application_is_refused_and_left_as_it_was(
    tmp_path: Path, statements: tuple[str, ...], mode: str
) -> None:
    foreign(tmp_path / "a.db", *statements)
    before = contents(tmp_path)
    with pytest.raises(DeploymentError, match="another application"):
        connect(f"sqlite:///{tmp_path / 'a.db'}{mode}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", ["no database, " * 200, "no database", "x"])
def test_what_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.db").write_text(content)
    before = contents(tmp_path)
    with pytest.raises(DeploymentError, match="not a database"):
        connect(f"sqlite:///{tmp_path / 'a.db'}")
    assert contents(tmp_path) == before


def test_a_file_of_a_later_format_is_refused_by_its_name(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "x")
    foreign(tmp_path / "a.db", f"PRAGMA user_version = {FORMAT + 1}")
    before = contents(tmp_path)
    with pytest.raises(DeploymentError, match=f"format {FORMAT + 1}.*up to {FORMAT}.*upgrade"):
        connect(f"sqlite:///{tmp_path / 'a.db'}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_new_or_empty_is_stamped(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.db").write_bytes(content)
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "x")
    connection = sqlite3.connect(tmp_path / "a.db")
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
    connection.close()


PLACES = Table(
    "places",
    {"name": Property(String()), "kind": Property(String()), "at": Property(Array(Number()))},
    (IndexDef("by_kind", ("kind", "name")), IndexDef("by_name", ("name",))),
    (VectorIndexDef("by_at", "at", 2),),
)


def format_0(path: Path) -> None:
    """A file of the format that had no stamp, with a table of two indexes and vectors."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript("""
        CREATE TABLE convexorm_tables (
            number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, indexes TEXT NOT NULL, vectors TEXT NOT NULL,
            changes INTEGER NOT NULL DEFAULT 0);
        CREATE TABLE convexorm_commits (id TEXT PRIMARY KEY, at REAL NOT NULL, answer TEXT NOT NULL);
        CREATE INDEX convexorm_commits_at ON convexorm_commits (at);
        CREATE TABLE t1 (tick INTEGER PRIMARY KEY, id TEXT, body TEXT, k0 BLOB, k1 BLOB, seq INTEGER, v0 BLOB);
        CREATE INDEX i1_k0 ON t1 (k0);
        CREATE INDEX i1_k1 ON t1 (k1);
        """)
    indexes = json.dumps({"by_kind": ["kind", "name"], "by_name": ["name"]})
    connection.execute("INSERT INTO convexorm_tables VALUES (1, 'places', ?, '[\"at\"]', 1)", (indexes,))
    for tick, (name, kind, at) in enumerate([("mill", "work", [1.0, 0.0]), ("inn", "rest", [0.0, 1.0])], 1_700_000):
        body = {"name": name, "kind": kind}
        keys = [document_key(fields)(body) for fields in (("kind", "name"), ("name",))]
        row = (tick, f"{tick:014x}{1:04x}{tick:014x}", json.dumps(body), *keys, 1, np.array(at, "<f4").tobytes())
        connection.execute("INSERT INTO t1 VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()


@pytest.mark.parametrize("mode", ["", "?mode=ro"])
def test_a_file_of_the_first_format_is_read_and_migrated_where_it_can_be(tmp_path: Path, mode: str) -> None:
    format_0(tmp_path / "a.db")
    before = contents(tmp_path)
    with connect(f"sqlite:///{tmp_path / 'a.db'}{mode}") as deployment:
        port = deployment.blocking
        by_kind, by_name = finish(
            port.read([Read(Range(PLACES, "by_kind", ("rest",))), Read(Range(PLACES, "by_name"), pack=Pack("at", 2))])
        )
        assert [one["at"] for one in by_kind.docs] == [[0.0, 1.0]]
        assert by_name.matrix is not None
        assert by_name.matrix.rows.tolist() == [[0.0, 1.0], [1.0, 0.0]]
        ((_, nearest),) = finish(port.search(Search(PLACES, "by_at", (1.0, 0.1), 1)))
        assert nearest["name"] == "mill"
        if not mode:
            finish(port.commit(Commit("c", [Insert(PLACES, {"name": "spa", "kind": "rest", "at": [1.0, 1.0]})])))
            (found,) = finish(port.read([Read(Range(PLACES, "by_kind", ("rest",)))]))
            assert [one["name"] for one in found.docs] == ["inn", "spa"]
    if mode:
        assert contents(tmp_path) == before
    else:
        assert intact(tmp_path / "a.db")
        foreign(tmp_path / "a.db")
        connection = sqlite3.connect(tmp_path / "a.db")
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        connection.close()


# -- many at once --------------------------------------------------------------------------------------------------


def open_and_add(url: str, number: int) -> None:
    with connect(url) as deployment:
        add(deployment, float(number))


def test_many_processes_open_one_fresh_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with ProcessPoolExecutor(10, mp_context=multiprocessing.get_context("fork")) as pool:
        for done in [pool.submit(open_and_add, url, number) for number in range(10)]:
            done.result(60)
    with connect(url) as deployment:
        assert names(deployment) == list(map(float, range(10)))


def test_an_index_of_one_name_over_other_fields_is_another_index(tmp_path: Path) -> None:
    """Two releases of a program at work on one file, each with the columns of its own: neither sees the other's."""
    fields = {"a": Property(String()), "b": Property(String()), "v": Property(Array(Number()), optional=True)}
    old = Table("rows", fields, (IndexDef("by_x", ("a",)),), (VectorIndexDef("near", "v", 2),))
    new = Table("rows", fields, (IndexDef("by_x", ("b",)),), (VectorIndexDef("near", "v", 3),))
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as one, connect(url) as two:
        releases = [(one, old, 2), (two, new, 3)]
        for turn in range(4):
            for number, (deployment, table, dimensions) in enumerate(releases):
                row = {"a": f"a{turn}{number}", "b": f"b{9 - turn}{number}", "v": [1.0] * dimensions}
                finish(deployment.blocking.commit(Commit(f"{turn}{number}", [Insert(table, row)])))
                (found,) = finish(
                    deployment.blocking.read([Read(Range(table, "by_x", (row["a"] if number == 0 else row["b"],)))])
                )
                assert [dict(one, _id="", _creationTime=0) for one in found.docs] == [
                    {**row, "_id": "", "_creationTime": 0}
                ]
                hits = finish(deployment.blocking.search(Search(table, "near", (1.0,) * dimensions, 9)))
                assert len(hits) == turn + 1
        connection = sqlite3.connect(tmp_path / "a.db")
        before = connection.execute("PRAGMA schema_version").fetchone()
        for deployment, table, _ in releases * 3:
            (found,) = finish(deployment.blocking.read([Read(Range(table, "by_x"))]))
            assert len(found.docs) == 8
        assert connection.execute("PRAGMA schema_version").fetchone() == before  # nothing is built again
        connection.close()


def test_a_reader_sees_fields_that_another_process_has_begun_to_pack(tmp_path: Path) -> None:
    plain = Table("rows", {"v": Property(Array(Number()), optional=True)})
    loose = Table("rows", {"v": Property(ROWS.fields["name"].validator, optional=True)})
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as one, connect(url) as two:
        finish(one.blocking.commit(Commit("1", [Insert(loose, {"v": [1.0, 2.0]})])))
        read = Read(Range(loose, "by_creation_time"))
        assert [row["v"] for row in finish(one.blocking.read([read]))[0].docs] == [[1.0, 2.0]]
        finish(two.blocking.commit(Commit("2", [Insert(plain, {"v": [3.0]})])))
        assert [row["v"] for row in finish(one.blocking.read([read]))[0].docs] == [[1.0, 2.0], [3.0]]


# -- files that are only read --------------------------------------------------------------------------------------


def test_a_file_opened_to_be_read_is_not_changed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as deployment:
        add(deployment, "x")
    before = contents(tmp_path)
    with connect(f"{url}?mode=ro") as deployment:
        assert names(deployment) == ["x"]
        writes: list[Callable[[], Any]] = [
            lambda: add(deployment, "y"),
            deployment.vacuum,
            lambda: finish(deployment.blocking.withdraw(Commit("c", []))),
        ]
        for write in writes:
            with pytest.raises(DeploymentError, match=r"can only be read.*mode=ro"):
                write()
        other = Table("others", ROWS.fields, ROWS.indexes)
        assert finish(deployment.blocking.read([Read(Range(other, "by_name"))]))[0].docs == ()
        assert contents(tmp_path) == before
    assert contents(tmp_path) == before


def test_an_index_that_a_file_lacks_cannot_be_read_by(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    fields = {**ROWS.fields, "size": ROWS.fields["name"]}
    sized = Table("rows", fields, (*ROWS.indexes, IndexDef("by_size", ("size", "name"))))
    with connect(url) as deployment:
        add(deployment, "x")
    with connect(f"{url}?mode=ro") as deployment:
        assert len(finish(deployment.blocking.read([Read(Range(sized, "by_name"))]))[0].docs) == 1
        with pytest.raises(IndexRangeError, match=r"by_size.*size, name.*lacks this index"):
            finish(deployment.blocking.read([Read(Range(sized, "by_size"))]))


def test_a_reader_sees_what_others_commit_meanwhile(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as writer:
        add(writer, "a")
    with connect(f"{url}?mode=ro") as reader:
        assert names(reader) == ["a"]
        with connect(url) as writer:
            add(writer, "b")
            assert names(reader) == ["a", "b"]
        assert names(reader) == ["a", "b"]
        with connect(url) as writer:
            add(writer, "c")
        assert names(reader) == ["a", "b", "c"]


def test_a_file_that_is_not_there_is_not_made_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="no such file"):
        connect(f"sqlite:///{tmp_path / 'a.db'}?mode=ro")
    assert contents(tmp_path) == {}


def _as_somebody(work: Callable[[], None]) -> None:
    """In a child without the rights of root."""

    def run() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        work()

    in_child(run)()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["file", "folder", "both"])
def test_a_file_that_cannot_be_written_can_be_read(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with connect(f"sqlite:///{folder / 'a.db'}") as deployment:
        add(deployment, "x")
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and str(parent).count("/") > 1:
            parent.chmod(parent.stat().st_mode | 0o055)
    (folder / "a.db").chmod(0o444 if what != "folder" else 0o666)
    folder.chmod(0o777 if what == "file" else 0o555)
    before = contents(folder)

    def work() -> None:
        with connect(f"sqlite:///{folder / 'a.db'}") as deployment:
            assert names(deployment) == ["x"]
            with pytest.raises(DeploymentError, match=r"can only be read: the file or its folder cannot be written"):
                add(deployment, "y")
            assert names(deployment) == ["x"]

    _as_somebody(work)
    assert contents(folder) == before
    folder.chmod(0o755)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("mode=s3cret", "no such value of the option 'mode'"),
        ("s3cret=ro", "no such option"),
        ("mode=ro&s3cret", "no such option"),
        ("synchronous=off", "no such value of the option 'synchronous'"),
        ("", "no such option"),
        ("mode=ro&mode=ro", "'mode' of a SQLite file is given twice"),
    ],
)
def test_an_option_that_there_is_not_is_refused_and_not_repeated(tmp_path: Path, query: str, problem: str) -> None:
    with pytest.raises(DeploymentError, match=problem) as refused:
        connect(f"sqlite:///{tmp_path / 'a.db'}?{query}")
    assert "twice" in problem or "mode=ro, synchronous=normal, synchronous=full" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(("query", "level"), [("", 1), ("?synchronous=normal", 1), ("?synchronous=full", 2)])
def test_how_much_a_commit_waits_for_the_disk_is_an_option(tmp_path: Path, query: str, level: int) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}{query}") as deployment:
        add(deployment, "x")
        assert _pragma(deployment, "synchronous") == level


def _pragma(deployment: Any, name: str) -> Any:
    (value,) = deployment._engine._pool.run(lambda connection: connection.execute(f"PRAGMA {name}").fetchone())
    return value


def test_a_file_stays_the_same_when_the_process_changes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    deployment: Deployment
    with connect("sqlite:///a.db") as deployment:
        add(deployment, "x")
        monkeypatch.chdir(tmp_path / "elsewhere")
        in_child(lambda: add(deployment, "y"))()
        assert names(deployment) == ["x", "y"]
    assert os.listdir(tmp_path / "elsewhere") == []
