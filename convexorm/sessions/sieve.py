"""`Sieve`: which documents fit their models, and what becomes of those that do not.

A document fits if each of its columns can be looked at. Where the session shows a document already, what it shows is what
has to fit: values that were set since count instead of the stored ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from msgspec.structs import replace

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.model import Model
from convexorm.mapping.records import Record
from convexorm.querying.query import Query
from convexorm.querying.statements import Rows, Select
from convexorm.querying.texts import TextQuery
from convexorm.requests import Document, ReadResult
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.results import Fitting, Invalid
from convexorm.values import MISSING

__all__ = ["OfInvalid", "Sieve"]

OfInvalid: TypeAlias = Literal["raise", "skip", "collect"]
R = TypeVar("R")


class Sieve(Generic[R]):
    """What is to become of what `rows` has that does not fit: `invalid` says it.

    Raises InvalidRequestError for another word, and where documents are to be left out of what is no longer of one each.
    """

    def __init__(self, rows: Rows[R], invalid: OfInvalid, *, collects: bool = True) -> None:
        words = [word for word in get_args(OfInvalid) if collects or word != "collect"]
        if not isinstance(invalid, str) or invalid not in words:
            given = repr(invalid) if invalid in get_args(OfInvalid) else f"a {type(invalid).__name__}"
            raise InvalidRequestError(f"invalid= is one of {', '.join(map(repr, words))}, got {given}")
        if invalid != "raise" and not isinstance(rows, Query | TextQuery | Select):
            raise InvalidRequestError("only documents can be left out, and not what groups or distinct values are made of")
        self.rows: Rows[R] = replace(rows, ids=True) if isinstance(rows, Select) else rows
        self._invalid = invalid

    def of_documents(
        self, model: type[Model], documents: Sequence[Document], identities: IdentityMap
    ) -> tuple[Sequence[Document], list[Invalid]]:
        """The documents that fit, and those of the others that are wanted. Raises ValidationError where one is to raise."""
        kept: list[Document] = []
        invalid: list[Invalid] = []
        for document in documents:
            try:
                _check(model, document, identities)
            except ValidationError as error:
                self._refused(document, error, invalid)
            else:
                kept.append(document)
        return documents if len(kept) == len(documents) else kept, invalid

    def of_rows(self, result: ReadResult) -> Fitting[R]:
        """The same of what is no instance: tuples, and what is made of several documents, which raises in any case."""
        rows = self.rows
        if not isinstance(rows, Select):
            return Fitting(rows.answer(result, _no_instances))
        made: Fitting[R] = Fitting()
        for document in rows.query.cut(result.docs):
            try:
                made.append(rows.row(document))
            except ValidationError as error:
                self._refused(document, error, made.invalid)
        return made

    def _refused(self, document: Document, error: ValidationError, invalid: list[Invalid]) -> None:
        if self._invalid == "raise":
            raise error
        if self._invalid == "collect":
            invalid.append(Invalid(str(document["_id"]), error))


def _check(model: type[Model], document: Document, identities: IdentityMap) -> None:
    """Raise the ValidationError that looking at a column of a document raises, if one does."""
    shown = identities.by_id(model, str(document["_id"]))
    if shown is not None and shown._state.looked_at and not shown._state.doubtful:
        held: Mapping[str, Any] | Record | None = shown._state.held
        given: Mapping[str, Any] = shown.__dict__
        columns = shown.__mapper__.columns
    else:
        mapper = model.__mapper__
        held, given = document, {}
        columns = (mapper.class_of(document).__mapper__ if mapper.polymorphic else mapper).columns
    assert held is not None
    for name, column in columns.items():
        if name not in given:
            try:
                column.load(held.get(column.field, MISSING))
            except ValidationError as error:
                raise error.of(document["_id"]) from error.__cause__


def _no_instances(model: Any, documents: Sequence[Document]) -> Any:
    raise AssertionError("groups and distinct values are no instances")
