"""Text search in SQLite: the words of documents in FTS5, kept in the transaction that changes a document, and ranked as
Convex ranks them.

For each list of a field and filter fields that a search index of some program is over there is a table `x<number>_<place>`
with a row a document: its tick, its words joined by spaces, how many they are as BM25 takes it, and the key bytes of each
filter field. Triggers keep FTS5's index of the words (`…_fts`), and the totals in the catalog of texts; a row goes with its
document by a trigger, too. FTS5 only counts words: which words there are is `convexorm.words`' business, and what they
weigh is said here.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import damaged
from convexorm.deployments.embedded.rows import stream
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.errors import DeploymentError, IndexRangeError
from convexorm.requests import Document, Read, ReadResult, TextSearch
from convexorm.schema import SearchIndexDef
from convexorm.values import canonical, reach
from convexorm.words import words_of

if TYPE_CHECKING:
    from convexorm.deployments.embedded.tables import StoredTable

__all__ = ["StoredText", "create_text", "find_texts", "form_of", "keep_texts", "stored_texts"]

_TEXTS = """
CREATE TABLE convexorm_texts (
    number INTEGER NOT NULL, place INTEGER NOT NULL, form TEXT NOT NULL,
    documents INTEGER NOT NULL DEFAULT 0, words INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (number, place)) WITHOUT ROWID
