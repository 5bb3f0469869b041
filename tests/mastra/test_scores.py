"""Scores: payloads of any shape, kept under their ids, listed newest first through indexes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, cast

import pytest

from convexorm import Deployment, LimitExceeded, Session
from convexorm.types import JSON_MARK, MarkedJsonType
from mastra_convex import AsyncConvexStore, AsyncScores, ConvexStore, InvalidArgument, Score, ScorePage
from tests.conftest import Host
from tests.mastra.support import at, awaited

NESTED: dict[str, Any] = {}
_level = NESTED
for _ in range(40):
    _level["in"] = {}
    _level = _level["in"]

PAYLOADS = [
    {"messages": [{"role": "user", "content": "hi"}], "n": 1, "ratio": 0.5, "none": None, "done": True},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "日本語": {"": 1}},
    [{"$ref": "#"}, 1],
    NESTED,
    [[[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]],
    list(range(9_000)),
    {f"key{number}": number for number in range(1_100)},
    2**60,
    {"large": -(2**60)},
    '{"a":1}',
    "null",
    "",
    " true",
    f"{JSON_MARK}1",
    JSON_MARK,
    {"text": f"{JSON_MARK}null"},
    0,
    False,
    [],
    {},
]

TEXTS = (
    *("reason", "reason_prompt", "extract_prompt", "analyze_prompt", "preprocess_prompt", "generate_score_prompt"),
    *("generate_reason_prompt", "agent_name", "resource_id", "thread_id", "organization_id", "project_id"),
    *("batch_id", "dataset_id", "dataset_item_id"),
)


@pytest.fixture(params=["async", "blocking"])
def scores(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncScores:
    """The scores of every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexStore(id="test", deployment=deployment).scores
    return cast("AsyncScores", awaited(cast("Any", ConvexStore(id="test", deployment=deployment).scores)))


def score(prefix: str, seconds: float = 0, **given: Any) -> dict[str, Any]:
    """A score of a scorer, a run, an entity and a span of the test's own, at an instant."""
    return {
        "scorer_id": f"{prefix}-scorer",
        "run_id": f"{prefix}-run",
        "entity_id": f"{prefix}-entity",
        "entity_type": "AGENT",
        "trace_id": f"{prefix}-trace",
        "span_id": f"{prefix}-span",
        "scorer": {"id": f"{prefix}-scorer"},
        "entity": {"id": f"{prefix}-entity"},
        "source": "LIVE",
        "score": seconds / 10,
        "output": {},
        "created_at": at(seconds),
        **given,
    }


def lists(scores: AsyncScores, prefix: str) -> list[Callable[..., Any]]:
    """Every list, of the scores that `score` makes."""

    def by_scorer(**given: Any) -> Any:
        return scores.list_scores_by_scorer_id(scorer_id=f"{prefix}-scorer", **given)

    def by_run(**given: Any) -> Any:
        return scores.list_scores_by_run_id(run_id=f"{prefix}-run", **given)

    def by_entity(**given: Any) -> Any:
        return scores.list_scores_by_entity_id(entity_id=f"{prefix}-entity", entity_type="AGENT", **given)

    def by_span(**given: Any) -> Any:
        return scores.list_scores_by_span(trace_id=f"{prefix}-trace", span_id=f"{prefix}-span", **given)

    return [by_scorer, by_run, by_entity, by_span]


def seconds(page: ScorePage) -> list[float]:
    return [(one.created_at - at(0)).total_seconds() for one in page.scores]


# -- saving and getting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
async def test_a_payload_is_read_as_it_was_saved(scores: AsyncScores, unique: str, payload: Any) -> None:
    given = score(unique, input=payload, output=payload, additional_context=payload, analyze_step_result={"in": payload})
    saved = (await scores.save_score(score=given)).score
    for found in (saved, await scores.get_score_by_id(id=saved.id)):
        assert found is not None
        for value in (found.input, found.output, found.additional_context):
            assert (value, type(value)) == (payload, type(payload))
        assert found.analyze_step_result == {"in": payload}


