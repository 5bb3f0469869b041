"""Methods of more than one commit, cut off at each of them: nothing half done stays to be seen, and running again is exact.

A commit is cut off before it is applied or after it, by an error, an interrupt, a cancellation, or the end of the process:
of that one nothing is asked any more, so whatever is to be cleaned up waits for the next call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest

from convexorm import ConvexORMError, Deployment, DeploymentError, StaleDataError
from convexorm.requests import Applied, Commit
from mastra_convex import AsyncConvexStore, ConvexServerCache, ConvexVector, ThreadAlreadyExists
from mastra_convex import cache as module
from mastra_convex.entities import Document
from mastra_convex.memory.copies import COPIES
from mastra_convex.memory.moves import MOVES, TAKEN
from mastra_convex.vector.upserts import PartialUpsert
from tests.mastra.support import messages, thread

SIZE = 10
AT_ONCE = 4


class Killed(BaseException):
    """The process has ended."""


class CutOff:
    """A port whose commit of a number is cut off: `error` is raised, by a killed one for whatever is asked afterwards."""

    def __init__(self, port: Any, number: int | None = None, *, applied: bool = False, error: Any = None) -> None:
        self._port = port
        self._number = number
        self._applied = applied
        self._error = error
        self.commits = 0
        self.stuck = asyncio.Event()

    async def read(self, reads: Any) -> Any:
        self._check()
        return await self._port.read(reads)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        self._check()
        applied: list[Applied] | None = await self._port.withdraw(commit)
        return applied

    async def pause(self, seconds: float) -> None:
        self._check()

    async def commit(self, commit: Commit) -> list[Applied]:
        self._check()
        self.commits += 1
        if self.commits - 1 != self._number:
            applied: list[Applied] = await self._port.commit(commit)
            return applied
        if self._applied:
            with suppress(ConvexORMError):  # it may be refused, which nobody hears either
                await self._port.commit(commit)
        if self._error is None:  # it never returns
            self.stuck.set()
            await asyncio.Event().wait()
        raise self._error

    def _check(self) -> None:
        if isinstance(self._error, Killed) and self._number is not None and self.commits > self._number:
            raise self._error


@attrs.frozen
class Case:
    """A method, what it works on, and what is to be seen of it; all under ids that begin with a prefix."""

    prepare: Callable[[Any, str], Awaitable[object]]
    run: Callable[[Any, str], Awaitable[object]]
    seen: Callable[[Any, str], Awaitable[object]]
    undone: bool
    """Whether an error leaves nothing: else what is gone is gone."""


async def _long_thread(store: Any, id: str) -> None:
    await store.memory.save_thread(thread=thread(id, f"{id}old"))
    await store.memory.save_messages(messages=messages(f"{id}m", SIZE, id, f"{id}old"))


async def _copied(store: Any, id: str) -> object:
    copy = await store.memory.get_thread_by_id(thread_id=f"{id}copy")
    inside = (await store.memory.list_messages(thread_id=f"{id}copy", per_page=False)).messages
    texts = [one.content["parts"][0]["text"].removeprefix(f"text of {id}m") for one in inside]
    total = (await store.memory.list_messages_by_resource_id(resource_id=f"{id}old", per_page=1)).total
    return copy is not None, texts, total


async def _owners(store: Any, id: str) -> object:
    found = await store.memory.get_thread_by_id(thread_id=id)
    inside = (await store.memory.list_messages(thread_id=id, per_page=False)).messages
    return found.resource_id.removeprefix(id), [one.resource_id.removeprefix(id) for one in inside]


async def _left(store: Any, id: str) -> object:
    found = await store.memory.get_thread_by_id(thread_id=id)
    return found is not None, (await store.memory.list_messages(thread_id=id, per_page=1)).total


async def _much_observed(store: Any, id: str) -> None:
    """A thread with generations of its owner and, before there was a thread, of who it goes to."""
    old, new = f"{id}old", f"{id}new"
    observed: Any = {"thread_id": id, "scope": "thread", "config": {}}
    await store.memory.initialize_observational_memory(**observed, resource_id=new)
    await store.memory.save_thread(thread=thread(id, old))
    record = await store.memory.initialize_observational_memory(**observed, resource_id=old)
    for number in range(SIZE // 2):
        record = await store.memory.create_reflection_generation(
            current_record=record, reflection=f"{number}", token_count=1
        )


async def _observed(store: Any, id: str) -> object:
    found = await store.memory.get_thread_by_id(thread_id=id)
    history = store.memory.get_observational_memory_history
    seen = [await history(thread_id=id, resource_id=f"{id}{who}", limit=None) for who in ("old", "new")]
    newest = [one[0].active_observations for one in seen if one]
    assert newest[found.resource_id != f"{id}old" and len(newest) > 1] == f"{SIZE // 2 - 1}"  # it is with the thread
    return found.resource_id.removeprefix(id), [
        [(one.generation_count, one.active_observations) for one in several] for several in seen
    ]


CASES = {
    "update_thread_resource_id of what was observed": Case(
        _much_observed,
        lambda store, id: store.memory.update_thread_resource_id(thread_id=id, resource_id=f"{id}new"),
        _observed,
        undone=True,
    ),
    "clone_thread": Case(
        _long_thread,
        lambda store, id: store.memory.clone_thread(source_thread_id=id, new_thread_id=f"{id}copy"),
        _copied,
        undone=True,
    ),
    "copy_thread of an owner": Case(
        _long_thread,
        lambda store, id: store.memory.copy_thread(
            source_thread_id=id, new_thread_id=f"{id}copy", source_resource_id=f"{id}old"
        ),
        _copied,
        undone=True,
    ),
    "update_thread_resource_id": Case(
        _long_thread,
        lambda store, id: store.memory.update_thread_resource_id(thread_id=id, resource_id=f"{id}new"),
        _owners,
        undone=True,
    ),
    "delete_thread": Case(_long_thread, lambda store, id: store.memory.delete_thread(thread_id=id), _left, undone=False),
    "delete_thread of an owner": Case(
        _long_thread,
        lambda store, id: store.memory.delete_thread(thread_id=id, resource_id=f"{id}old"),
        _left,
        undone=False,
    ),
    "delete_messages": Case(
        _long_thread,
        lambda store, id: store.memory.delete_messages(message_ids=[f"{id}m{number}" for number in range(SIZE)]),
        _left,
        undone=False,
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits at which a handful of rows takes several commits."""
    monkeypatch.setattr("mastra_convex.memory.copies._COPIED_AT_ONCE", AT_ONCE)
    monkeypatch.setattr("mastra_convex.memory.copies._TAKEN_BACK_AT_ONCE", AT_ONCE)
    monkeypatch.setattr("mastra_convex.memory.moves._MOVED_AT_ONCE", AT_ONCE)
    monkeypatch.setattr("mastra_convex.memory.moves._OBSERVED_AT_ONCE", 2)
    monkeypatch.setattr("mastra_convex.memory.moves._GIVEN_BACK_AT_ONCE", AT_ONCE - 1)
    monkeypatch.setattr("mastra_convex.memory.threads.MAX_DELETED_BY_RANGE", AT_ONCE)
    monkeypatch.setattr("mastra_convex.memory.messages._DELETED_AT_ONCE", AT_ONCE)
    monkeypatch.setattr("mastra_convex.vector.upserts._TAKEN_BACK_AT_ONCE", AT_ONCE)
    monkeypatch.setattr("mastra_convex.vector.exact._UPSERTED_AT_ONCE", AT_ONCE)
    for place in (
        "convexorm.deployments.embedded.removals",
        "convexorm.sessions.bulk",
        "mastra_convex.cache",
    ):
        monkeypatch.setattr(f"{place}.MAX_DELETED_BY_RANGE", AT_ONCE)


