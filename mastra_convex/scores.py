"""The scores domain: what scorers said of runs, listed newest first by scorer, run, entity or span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict
from uuid import uuid4

import attrs

from convexorm import Query
from convexorm.faces import blocking
from convexorm.values import is_finite
from mastra_convex.arguments import (
    Paging,
    check_choice,
    check_id,
    check_optional_id,
    check_options,
    check_paging,
    naming,
)
from mastra_convex.domain import AsyncDomain, Domain
from mastra_convex.entities import Score
from mastra_convex.errors import InvalidArgument
from mastra_convex.instants import now
from mastra_convex.listing import slice_of
from mastra_convex.records import record_of

__all__ = ["AsyncScores", "Pagination", "SavedScore", "ScorePage", "Scores", "TenancyFilter"]

_SOURCES = ("LIVE", "TEST")
_DEFAULT_PER_PAGE = 100
_OWNERS = (
    *("entity_id", "entity_type", "run_id", "trace_id", "span_id", "resource_id", "thread_id"),
    *("organization_id", "project_id", "batch_id", "dataset_id", "dataset_item_id"),
)
"""What a score may belong to."""


class Pagination(TypedDict, total=False):
    """`page` counts from 0 and is 0 by default; `per_page` is 100 by default, False for all."""

    page: int
    per_page: int | Literal[False]


class TenancyFilter(TypedDict, total=False):
    """Whose scores; None is anybody's."""

    organization_id: str | None
    project_id: str | None


@attrs.frozen
class SavedScore:
    """A score as it was stored."""

    score: Score


@attrs.frozen
class ScorePage:
    """Some scores of a list. `total` is None where it was not asked for, `per_page` False where all were."""

    scores: list[Score]
    total: int | None
    page: int
    per_page: int | Literal[False]
    has_more: bool