@pytest.mark.needs_functions("the npm package's schema has no structured_output and no agent_name")
async def test_every_attribute_is_kept(scores: AsyncScores, unique: str) -> None:
    texts: dict[str, Any] = {name: f"the {name}" for name in TEXTS}
    given = score(unique, metadata={"$id": 1}, structured_output=True, **texts)
    saved = (await scores.save_score(score=given)).score
    found = await scores.get_score_by_id(id=saved.id)
    assert found is not None
    for name, value in given.items():
        assert getattr(found, name) == value, name


async def test_a_score_that_is_not_there_is_none(scores: AsyncScores, unique: str) -> None:
    assert await scores.get_score_by_id(id=unique) is None


async def test_an_id_is_made_up_unless_given(scores: AsyncScores, unique: str) -> None:
    made = {(await scores.save_score(score=score(unique))).score.id for _ in range(2)}
    assert len(made) == 2
    assert (await scores.save_score(score=score(unique, id=unique))).score.id == unique


async def test_saving_again_replaces_the_score_whole_and_keeps_when_it_was_created(
    scores: AsyncScores, unique: str
) -> None:
    await scores.save_score(score=score(unique, 1, id=unique, reason="first", updated_at=at(2)))
    again = (await scores.save_score(score=score(unique, 9, id=unique, input="new"))).score
    for found in (again, await scores.get_score_by_id(id=unique)):
        assert found is not None
        assert (found.reason, found.input, found.score, found.created_at) == (None, "new", 0.9, at(1))
        assert found.updated_at > at(100)
    assert (await lists(scores, unique)[0]()).total == 1


async def test_a_score_may_be_an_entity_and_times_default_to_now(scores: AsyncScores, unique: str) -> None:
    given = score(unique)
    del given["created_at"]
    saved = (await scores.save_score(score=given)).score
    assert saved.created_at == saved.updated_at > at(100)
    entity = Score(id=unique, scorer_id="s", score=1, created_at=at(0), updated_at=at(0))
    assert (await scores.save_score(score=entity)).score.created_at == at(0)


async def test_a_score_over_the_document_limit_is_refused(scores: AsyncScores, unique: str) -> None:
    with pytest.raises(LimitExceeded, match=r"at most 1,048,576, got 1,04\d,\d\d\d"):
        await scores.save_score(score=score(unique, id=unique, input="x" * (1 << 20)))
    assert await scores.get_score_by_id(id=unique) is None


async def test_plain_payloads_are_stored_as_what_they_are_and_the_rest_as_text_that_parses(
    scores: AsyncScores, deployment: Deployment, unique: str
) -> None:
    payload = {"$schema": "日本語"}
    await scores.save_score(score=score(unique, id=unique, input='{"a":1}', output=payload, entity={"a": 1}))
    with Session(deployment) as session:
        found = session.get(Score, unique)
        assert found is not None
        document = found._state.document
    assert document is not None
    assert (document["input"], document["entity"]) == ('{"a":1}', {"a": 1})
    assert document["output"] == '\t\n\t {"$schema":"日本語"}'
    assert "reason" not in document
    assert MarkedJsonType().load(document["output"]) == payload


# -- lists ---------------------------------------------------------------------------------------------------------


async def test_every_list_is_newest_first_and_in_pages(scores: AsyncScores, unique: str) -> None:
    for number in (3, 0, 4, 1, 2):
        await scores.save_score(score=score(unique, number))
        await scores.save_score(score=score(f"{unique}-other", number))
    for listed in lists(scores, unique):
        pages = [await listed(pagination={"page": page, "per_page": 2}) for page in range(4)]
        assert [seconds(page) for page in pages] == [[4, 3], [2, 1], [0], []]
        assert [(page.total, page.page, page.per_page, page.has_more) for page in pages] == [
            (5, 0, 2, True),
            (5, 1, 2, True),
            (5, 2, 2, False),
            (5, 3, 2, False),
        ]
        uncounted = await listed(pagination={"page": 1, "per_page": 2}, include_total=False)
        assert (seconds(uncounted), uncounted.total, uncounted.has_more) == ([2, 1], None, True)
        everything = await listed(pagination={"page": 0, "per_page": False})
        assert (seconds(everything), everything.total, everything.per_page) == ([4, 3, 2, 1, 0], 5, False)
        assert everything.has_more is False
        none = await listed(pagination={"page": 0, "per_page": 0})
        assert (none.scores, none.total, none.has_more) == ([], 5, True)
        default = await listed()
        assert (seconds(default), default.page, default.per_page) == ([4, 3, 2, 1, 0], 0, 100)


