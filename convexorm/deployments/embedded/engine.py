"""Answers requests on the calling thread: what each request does in its transaction.

Tables are created when a commit first names them, key columns when any request does. A file may be used by several
processes at once: writers queue behind each other, and every transaction looks at the tables as they are at its moment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs
from msgspec.structs import replace

from convexorm.conditions import existences
from convexorm.deployments.documents import answered, derived
from convexorm.deployments.embedded.backups import Decision, back_up
from convexorm.deployments.embedded.catalog import Catalog, look
from convexorm.deployments.embedded.connections import Connection, Pool
from convexorm.deployments.embedded.damage import primary_code
from convexorm.deployments.embedded.following import follow, looking, tables_of
from convexorm.deployments.embedded.intervals import Interval, intervals_of
from convexorm.deployments.embedded.jobs import canonical_name
from convexorm.deployments.embedded.keys import id_tick
from convexorm.deployments.embedded.ledger import Ledger, Remembered
from convexorm.deployments.embedded.outcomes import Outcomes
from convexorm.deployments.embedded.reads import is_prefix, of_prefix
from convexorm.deployments.embedded.rows import ANSWERING, Known
from convexorm.deployments.embedded.sources import File, Memory
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.embedded.transaction import Transaction
from convexorm.deployments.embedded.walks import answer
from convexorm.deployments.embedded.written import Keys, Written, is_kept, keep, latest, written_since
from convexorm.errors import ConvexORMError, DeploymentError, FunctionNotFound, IndexRangeError
from convexorm.late import need
from convexorm.requests import (
    Applied,
    Commit,
    Document,
    Follow,
    Range,
    Read,
    ReadResult,
    Schedule,
    Search,
    Write,
    check_commit,
    check_reads,
    check_search,
)
from convexorm.schema import COUNTERS, STORAGE, Table

if TYPE_CHECKING:
    from convexorm.deployments.embedded.search import Searcher

__all__ = ["Engine", "Observation"]

T = TypeVar("T")


class Engine:
    """Answers requests on the calling thread."""

    def __init__(self, source: Memory | File, functions: Iterable[str] = ()) -> None:
        """`functions` are the paths of those that may be scheduled; none means any."""
        self._source = source
        self.functions = frozenset(map(canonical_name, functions))
        self._catalog: Catalog | None = None
        """The tables as they were last seen, committed; replaced whole."""
        self._searcher: Searcher | None = None
        self._ledger, self._outcomes = Ledger(), Outcomes()
        self._pool = Pool(source)
        self.on_commit: Callable[[], object] | None = None
        """Called when a commit was applied; it must not wait."""

    def close(self) -> None:
        """Close the connections that are idle; those at work are closed when their request is answered."""
        self._pool.close()

    # tables

    def _look(self, connection: Connection) -> Catalog:
        """The tables as the open transaction, which has changed none yet, finds them."""
        catalog = self._catalog
        if catalog is None or not self._source.memory:
            catalog = self._catalog = connection.catalog = look(connection, catalog)
        return catalog

    def _ensure(self, connection: Connection, tables: Iterable[Table]) -> tuple[Catalog, Mapping[int, StoredTable]]:
        """The tables with all that these declare; to be kept as what is known once it is committed. And these as they are
        stored, by the id of the object.
        """
        seen = self._catalog
        if seen is None or not self._source.memory:
            seen = self._catalog = connection.catalog = look(connection, seen)
        catalog, stored = seen.ensured(connection, tables)
        if catalog is not seen:
            self._catalog = None  # until it is committed: an interrupt may leave that open
        return catalog, stored

    def _answered(self, tables: Sequence[Table], work: Callable[[Connection, Sequence[StoredTable | None]], T]) -> T:
        """What `work` answers in a transaction, given the stored forms of tables; None for one that is not there."""
        while True:
            answers = self._pool.run(partial(self._read, tables, work), tables=tables)
            if answers:
                return answers[0]
            self._pool.run(partial(self._widen, tables), writes=True, tables=tables)

    def _read(
        self,
        tables: Sequence[Table],
        work: Callable[[Connection, Sequence[StoredTable | None]], T],
        connection: Connection,
    ) -> list[T]:
        """The answer in a list, or an empty one if columns are to be added first."""
        if not self._source.memory:  # which nobody else can change in the midst of a request
            connection.execute("BEGIN")
        catalog = self._look(connection)
        stored = [catalog.table(table) for table in tables]
        if self._source.unwritable is None and not all(one is None or one.complete for one in stored):
            return []
        result = work(connection, stored)
        if connection.in_transaction:
            connection.execute("COMMIT")
        return [result]

    def _widen(self, tables: Sequence[Table], connection: Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        there = [table for table in tables if self._look(connection).table(table) is not None]
        catalog, _ = self._ensure(connection, there)
        connection.execute("COMMIT")
        self._catalog = catalog

    # reads

    def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        """All answers from one snapshot, each whole."""
        if len(reads) == 1:
            (one,) = reads
            prefix = is_prefix(one)
            if not prefix:
                check_reads(reads)
            if prefix or _is_one_statement(one):
                request = partial(self._read_one, of_prefix if prefix else answer, one)
                found = self._pool.run(request, tables=(one.range.table,))
                if found is not None:
                    return [found]
        else:
            check_reads(reads)
        return self._read_all(reads)

    def _read_one(
        self, answer: Callable[[Connection, StoredTable, Read], ReadResult], read: Read, connection: Connection
    ) -> ReadResult | None:
        """The answer to a read that one statement answers; None if the tables have to be looked at first.

        Tables and their columns are only ever added, and a table whose rows change their form changes its name. So what
        this connection was once seen to lead to is there still, or the statement fails, which is a transaction of its own.
        """
        catalog = self._catalog
        if catalog is None or (connection.catalog is not catalog and not self._source.memory):
            return None
        stored = catalog.known(read.range.table)
        if stored is None or not stored.complete:
            return None
        try:
            return answer(connection, stored, read)
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            return None

    def _read_all(self, reads: Sequence[Read]) -> list[ReadResult]:
        edges = list(tables_of(reads))
        return self._answered([*(read.range.table for read in reads), *edges], partial(_answers, reads, edges, None))

    # watches

    def keep_written(self) -> None:
        """Have commits leave what they write, from now on; not in a file that can only be read."""
        if self._source.unwritable is None:
            self._pool.run(self._keep_written, writes=True)

    def _keep_written(self, connection: Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if not is_kept(connection):
            keep(connection)
            self._catalog = None
        connection.execute("COMMIT")

    def observe(self, reads: Sequence[Read], known: Known) -> Observation:
        """All answers from one snapshot, what they depend on, and the number of the last commit that they show.

        Documents that are as `known` has them from the answer before are the same objects.
        """
        edges = list(tables_of(reads))

        def observed(connection: Connection, stored: Sequence[StoredTable | None]) -> Observation:
            intervals: list[Interval] = []
            ANSWERING.known = known
            known.begin()
            try:
                results = _answers(reads, edges, intervals, connection, stored)
            finally:
                ANSWERING.known = None
            number = latest(connection) if self._look(connection).watched else None
            return Observation(results, frozenset(intervals), number)

        observation = self._answered([*(read.range.table for read in reads), *edges], observed)
        known.end()
        return observation

    def written_since(self, number: int | None) -> tuple[int | None, list[tuple[int, Keys]] | None]:
        """The number of the last commit, and what the commits after one have written; None for what nobody knows."""

        def found(
            connection: Connection, _: Sequence[StoredTable | None]
        ) -> tuple[int | None, list[tuple[int, Keys]] | None]:
            if not self._look(connection).watched:
                return None, None
            return latest(connection), None if number is None else written_since(connection, number)

        return self._answered((), found)

    # searches

    def search(self, search: Search) -> list[tuple[float, Document]]:
        """The nearest documents with their cosine similarity, best first."""
        index = check_search(search)

        def found(connection: Connection, stored: Sequence[StoredTable | None]) -> list[tuple[float, Document]]:
            (table,) = stored
            return [] if table is None else self._searches().search(connection, table, index, search)

        return self._answered([search.table], found)

    def _searches(self) -> Searcher:
        if self._searcher is None:
            need("numpy")
            from convexorm.deployments.embedded.search import Searcher  # numpy takes long to import

            self._searcher = Searcher()
        return self._searcher

    # commits

    def commit(self, commit: Commit) -> list[Applied]:
        """Apply all writes or none; an id that is remembered is answered as it was."""
        if self._source.unwritable is not None:
            self.check_writable()
        check_commit(commit)
        if self.functions:
            self._check_known(commit)
        tables = commit.tables()
        for table in tables:
            if table.counters:
                tables.append(COUNTERS)
                break
        applied = self._pool.run(partial(self._commit, commit, tables), writes=True, tables=tables)
        if self.on_commit is not None:
            self.on_commit()
        return applied

    def _commit(self, commit: Commit, tables: Iterable[Table], connection: Connection) -> list[Applied]:
        kept = self._kept(commit)
        connection.execute("BEGIN IMMEDIATE")
        try:
            catalog, stored = self._ensure(connection, tables)
            written = Written(connection) if catalog.watched else None
            results = Transaction(connection, stored, commit, written).apply()
            kept.remember(connection, commit, results)
        except (ConvexORMError, Remembered):
            known = kept.recall(connection, commit)  # it may be refused because it has been applied
            if known is None:
                raise
            return known
        connection.land()
        self._catalog = catalog
        return results

    def _kept(self, commit: Commit) -> Ledger | Outcomes:
        """Where it stands what became of a commit."""
        return self._ledger if commit.lasting else self._outcomes

    def amend(
        self,
        writes: Sequence[Write],
        *,
        landing: Callable[[Sequence[Applied]], None] | None = None,
        failing: Callable[[], None] | None = None,
    ) -> list[Applied]:
        """Apply writes to the tables of Convex's own. `landing` is told what was written before it is committed, `failing`
        is called when that then came to nothing.
        """
        self.check_writable()
        commit = Commit.new(writes)
        return self._pool.run(partial(self._amend, commit, commit.tables(), landing, failing), writes=True)

    def _amend(
        self,
        commit: Commit,
        tables: Iterable[Table],
        landing: Callable[[Sequence[Applied]], None] | None,
        failing: Callable[[], None] | None,
        connection: Connection,
    ) -> list[Applied]:
        connection.execute("BEGIN IMMEDIATE")
        catalog, stored = self._ensure(connection, tables)
        written = Written(connection) if catalog.watched else None
        results = Transaction(connection, stored, commit, written).apply()
        try:
            if landing is not None:
                landing(results)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction and failing is not None:
                failing()
            raise
        self._catalog = catalog
        return results

    def alone(self, work: Callable[[Callable[[Sequence[str]], set[str]]], None]) -> None:
        """Do something while nobody writes, given what says which of some ids are those of files."""
        self._pool.run(partial(self._alone, work), writes=True)

    def _alone(self, work: Callable[[Callable[[Sequence[str]], set[str]]], None], connection: Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        stored = self._look(connection).table(STORAGE)

        def there(ids: Sequence[str]) -> set[str]:
            if stored is None:
                return set()
            found = (connection.execute(f"SELECT id FROM {stored.name} WHERE tick = ?", (id_tick(id_),)) for id_ in ids)
            return {id_ for rows in found for (id_,) in rows}

        work(there)
        connection.rollback()

    def _check_known(self, commit: Commit) -> None:
        """Raise FunctionNotFound for a function to be scheduled that has no fake."""
        for write in commit.writes:
            if isinstance(write, Schedule) and canonical_name(write.path) not in self.functions:
                raise FunctionNotFound(
                    f"there is no fake for {write.path!r} among the deployment's functions; nothing was written",
                    function=write.path,
                )

    def withdraw(self, commit: Commit) -> list[Applied] | None:
        """The answer to a commit that was applied; else None, and it will not be."""
        self.check_writable()
        return self._pool.run(partial(self._withdraw, commit), writes=True)

    def _withdraw(self, commit: Commit, connection: Connection) -> list[Applied] | None:
        connection.execute("BEGIN IMMEDIATE")
        known = self._kept(commit).withdraw(connection, commit)
        connection.execute("COMMIT")
        return known

    def check_writable(self) -> None:
        """Raise DeploymentError for a file that can only be read."""
        if self._source.unwritable is not None:
            raise DeploymentError(f"SQLite at {self._source.name} can only be read: {self._source.unwritable}")

    # the whole

    def backup(self, path: str | os.PathLike[str], decision: Decision, copy: Callable[[str, str], None]) -> None:
        """Write all documents to a new file, as they are at one moment, and their files by `copy(id, folder)`."""
        back_up(self._pool, path, decision, partial(_copy_files, copy))

    def vacuum(self) -> None:
        """Give back the space that deleted documents have left."""
        self.check_writable()
        self._pool.run(_vacuum, writes=True)


@attrs.frozen
class Observation:
    """What `observe` answers."""

    results: Sequence[ReadResult]
    intervals: frozenset[Interval]
    number: int | None


def _answers(
    reads: Sequence[Read],
    edges: Sequence[Table],
    seen: list[Interval] | None,
    connection: Connection,
    stored: Sequence[StoredTable | None],
) -> list[ReadResult]:
    """The answers to reads whose edges and conditions lead to some more tables; `seen` is what they depended on."""
    known = {id(table): one for table, one in zip(edges, stored[len(reads) :], strict=True)}

    def of(edge: Follow) -> StoredTable | None:
        table = known[id(edge.range.table)]
        return None if table is None else _with_index(table, edge.range.index)

    results: list[ReadResult] = []
    for table, asked in zip(stored, reads, strict=False):
        looked: list[Range] = []
        read = looking(connection, of, asked, looked) if edges else asked
        whole = table and answer(connection, _with_index(table, read.range.index), read)
        result = whole or _nothing(read)
        if read.follow:
            result = replace(result, followed=follow(connection, of, read.follow, result.docs))
        results.append(result)
        if seen is not None:
            tables = {**known, id(asked.range.table): table}
            seen += intervals_of(read, result, lambda one, tables=tables: tables.get(id(one)), looked)  # type: ignore[misc]
    return results


def _is_one_statement(read: Read) -> bool:
    """Whether one statement answers a read."""
    several = (read.pack, read.digest, read.merge, read.distinct, read.fold, read.range.union, read.search)
    if read.skip or read.follow or any(one is not None for one in several):
        return False
    return read.filter is None or next(existences(read.filter), None) is None


def _copy_files(copy: Callable[[str, str], None], path: str, folder: str) -> None:
    """Copy the files that a database has ids of."""
    database = Engine(File(Path(path), read_only=True, synchronous="normal"))
    try:
        (result,) = database.read([Read(Range(STORAGE, "by_creation_time"))])
    finally:
        database.close()
    for document in result.docs:
        copy(str(document["_id"]), folder)


def _vacuum(connection: Connection) -> None:
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _with_index(stored: StoredTable, index: str) -> StoredTable:
    """The table, if it has the index: a file that is only read may lack it."""
    if index in stored.indexes and index not in stored.columns:
        raise IndexRangeError(
            "the file lacks this index, and can only be read; open it once where it can be written",
            table=stored.label,
            index=index,
            fields=stored.indexes[index],
        )
    return stored


def _nothing(read: Read) -> ReadResult:
    """What a read of a table that is not there answers."""
    return derived(read, answered(read, ()))