def opened(deployment: Deployment, **cut: Any) -> tuple[AsyncConvexStore, CutOff]:
    """A store over a port that is cut off."""
    store = AsyncConvexStore(id="test", deployment=deployment)
    backend = store.memory._backend
    port = CutOff(backend.port, **cut)
    object.__setattr__(backend, "port", port)
    return store, port


async def commits_of(deployment: Deployment, case: Case, id: str) -> tuple[int, object, object]:
    """How many commits it takes, and what is to be seen before and after."""
    store, port = opened(deployment)
    await case.prepare(store, id)
    before, begun = await case.seen(store, id), port.commits
    await case.run(store, id)
    return port.commits - begun, before, await case.seen(store, id)


@pytest.mark.parametrize("name", CASES)
async def test_whatever_ends_it_nothing_half_done_is_seen_and_again_it_is_exact(
    name: str, deployment: Deployment, unique: str
) -> None:
    case = CASES[name]
    if not case.undone and "Remote" in repr(deployment):
        pytest.skip("thousands of rows are for embedded deployments")
    count, before, after = await commits_of(deployment, case, f"{unique}-")
    assert count >= 2
    plain = AsyncConvexStore(id="test", deployment=deployment)
    errors = [Killed(), KeyboardInterrupt(), asyncio.CancelledError(), DeploymentError("gone")]
    if "Remote" in repr(deployment):
        errors = errors[:2]
    for number in range(count):
        for applied in (False, True):
            for error in errors:
                id = f"{unique}{number}{applied}{type(error).__name__}"
                await case.prepare(plain, id)
                store, _ = opened(deployment, number=number, applied=applied, error=error)
                found_out = applied and isinstance(error, DeploymentError)  # so that it goes on as if nothing had been
                with suppress(DeploymentError) if found_out else pytest.raises(type(error)):
                    await case.run(store, id)
                seen = await case.seen(plain, id)
                if case.undone and not isinstance(error, Killed):
                    assert seen in (before, after), id
                if seen != after or isinstance(error, Killed):
                    with suppress(ThreadAlreadyExists):  # it was whole
                        await case.run(plain, id)
                assert await case.seen(plain, id) == after, id
    assert [one for one in await _notes(plain) if unique in str(one)] == []