class AsyncScores(AsyncDomain):
    """Scores, awaited. `Scores` is the same, blocking.

    A score's payloads (`input`, `output`, `scorer`, `entity`, contexts and step results) are any JSON values; a text that
    looks like JSON comes back as that text.
    """

    async def save_score(self, *, score: Score | Mapping[str, Any]) -> SavedScore:
        """Store a score whole, in place of one with its id, whose `created_at` it keeps; without an id it gets one.

        `updated_at` is now, and so is `created_at` by default. `scorer_id` and a finite `score` are required.
        """
        operation = "SAVE_SCORE"
        moment, id_ = now(), str(uuid4())
        with naming(operation, "score"):
            record = record_of(operation, "score", Score, score, id=id_, created_at=moment, updated_at=moment)
        record.updated_at = moment
        _check(operation, record)
        async with self._session() as session:
            with naming(operation, "score"):
                if record.id == id_:
                    session.add(record, unique=False, returning=False)
                    await session.commit()
                else:
                    session.upsert(record, keep=("created_at",), returning=False)
                    await session.commit()
                    await session.refresh(record)
        return SavedScore(record)

    async def get_score_by_id(self, *, id: str) -> Score | None:
        """The score, or None."""
        check_id("GET_SCORE_BY_ID", "id", id)
        async with self._session() as session:
            return await session.get(Score, id)

    async def list_scores_by_scorer_id(
        self,
        *,
        scorer_id: str,
        pagination: Pagination | None = None,
        entity_id: str | None = None,
        entity_type: str | None = None,
        source: Literal["LIVE", "TEST"] | None = None,
        filters: TenancyFilter | None = None,
        include_total: bool = True,
    ) -> ScorePage:
        """A scorer's scores, the newest first, of one entity, entity type or source where these are given.

        Without `include_total` nothing is counted and `has_more` comes from one more score; that goes for every list.
        """
        operation = "LIST_SCORES_BY_SCORER_ID"
        query = Score.query().by_index("by_scorer_created", scorer_id=check_id(operation, "scorer_id", scorer_id))
        if source is not None:
            query = query.where(Score.source == check_choice(operation, "source", source, _SOURCES))
        if entity_id is not None:
            query = query.where(Score.entity_id == check_id(operation, "entity_id", entity_id))
        if entity_type is not None:
            query = query.where(Score.entity_type == check_id(operation, "entity_type", entity_type))
        return await self._page(operation, query, pagination, filters, include_total)

    async def list_scores_by_run_id(
        self,
        *,
        run_id: str,
        pagination: Pagination | None = None,
        filters: TenancyFilter | None = None,
        include_total: bool = True,
    ) -> ScorePage:
        """A run's scores, the newest first."""
        operation = "LIST_SCORES_BY_RUN_ID"
        query = Score.query().by_index("by_run_created", run_id=check_id(operation, "run_id", run_id))
        return await self._page(operation, query, pagination, filters, include_total)

    async def list_scores_by_entity_id(
        self,
        *,
        entity_id: str,
        entity_type: str,
        pagination: Pagination | None = None,
        filters: TenancyFilter | None = None,
        include_total: bool = True,
    ) -> ScorePage:
        """The scores of an entity of a type, the newest first."""
        operation = "LIST_SCORES_BY_ENTITY_ID"
        query = Score.query().by_index(
            "by_entity_created",
            entity_id=check_id(operation, "entity_id", entity_id),
            entity_type=check_id(operation, "entity_type", entity_type),
        )
        return await self._page(operation, query, pagination, filters, include_total)

    async def list_scores_by_span(
        self,
        *,
        trace_id: str,
        span_id: str,
        pagination: Pagination | None = None,
        filters: TenancyFilter | None = None,
        include_total: bool = True,
    ) -> ScorePage:
        """The scores of a span of a trace, the newest first."""
        operation = "LIST_SCORES_BY_SPAN"
        query = Score.query().by_index(
            "by_span_created",
            trace_id=check_id(operation, "trace_id", trace_id),
            span_id=check_id(operation, "span_id", span_id),
        )
        return await self._page(operation, query, pagination, filters, include_total)

    async def dangerously_clear_all(self) -> None:
        """Delete every score, in as many commits as it takes."""
        async with self._session() as session:
            await session.delete_all(Score.query().full_scan())

    async def _page(
        self,
        operation: str,
        query: Query[Score],
        pagination: Pagination | None,
        filters: TenancyFilter | None,
        include_total: bool,
    ) -> ScorePage:
        paging = _checked_paging(operation, pagination)
        tenant = check_options(operation, "filters", filters, ("organization_id", "project_id"))
        for column in (Score.organization_id, Score.project_id):
            wanted = check_optional_id(operation, f"filters.{column.name}", tenant.get(column.name))
            if wanted is not None:
                query = query.where(column == wanted)
        async with self._session() as session:
            part = await slice_of(session, query.order("desc"), paging, include_total)
        return ScorePage(part.items, part.total, paging.page, paging.per_page, part.has_more)


def _checked_paging(operation: str, pagination: Pagination | None) -> Paging:
    given = check_options(operation, "pagination", pagination, ("page", "per_page"))
    return check_paging(operation, given.get("page", 0), given.get("per_page"), default=_DEFAULT_PER_PAGE)


def _check(operation: str, score: Score) -> None:
    check_id(operation, "score.scorer_id", score.scorer_id)
    for name in _OWNERS:
        check_optional_id(operation, f"score.{name}", getattr(score, name))
    if not is_finite(score.score):
        raise InvalidArgument("a finite number", operation=operation, argument="score.score")
    if score.source is not None:
        check_choice(operation, "score.source", score.source, _SOURCES)


class Scores(Domain):
    """Scores, blocking. `AsyncScores` is the same, awaited."""

    face = AsyncScores

    save_score = blocking(AsyncScores.save_score)
    get_score_by_id = blocking(AsyncScores.get_score_by_id)
    list_scores_by_scorer_id = blocking(AsyncScores.list_scores_by_scorer_id)
    list_scores_by_run_id = blocking(AsyncScores.list_scores_by_run_id)
    list_scores_by_entity_id = blocking(AsyncScores.list_scores_by_entity_id)
    list_scores_by_span = blocking(AsyncScores.list_scores_by_span)
    dangerously_clear_all = blocking(AsyncScores.dangerously_clear_all)
