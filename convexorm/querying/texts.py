"""`TextQuery`: the documents whose texts have the words that are looked for, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec.structs import replace

from convexorm.conditions import Comparison, Condition
from convexorm.errors import IndexRangeError, InvalidRequestError
from convexorm.mapping.fields import SearchIndex
from convexorm.mapping.relations import Path, check_paths
from convexorm.querying.crossing import crossings
from convexorm.querying.planning import conjuncts
from convexorm.querying.statements import Load, Statement
from convexorm.requests import Document, Range, Read, ReadResult, TextSearch, check_text
from convexorm.values import Missing, Value

if TYPE_CHECKING:
    from convexorm.live.changes import Change
    from convexorm.mapping.model import Model
    from convexorm.querying.query import Query

__all__ = ["TextQuery", "check_index"]

M = TypeVar("M", bound="Model", covariant=True)
T = TypeVar("T")


class TextQuery(Statement[list[M]], frozen=True):
    """A text search: `Message.by_text.search("lisbon fig")`, which `session.read` takes beside queries."""

    model: type[M]
    _search: TextSearch
    _limit: int
    _load: tuple[Path, ...] = ()

    if TYPE_CHECKING:

        def _watched(self) -> Change[M]: ...  # type: ignore[override]

    @classmethod
    def of(cls, model: type[M], index: str, text: str, where: Condition | None, limit: int) -> TextQuery[M]:
        """The search of an index of the model for the words of a text. Raises what `session.search_text` does."""
        query = TextQuery(model, TextSearch(index, text, _equalities(model, index, where)), limit)
        check_text(query.plan())
        return query

    def load(self, *paths: Path) -> Self:
        """Load these relations with the documents, as `Query.load` does."""
        return replace(self, _load=(*self._load, *check_paths(paths, self.model)))

    @property
    def root(self) -> Query[Any]:
        return self.model.query()

    def plan(self) -> Read:
        mapper = self.model.__mapper__
        only, search = mapper.only, self._search
        everything = Range(mapper.table, "by_creation_time")
        if isinstance(only, Comparison) and only.field in mapper.table.search_index(search.index).filter_fields:
            equal = (*search.filter, (only.field, only.value))
            return Read(everything, limit=self._limit, search=replace(search, filter=equal))
        return Read(everything, filter=only, limit=self._limit, search=search)

    def explain(self) -> str:
        """What executing it will do: table, index, words, filter, order and limit, and what it loads, a line each."""
        return "\n".join((super().explain(), *crossings(self._load)))

    def answer(self, result: ReadResult, load: Load) -> list[M]:
        instances: list[M] = load(self.model, result.docs)
        return instances

    def cut(self, documents: Sequence[Document]) -> Sequence[Document]:
        """All that was answered is part of it."""
        return documents


def check_index(index: SearchIndex[Any]) -> type[Any]:
    """The model of a search index. Raises InvalidRequestError for what is no search index of a model."""
    from convexorm.mapping.model import Model

    model = index.model if isinstance(index, SearchIndex) else None
    if model is None or not issubclass(model, Model):
        raise InvalidRequestError("a text search takes a search index of a model, such as Message.by_text")
    return model


def _equalities(model: type[Model], index: str, where: Condition | None) -> tuple[tuple[str, Value | Missing], ...]:
    if where is None:
        return ()
    model.query().where(where)  # refuses what is no condition on this model
    table = model.__mapper__.table
    found: list[tuple[str, Value | Missing]] = []
    for one in conjuncts((where,)):
        if not isinstance(one, Comparison) or one.op != "eq" or one.path:
            problem = "a text search takes equalities on filter fields, joined by &"
            fields = table.search_index(index).filter_fields
            raise IndexRangeError(problem, table=table.name, index=index, fields=fields)
        found.append((one.field, one.value))
    return tuple(found)
