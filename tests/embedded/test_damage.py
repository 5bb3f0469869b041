"""Damaged files: every request says which table, in one typed error, and repeats nothing of what is stored."""

from __future__ import annotations

import inspect
import random
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from convexorm import ConvexORMError, Deployment, DeploymentError, connect
from convexorm.conditions import Comparison
from convexorm.deployments.embedded.damage import decoded
from convexorm.deployments.embedded.tables import _documents
from convexorm.faces import finish
from convexorm.requests import Commit, DeleteRange, Insert, Key, Pack, Patch, Range, Read, Search, TextSearch, Upsert
from convexorm.schema import Array, IndexDef, Number, Property, SearchIndexDef, String, Table, VectorIndexDef
from convexorm.values import MISSING
from tests.embedded.support import add

SECRET = "the-contents"
PLACES = Table(
    "places",
    {"name": Property(String()), "at": Property(Array(Number()))},
    (IndexDef("by_name", ("name",)),),
    (VectorIndexDef("by_at", "at", 2),),
    search_indexes=(SearchIndexDef("by_words", "name"),),
)
WIDER = Table("places", PLACES.fields, (*PLACES.indexes, IndexDef("by_both", ("name", "at"))))
FIRST = Commit("first", [Insert(PLACES, {"name": f"{SECRET}-{n}", "at": [float(n), 1.0]}) for n in range(60)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        finish(deployment.blocking.commit(FIRST))
    return tmp_path / "a.db"


def read(**options: Any) -> Callable[[Deployment], Any]:
    return lambda deployment: finish(deployment.blocking.read([Read(Range(PLACES, "by_name"), **options)]))


def commit(*writes: Any) -> Callable[[Deployment], Any]:
    return lambda deployment: finish(deployment.blocking.commit(Commit(uuid4().hex, list(writes))))


def everything(deployment: Deployment) -> None:
    ((result,),) = (read(pack=Pack("at", 2))(deployment),)
    list(result.docs)


def search_for(words: str) -> Read:
    return Read(Range(PLACES, "by_creation_time"), limit=60, search=TextSearch("by_words", words))


REQUESTS: dict[str, Callable[[Deployment], Any]] = {
    "read": read(),
    "filtered": read(filter=Comparison("name", "ne", MISSING)),
    "count": read(count=True),
    "matrix": everything,
    "digest": read(digest="all"),
    "digests": read(digest="each"),
    "search": lambda deployment: finish(deployment.blocking.search(Search(PLACES, "by_at", (1.0, 0.0), 60))),
    "search texts": lambda deployment: finish(deployment.blocking.read([search_for("contents 7")])),
    "insert": commit(Insert(PLACES, {"name": "new", "at": [0.0, 0.0]})),
    "patch": commit(Patch(PLACES, Key("by_name", (f"{SECRET}-7",)), {"at": [5.0, 5.0]})),
    "upsert": commit(Upsert(PLACES, Key("by_name", (f"{SECRET}-7",)), {"name": f"{SECRET}-7", "at": [5.0, 5.0]}, ("at",))),
    "delete": commit(DeleteRange(Range(PLACES, "by_name"))),
    "widen": lambda deployment: finish(deployment.blocking.read([Read(Range(WIDER, "by_both"))])),
    "again": lambda deployment: finish(deployment.blocking.commit(FIRST)),
    "backup": lambda deployment: deployment.backup(Path(deployment.path).with_name(uuid4().hex)),  # type: ignore[attr-defined]
    "vacuum": lambda deployment: deployment.vacuum(),
}


def told(error: BaseException) -> str:
    """All that an error says or keeps: its chain, and what the exceptions of it hold."""
    seen: list[str] = []
    current: BaseException | None = error
    while current is not None:
        seen += [str(current), repr(current), repr(vars(current)), *map(repr, current.args)]
        current = current.__cause__ or current.__context__
    return " ".join(seen) + "".join(traceback.format_exception_only(error))


DAMAGES = {
    "body cut": (
        "UPDATE t1 SET body = substr(body, 1, 9)",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "body of bytes": (
        "UPDATE t1 SET body = CAST(substr(body, 1, 20) || x'ff' AS TEXT)",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "body a list": (
        "UPDATE t1 SET body = '[1]'",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "body two": (
        "UPDATE t1 SET body = body || ',{}'",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "body none": (
        "UPDATE t1 SET body = NULL",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "id none": ("UPDATE t1 SET id = NULL", {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"}),
    "vector cut": (
        "UPDATE t1 SET v0 = x'010203'",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "vector a text": (
        "UPDATE t1 SET v0 = 'abcd'",
        {"read", "filtered", "matrix", "search", "patch", "upsert", "delete", "widen"},
    ),
    "table gone": ("DROP TABLE t1", set(REQUESTS) - {"digest", "again", "backup", "vacuum"}),
    "tick far ahead": ("UPDATE t1 SET tick = 9223372036854775807 WHERE id = (SELECT max(id) FROM t1)", {"insert"}),
    "ids of others": ("UPDATE t1 SET id = (SELECT min(id) FROM t1)", {"delete"}),
    "catalog cut": ("UPDATE convexorm_tables SET indexes = '[[\"the-con'", set(REQUESTS) - {"again", "backup", "vacuum"}),
    "catalog other": ("UPDATE convexorm_tables SET vectors = '5'", set(REQUESTS) - {"again", "backup", "vacuum"}),
    "answer cut": ("UPDATE convexorm_commits SET answer = '[[\"the-contents'", {"again"}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_or_catalog_is_named_without_its_contents(path: Path, damage: str) -> None:
    statement, concerned = DAMAGES[damage]
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    for name, request in REQUESTS.items():
        with connect(f"sqlite:///{path}") as deployment:
            if name not in concerned:
                continue
            with pytest.raises(DeploymentError) as refused:
                request(deployment)
            assert "convexorm_commits" in str(refused.value) or "'places'" in str(refused.value), (name, refused.value)
            assert "damaged" in str(refused.value)
            assert "the-con" not in told(refused.value), name


@pytest.mark.parametrize("depth", [900, 3_000, 100_000])
def test_a_row_nested_at_any_depth_is_answered_or_refused_with_a_typed_error(path: Path, depth: int) -> None:
    connection = sqlite3.connect(path)
    body = f'{{"name":{"[" * depth}"{SECRET}"{"]" * depth}}}'
    connection.execute("UPDATE t1 SET body = ?", (body,))
    connection.commit()
    connection.close()
    refusals = 0
    for request in REQUESTS.values():
        try:
            with connect(f"sqlite:///{path}") as deployment:
                request(deployment)
        except DeploymentError as error:
            refusals += 1
            assert "'places'" in str(error)  # noqa: PT017
            assert SECRET not in told(error)  # noqa: PT017
    assert refusals or depth < 3_000


def test_a_stack_that_its_caller_has_used_up_is_not_the_datas_fault() -> None:
    def fail() -> None:
        raise RecursionError

    def deeper(left: int) -> None:
        deeper(left - 1) if left else decoded("places", fail)

    with pytest.raises(DeploymentError, match="'places'"):
        deeper(0)
    with pytest.raises(RecursionError):
        deeper(sys.getrecursionlimit() - len(inspect.stack()) - 100)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_are_answered_or_refused_with_a_typed_error(path: Path, seed: int) -> None:
    draw = random.Random(seed)
    whole = path.read_bytes()
    refusals = 0
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 4, 30))):
            damaged[draw.randrange(100, len(damaged))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.3:  # a page of it is another
            page = draw.randrange(1, len(damaged) // 4096) * 4096
            damaged[page : page + 4096] = draw.randbytes(4096)
        other = path.with_name(f"{uuid4().hex}.db")
        other.write_bytes(damaged)
        for request in REQUESTS.values():
            try:
                with connect(f"sqlite:///{other}") as deployment:
                    request(deployment)
            except ConvexORMError as error:
                refusals += isinstance(error, DeploymentError)
                assert SECRET not in told(error)  # noqa: PT017
    assert refusals


@pytest.mark.parametrize("ticks", [[1, 2, 2], [1, 3, 2], ["1"], [None], [-1]], ids=repr)
def test_rows_that_come_out_of_order_are_damage_and_not_gone_through_for_ever(ticks: list[Any]) -> None:
    """A damaged tree answers the same rows again, whatever they are to be behind."""

    class Table:
        select, label = "tick", "places"

        def fields(self, row: tuple[Any, ...]) -> dict[str, Any]:
            return {}

    class Rows:
        def execute(self, statement: str, parameters: tuple[Any, ...]) -> Rows:
            return self

        def fetchall(self) -> list[tuple[Any, ...]]:
            return [(tick,) for tick in ticks]

    stored: Any = Table()
    rows: Any = Rows()
    with pytest.raises(DeploymentError, match=r"places.*out of order"):
        list(_documents(rows, stored, "t1"))


@pytest.mark.parametrize("size", [100, 4_096, 5_000, 20_000])
def test_a_file_that_was_cut_is_left_as_it_is_with_nothing_beside_it(path: Path, size: int) -> None:
    with connect(f"sqlite:///{path}") as deployment:
        for _ in range(40):
            add(deployment, "x" * 500)
    with path.open("r+b") as file:
        file.truncate(size)
    cut = path.read_bytes()
    for _ in range(2):
        with pytest.raises(DeploymentError, match="damaged"):
            connect(f"sqlite:///{path}").close()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == cut


def test_two_pages_in_each_others_place_are_one_typed_error(path: Path) -> None:
    """Whichever they are: SQLite finds out, or what it reads then is not what was written."""
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA journal_mode = DELETE")
    file.close()
    data = path.read_bytes()
    pages = [data[start : start + 4_096] for start in range(0, len(data), 4_096)]
    raw = []
    for one in range(len(pages)):
        for other in range(one):
            swapped = list(pages)
            swapped[one], swapped[other] = pages[other], pages[one]
            path.write_bytes(b"".join(swapped))
            for call in (read(), read(count=True), everything):
                try:
                    with connect(f"sqlite:///{path}?mode=ro") as deployment:
                        call(deployment)
                except ConvexORMError:
                    pass
                except Exception as error:
                    raw.append((one, other, repr(error)))
    assert raw == []