async def _notes(store: AsyncConvexStore) -> list[Any]:
    async with store.memory._session() as session:
        tables = [Document.query().by_index("by_table", table=table) for table in (COPIES.table, MOVES.table, TAKEN)]
        return [one.record for several in await session.read(*tables) for one in several]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.undone])
async def test_a_task_cancelled_in_a_commit_that_does_not_return_leaves_nothing(
    name: str, open_deployment: Callable[[str], Deployment], unique: str
) -> None:
    deployment, case = open_deployment("memory"), CASES[name]
    count, before, after = await commits_of(deployment, case, f"{unique}-")
    plain = AsyncConvexStore(id="test", deployment=deployment)
    for number in range(count):
        for applied in (False, True):
            id = f"{unique}{number}{applied}"
            await case.prepare(plain, id)
            store, port = opened(deployment, number=number, applied=applied)
            task = asyncio.ensure_future(case.run(store, id))
            await port.stuck.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await case.seen(plain, id) in (before, after)


async def test_a_commit_that_arrives_after_a_copy_was_taken_back_writes_nothing(
    open_deployment: Callable[[str], Deployment], unique: str
) -> None:
    deployment = open_deployment("memory")
    for name in ("clone_thread", "update_thread_resource_id"):
        case = CASES[name]
        count, before, _ = await commits_of(deployment, case, f"{unique}-{name}")
        for number in range(1, count):  # the first one is the note, of nothing yet
            id = f"{unique}{name}{number}"
            plain = AsyncConvexStore(id="test", deployment=deployment)
            await case.prepare(plain, id)
            store, port = opened(deployment, number=number, error=KeyboardInterrupt())
            late: list[Commit] = []
            commit = port.commit

            async def noting(one: Commit, commit: Any = commit, late: list[Commit] = late) -> list[Applied]:
                late.append(one)
                applied: list[Applied] = await commit(one)
                return applied

            port.commit = noting  # type: ignore[method-assign,assignment]
            with pytest.raises(KeyboardInterrupt):
                await case.run(store, id)
            assert await case.seen(plain, id) == before
            with pytest.raises(StaleDataError):
                await deployment.asynchronous.commit(late[number])
            assert await case.seen(plain, id) == before


async def test_a_move_that_was_killed_is_brought_home(deployment: Deployment, unique: str) -> None:
    case = CASES["update_thread_resource_id"]
    plain = AsyncConvexStore(id="test", deployment=deployment)
    await case.prepare(plain, unique)
    before = await case.seen(plain, unique)
    store, _ = opened(deployment, number=2, error=Killed())
    with pytest.raises(Killed):
        await case.run(store, unique)
    assert await case.seen(plain, unique) != before
    moved = await plain.memory.update_thread_resource_id(thread_id=unique, resource_id=f"{unique}old")
    assert moved.resource_id == f"{unique}old"
    assert await case.seen(plain, unique) == before


# -- vectors and the cache -----------------------------------------------------------------------------------------


def cut_off(store: Any, **cut: Any) -> CutOff:
    backend = store._core._backend
    port = CutOff(backend.port, **cut)
    object.__setattr__(backend, "port", port)
    return port


ROWS = [[float(number + 1), 1.0] for number in range(SIZE)]


