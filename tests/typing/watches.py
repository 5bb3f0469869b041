"""Types of what is watched, as a checker infers them."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from convexorm import AsyncLive, Change, Deployment, Functions, Index, Live, Mapped, Model, SearchIndex, Watch


class Job(Model, table="typed_jobs"):
    state: Mapped[str]
    weight: Mapped[float]
    by_state = Index("state")
    by_text = SearchIndex("state")


query = Job.query().by_index("by_state", state="open")


def watched(deployment: Deployment, functions: Functions) -> None:
    assert_type(deployment.watch(query), Watch[Change[Job]])
    assert_type(deployment.watch(query.count()), Watch[int])
    assert_type(deployment.watch(query.select(Job.state, Job.weight)), Watch[list[tuple[str, float]]])
    assert_type(deployment.watch(Job.by_text.search("open")), Watch[Change[Job]])
    assert_type(deployment.watch(query, query.sum(Job.weight)), Watch[tuple[Change[Job], float]])
    assert_type(functions.watch("jobs:list", returns=list[Job]), Watch[list[Job]])
    with deployment.watch(query, query.count(), query.distinct(Job.state)) as live:
        assert_type(live, Live[tuple[Change[Job], int, list[str]]])
        assert_type(live.next(timeout=5), tuple[Change[Job], int, list[str]])
        for change, count, _ in live:
            assert_type(change.items, list[Job])
            assert_type(count, int)
    deployment.watch("jobs")  # type: ignore[call-overload]


async def awaited(deployment: Deployment) -> None:
    async with deployment.watch(query) as live:
        assert_type(live, AsyncLive[Change[Job]])
        assert_type(await live.next(), Change[Job])
        async for change in live:
            assert_type(change.removed, list[Job])