async def test_scores_of_one_instant_are_on_one_page_each(scores: AsyncScores, unique: str) -> None:
    for number in range(5):
        await scores.save_score(score=score(unique, 0, id=f"{unique}-{number}"))
    for listed in lists(scores, unique):
        pages = [await listed(pagination={"page": page, "per_page": 2}) for page in range(3)]
        assert [[one.id[-1] for one in page.scores] for page in pages] == [["4", "3"], ["2", "1"], ["0"]]


async def test_every_list_is_narrowed_by_organization_and_project(scores: AsyncScores, unique: str) -> None:
    tenants: list[dict[str, Any]] = [
        {},
        {"organization_id": "o"},
        {"organization_id": "o", "project_id": "p"},
        {"organization_id": "x", "project_id": "p"},
        {"organization_id": "another"},
    ]
    for number, tenant in enumerate(tenants):
        await scores.save_score(score=score(unique, number, **tenant))
    for listed in lists(scores, unique):
        for filters, expected in (
            (None, [4, 3, 2, 1, 0]),
            ({"organization_id": None}, [4, 3, 2, 1, 0]),
            ({"organization_id": "o"}, [2, 1]),
            ({"project_id": "p"}, [3, 2]),
            ({"organization_id": "o", "project_id": "p"}, [2]),
            ({"organization_id": "another"}, [4]),
        ):
            page = await listed(filters=filters)
            assert (seconds(page), page.total) == (expected, len(expected)), filters


async def test_a_scorers_list_is_narrowed_by_entity_and_source(scores: AsyncScores, unique: str) -> None:
    await scores.save_score(score=score(unique, 0))
    await scores.save_score(score=score(unique, 1, source="TEST"))
    await scores.save_score(score=score(unique, 2, entity_type="WORKFLOW"))
    await scores.save_score(score=score(unique, 3, entity_id="another"))
    by_scorer = lists(scores, unique)[0]
    for filters, expected in (
        ({}, [3, 2, 1, 0]),
        ({"source": "TEST"}, [1]),
        ({"entity_type": "AGENT"}, [3, 1, 0]),
        ({"entity_id": f"{unique}-entity"}, [2, 1, 0]),
        ({"entity_id": f"{unique}-entity", "entity_type": "AGENT", "source": "LIVE"}, [0]),
        ({"entity_id": None, "entity_type": None}, [3, 2, 1, 0]),
    ):
        page = await by_scorer(**filters)
        assert (seconds(page), page.total) == (expected, len(expected)), filters


async def test_entities_of_another_type_and_spans_of_another_trace_are_others(scores: AsyncScores, unique: str) -> None:
    await scores.save_score(score=score(unique, 0))
    await scores.save_score(score=score(unique, 1, entity_type="WORKFLOW", trace_id="another"))
    _, _, by_entity, by_span = lists(scores, unique)
    assert seconds(await by_entity()) == [0]
    assert seconds(await by_span()) == [0]


# -- many writers and costs ----------------------------------------------------------------------------------------


@pytest.mark.needs_functions("the handler has no operation that checks and writes this at once")
def test_a_score_saved_by_many_at_once_is_one_score(deployment: Deployment, unique: str) -> None:
    scores = ConvexStore(id="test", deployment=deployment).scores

    def save(number: int) -> datetime:
        return scores.save_score(score=score(unique, number, id=unique)).score.created_at

    with ThreadPoolExecutor(20) as pool:
        created = set(pool.map(save, range(20)))
    page = scores.list_scores_by_run_id(run_id=f"{unique}-run")
    assert page.total == 1
    assert created == {page.scores[0].created_at}


def test_a_page_costs_its_scores_and_one_whatever_the_table_holds(fresh_host: Host) -> None:
    with fresh_host.connect() as deployment:
        with Session(deployment) as session:
            for batch in range(4):
                session.add_all(
                    (
                        Score(id=f"{batch}-{number}", updated_at=at(0), **score(str(number % 4), batch * 500 + number))
                        for number in range(500)
                    ),
                    unique=False,
                    returning=False,
                )
                session.commit()
        scores = ConvexStore(id="test", deployment=deployment).scores
        for listed in lists(cast("AsyncScores", scores), "3"):
            fresh_host.reset()
            page = listed(pagination={"page": 0, "per_page": 10}, include_total=False)
            counts = fresh_host.metrics()
            assert seconds(page)[:2] == [1999, 1995]
            assert (len(page.scores), page.has_more) == (10, True)
            assert (counts["calls"], counts["documentsRead"]) == (1, 11)
            assert counts["responseBytes"] < 11_000
        assert listed(pagination={"page": 0, "per_page": 10}).total == 500