@pytest.mark.parametrize(
    "error", [Killed(), KeyboardInterrupt(), DeploymentError("gone")], ids=lambda one: type(one).__name__
)
def test_vectors_stored_in_several_commits_are_whole_when_stored_again(
    open_deployment: Callable[[str], Deployment], error: BaseException
) -> None:
    deployment = open_deployment("memory")
    plain = ConvexVector(id="test", deployment=deployment)
    plain.create_index(index_name="i", dimension=2)
    ids = [f"v{number}" for number in range(SIZE)]
    for number in range(3):
        for applied in (False, True):
            for given in (ids, None):
                vector = ConvexVector(id="test", deployment=deployment)
                cut_off(vector, number=number, applied=applied, error=error)
                whole = False
                with contextlib.suppress(type(error), PartialUpsert):
                    vector.upsert(index_name="i", vectors=ROWS, ids=given)
                    whole = True
                assert not whole or (applied and isinstance(error, DeploymentError))  # then it is asked what became of it
                count = plain.describe_index(index_name="i").count
                if whole:
                    assert count == SIZE
                elif given is None and not isinstance(error, Killed):
                    assert count == 0
                plain.truncate_index(index_name="i") if given is None else plain.upsert(
                    index_name="i", vectors=ROWS, ids=ids
                )
                assert plain.describe_index(index_name="i").count == (0 if given is None else SIZE)
                plain.truncate_index(index_name="i")


class Insistent(CutOff):
    """A port that is interrupted in three commits on end, from its second one on."""

    async def commit(self, commit: Commit) -> list[Applied]:
        self.commits += 1
        if 1 < self.commits <= 4:
            raise KeyboardInterrupt
        applied: list[Applied] = await self._port.commit(commit)
        return applied


def test_vectors_are_taken_back_whoever_insists(open_deployment: Callable[[str], Deployment]) -> None:
    deployment = open_deployment("memory")
    plain = ConvexVector(id="test", deployment=deployment)
    plain.create_index(index_name="i", dimension=2)
    vector = ConvexVector(id="test", deployment=deployment)
    backend: Any = vector._core._backend
    object.__setattr__(backend, "port", Insistent(backend.port))
    with pytest.raises(KeyboardInterrupt):
        vector.upsert(index_name="i", vectors=ROWS)
    assert plain.describe_index(index_name="i").count == 0


def test_an_index_whose_deletion_was_killed_is_there_until_its_vectors_are_gone(
    open_deployment: Callable[[str], Deployment],
) -> None:
    deployment = open_deployment("memory")
    plain = ConvexVector(id="test", deployment=deployment)
    for number in range(4):
        for applied in (False, True):
            plain.create_index(index_name="i", dimension=2)
            plain.upsert(index_name="i", vectors=ROWS)
            vector = ConvexVector(id="test", deployment=deployment)
            cut_off(vector, number=number, applied=applied, error=Killed())
            with pytest.raises(Killed):
                vector.delete_index(index_name="i")
            plain.delete_index(index_name="i")
            assert plain.list_indexes() == []
            plain.create_index(index_name="i", dimension=2)
            assert plain.describe_index(index_name="i").count == 0
            plain.delete_index(index_name="i")


@pytest.mark.parametrize("method", ["delete", "set", "clear", "list_push"])
def test_a_long_list_of_the_cache_whose_deletion_was_killed_is_gone_when_it_is_deleted_again(
    open_deployment: Callable[[str], Deployment], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = open_deployment("memory")
    plain = ConvexServerCache(deployment=deployment)
    every: dict[str, dict[str, Any]] = {
        "delete": {"key": "k"},
        "set": {"key": "k", "value": 1},
        "clear": {},
        "list_push": {"key": "k", "value": "new"},
    }
    arguments, number = every[method], 0
    while True:
        for index in range(SIZE):
            plain.list_push(key="k", value=index)
        later = method == "list_push"  # an expired list is begun anew
        if later:
            moment = module._milliseconds() + 300_001
            monkeypatch.setattr(module, "_milliseconds", lambda moment=moment: moment)
        cache = ConvexServerCache(deployment=deployment)
        port = cut_off(cache, number=number, applied=bool(number % 2), error=Killed())
        try:
            getattr(cache, method)(**arguments)
        except Killed:
            assert plain.list_from_to(key="k", from_=0) in ([], list(range(SIZE)), ["new"])
            if plain.list_from_to(key="k", from_=0) != ["new"]:
                getattr(plain, method)(**arguments)
            assert plain.get(key="k") == (1 if method == "set" else None)
            assert plain.list_from_to(key="k", from_=0) == (["new"] if later else [])
            plain.clear()
            number += 1
        else:
            assert number == port.commits
            assert number >= 3
            return