"""
"""The catalog of texts: the field and the filter fields of each, how many documents and how many words it has."""

_K1, _B = 1.2, 0.75
"""BM25's parameters, as Convex's search has them."""
_MOST_TERMS = 64
"""Different words that one search looks for, those that the last one begins among them (Convex's limit)."""
_PREFIX = 0.5
"""What a word counts that only begins with what is looked for (Convex's)."""
_MOST_FOUND = 1_024
"""Documents that one search finds (Convex's limit)."""


@attrs.frozen
class StoredText:
    """The words of one field of a table, and its filter fields."""

    number: int
    place: int
    form: tuple[str, ...]
    """The field, then the filter fields in alphabetical order."""
    label: str
    """What the table is called."""

    @property
    def name(self) -> str:
        return f"x{self.number}_{self.place}"

    @property
    def _put(self) -> str:
        columns = ["tick", "words", "amount", "norm", *self._filters]
        new = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
        return (
            f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT (tick) DO UPDATE SET {new}"
        )

    @property
    def _filters(self) -> list[str]:
        return [f"f{place}" for place in range(len(self.form) - 1)]

    def put(self, connection: sqlite3.Connection, documents: Iterable[tuple[int, Document]]) -> None:
        """Take in documents by their ticks, or what they are now."""
        connection.executemany(self._put, (self._row(tick, document) for tick, document in documents))

    def _row(self, tick: int, document: Document) -> tuple[Any, ...]:
        field, *filters = self.form
        text = reach(document, field)
        words = words_of(text) if isinstance(text, str) else []
        keys = [canonical(reach(document, name)) for name in filters]
        return (tick, " ".join(words), len(words), _norm(len(words)), *keys)

    def concerns(self, changed: Collection[str] | None) -> bool:
        """Whether a change of these fields, None for all, is one of what is kept."""
        return changed is None or any(path.partition(".")[0] in changed for path in self.form)

    # -- searching -------------------------------------------------------------------------------------------------

    def find(self, connection: Connection, search: TextSearch) -> list[int]:
        """The ticks of what a search finds, best first; of those alike the newest first."""
        weights = self._weights(connection, search.text)
        if not weights:
            return []
        mean = weights.pop("")
        terms = " UNION ALL ".join(
            f"SELECT doc, ? AS weight, count(*) AS often FROM {self.name}_at WHERE term = ? GROUP BY doc" for _ in weights
        )
        given = [value for term, weight in weights.items() for value in (weight, term)]
        places = {name: place for place, name in enumerate(self.form[1:])}
        equal = "".join(f" AND d.f{places[name]} = ?" for name, _ in search.filter)
        score = f"sum(t.weight * t.often / (t.often + {_K1} * ({1 - _B} + {_B} * d.norm / ?)))"
        rows = connection.execute(
            f"SELECT d.tick, CAST({score} * 1000000 AS INTEGER) AS score FROM ({terms}) t JOIN {self.name} d "
            f"ON d.tick = t.doc{equal} GROUP BY d.tick ORDER BY score DESC, d.tick DESC LIMIT {_MOST_FOUND}",
            (mean, *given, *(canonical(value) for _, value in search.filter)),
        )
        return [tick for tick, _ in rows.fetchall()]

    def _weights(self, connection: Connection, text: str) -> dict[str, float]:
        """The words there are that a text looks for, with what they weigh; under "" how many words a document has."""
        terms: dict[str, tuple[bool, int]] = {}
        *_, last = words = words_of(text)
        for word in words:
            for term, held in self._terms(connection, "term = ?", word):
                terms[term] = (False, held)
        for term, held in self._terms(connection, "term > ? AND term < ?", last, f"{last}\U0010ffff"):
            terms.setdefault(term, (True, held))
        if not terms:
            return {}
        documents, amount = self._totals(connection)
        first = sorted(terms.items(), key=lambda item: (item[1][0], item[0].encode()))[:_MOST_TERMS]
        weights = {term: (_PREFIX if prefix else 1.0) * _rarity(documents, held) for term, (prefix, held) in first}
        return {**weights, "": amount / documents}

    def _totals(self, connection: Connection) -> tuple[int, int]:
        """How many documents there are, and how many words in all of them."""
        row = connection.execute(
            "SELECT documents, words FROM convexorm_texts WHERE number = ? AND place = ?", (self.number, self.place)
        ).fetchone()
        if row is None or not all(type(one) is int and one > 0 for one in row):
            raise damaged(self.label, "its entry in the catalog cannot be read")
        return row[0], row[1]

    def _terms(self, connection: Connection, condition: str, *given: str) -> Iterator[tuple[str, int]]:
        """The words that fulfil a condition, and in how many documents they are: the first, in the order of their bytes."""
        statement = f"SELECT term, doc FROM {self.name}_terms WHERE {condition} ORDER BY term LIMIT {_MOST_TERMS}"
        yield from connection.execute(statement, given).fetchall()


def _rarity(documents: int, held: int) -> float:
    """What a word weighs that so many of the documents have, by BM25."""
    return math.log(1 + (documents - held + 0.5) / (held + 0.5)) * (1 + _K1)


def _norm(length: int) -> int:
    """How long a text of so many words is taken to be: Convex keeps a byte of it, exact up to 40."""
    base, step = 40, 2
    if length <= base:
        return length
    while length >= base + 8 * step:
        base, step = base + 8 * step, 2 * step
    return base + (length - base) // step * step


def form_of(index: SearchIndexDef) -> tuple[str, ...]:
    """What a search index is over: its field, then its filter fields in alphabetical order."""
    return (index.field, *sorted(index.filter_fields))


def stored_texts(number: int, forms: Sequence[tuple[str, ...]], label: str) -> dict[tuple[str, ...], StoredText]:
    """The texts of a table, which is called so, by their forms."""
    return {form: StoredText(number, place, form, label) for place, form in enumerate(forms)}


def keep_texts(connection: sqlite3.Connection) -> None:
    """Make the catalog of texts."""
    connection.execute(_TEXTS)


def create_text(connection: sqlite3.Connection, text: StoredText, table: str) -> None:
    """Make what keeps a text of a table, which has this name in SQLite. It is empty."""
    name = text.name
    filters = "".join(f", {column} BLOB" for column in text._filters)
    put_in = f"INSERT INTO {name}_fts (rowid, words) VALUES (new.tick, new.words);"
    take_out = f"INSERT INTO {name}_fts ({name}_fts, rowid, words) VALUES ('delete', old.tick, old.words);"
    total = "UPDATE convexorm_texts SET documents = documents {}, words = words {} " + (
        f"WHERE number = {text.number} AND place = {text.place};"
    )
    statements = [
        f"CREATE TABLE {name} (tick INTEGER PRIMARY KEY, words TEXT, amount INTEGER, norm INTEGER{filters})",
        f"CREATE VIRTUAL TABLE {name}_fts USING fts5 (words, content = '{name}', content_rowid = 'tick', "
        "tokenize = 'ascii')",
        f"CREATE VIRTUAL TABLE {name}_terms USING fts5vocab ('{name}_fts', 'row')",
        f"CREATE VIRTUAL TABLE {name}_at USING fts5vocab ('{name}_fts', 'instance')",
        f"CREATE TRIGGER {name}_in AFTER INSERT ON {name} BEGIN {put_in} {total.format('+ 1', '+ new.amount')} END",
        f"CREATE TRIGGER {name}_out AFTER DELETE ON {name} BEGIN {take_out} {total.format('- 1', '- old.amount')} END",
        f"CREATE TRIGGER {name}_now AFTER UPDATE ON {name} BEGIN {take_out} {put_in} "
        f"{total.format('+ 0', '+ new.amount - old.amount')} END",
        f"CREATE TRIGGER {name}_gone AFTER DELETE ON {table} BEGIN DELETE FROM {name} WHERE tick = old.tick; END",
    ]
    connection.execute(
        "INSERT INTO convexorm_texts (number, place, form) VALUES (?, ?, ?)",
        (text.number, text.place, json.dumps(text.form)),
    )
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.OperationalError as error:
        if "no such module" in str(error):
            raise DeploymentError("this Python's SQLite was built without FTS5, which text search needs") from None
        raise


def find_texts(connection: Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The whole answer to a text search but for its edges."""
    search = read.search
    assert search is not None
    assert read.limit is not None
    text = stored.texts.get(form_of(stored.table.search_index(search.index)))
    if text is None:
        raise IndexRangeError(
            "the file lacks this index, and can only be read; open it once where it can be written",
            table=stored.label,
            index=search.index,
        )
    matches: Predicate = (lambda _: True) if read.filter is None else compile_filter(read.filter)
    found: list[Document] = []
    ticks = text.find(connection, search)
    for start in range(0, len(ticks), _STEP):
        some = ticks[start : start + _STEP]
        marks = ", ".join("?" * len(some))
        cursor = connection.stream(f"SELECT {stored.select} FROM {stored.name} WHERE tick IN ({marks})", some)
        documents = {document["_creationTime"]: document for document in stream(cursor, stored.vectors, stored.label)}
        cursor.close()
        ordered = (documents.get(tick / 1000) for tick in some)
        found += [document for document in ordered if document is not None and matches(document)][: read.limit - len(found)]
        if len(found) == read.limit:
            break
    return ReadResult(found, len(found), 0, False)


_STEP = 200
"""Documents that are read at a time."""