# -- bad input -----------------------------------------------------------------------------------------------------

GOOD = score("s")
BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("save_score", "score", {"score": None}),
    ("save_score", "score", {"score": {**GOOD, "scorerId": "s"}}),
    ("save_score", "score.id", {"score": {**GOOD, "id": ""}}),
    ("save_score", "score.id", {"score": {**GOOD, "id": 7}}),
    ("save_score", "score.scorer_id", {"score": {"score": 1}}),
    ("save_score", "score.scorer_id", {"score": {**GOOD, "scorer_id": " "}}),
    ("save_score", "score.score", {"score": {**GOOD, "score": None}}),
    ("save_score", "score.score", {"score": {**GOOD, "score": float("nan")}}),
    ("save_score", "score.score", {"score": {**GOOD, "score": float("inf")}}),
    ("save_score", "score.score", {"score": {**GOOD, "score": True}}),
    ("save_score", "score.score", {"score": {**GOOD, "score": "1"}}),
    ("save_score", "score.source", {"score": {**GOOD, "source": "live"}}),
    ("save_score", "score.created_at", {"score": {**GOOD, "created_at": datetime(2024, 1, 1)}}),
    ("save_score", "score.run_id", {"score": {**GOOD, "run_id": 1}}),
    ("save_score", "score.input", {"score": {**GOOD, "input": {"n": {1}}}}),
    ("save_score", "score.input", {"score": {**GOOD, "input": float("nan")}}),
    ("save_score", "score.input", {"score": {**GOOD, "input": "\ud800"}}),
    ("get_score_by_id", "id", {"id": ""}),
    ("list_scores_by_scorer_id", "scorer_id", {"scorer_id": ""}),
    ("list_scores_by_scorer_id", "source", {"scorer_id": "s", "source": "live"}),
    ("list_scores_by_scorer_id", "entity_type", {"scorer_id": "s", "entity_type": 1}),
    ("list_scores_by_run_id", "run_id", {"run_id": None}),
    ("list_scores_by_run_id", "page", {"run_id": "r", "pagination": {"page": -1, "per_page": 10}}),
    ("list_scores_by_run_id", "page", {"run_id": "r", "pagination": {"page": None, "per_page": 10}}),
    ("list_scores_by_run_id", "page", {"run_id": "r", "pagination": {"page": 2**60, "per_page": 10}}),
    ("list_scores_by_run_id", "per_page", {"run_id": "r", "pagination": {"page": 0, "per_page": -1}}),
    ("list_scores_by_run_id", "per_page", {"run_id": "r", "pagination": {"page": 0, "per_page": True}}),
    ("list_scores_by_run_id", "pagination", {"run_id": "r", "pagination": {"perPage": 10}}),
    ("list_scores_by_entity_id", "entity_type", {"entity_id": "e", "entity_type": ""}),
    ("list_scores_by_entity_id", "filters", {"entity_id": "e", "entity_type": "AGENT", "filters": {"tenant": "t"}}),
    ("list_scores_by_span", "span_id", {"trace_id": "t", "span_id": ""}),
    ("list_scores_by_span", "filters.project_id", {"trace_id": "t", "span_id": "s", "filters": {"project_id": 1}}),
]


@pytest.mark.parametrize(("method", "argument", "given"), BAD)
def test_bad_input_is_one_error_with_the_contracts_id_and_nothing_is_written(
    method: str, argument: str, given: dict[str, Any]
) -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store:
        with pytest.raises(InvalidArgument) as caught:
            getattr(store.scores, method)(**given)
        with Session(store.deployment) as session:
            assert session.count(Score.query().full_scan()) == 0
    assert caught.value.argument == argument
    assert caught.value.id.startswith(f"MASTRA_STORAGE_CONVEX_{method.upper()}_INVALID_")
