"""What a killed copy or move leaves: in nobody's way, taken back by whoever is next, and never another resource's gain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from convexorm import Deployment
from mastra_convex import AsyncConvexStore, ConvexStore, InvalidArgument, ThreadAlreadyExists, ThreadNotFound
from tests.mastra.support import at, ids, message, messages, thread
from tests.mastra.test_cut_off import CASES, SIZE, CutOff, Killed, _notes, opened, small
from tests.mastra.test_tenants import Overtaken

__all__ = ["small"]


async def killed(deployment: Deployment, unique: str, work: Callable[[Any], Any], number: int = 2) -> AsyncConvexStore:
    """A long thread of `{unique}old`, on which work was killed in its third commit; a store that lives."""
    plain = AsyncConvexStore(id="test", deployment=deployment)
    await CASES["clone_thread"].prepare(plain, unique)
    store, _ = opened(deployment, number=number, applied=True, error=Killed())
    with pytest.raises(Killed):
        await work(store)
    return plain


def clone(unique: str, **given: Any) -> Callable[[Any], Any]:
    return lambda store: store.memory.clone_thread(source_thread_id=unique, new_thread_id=f"{unique}copy", **given)


def move(unique: str, to: str = "new", **given: Any) -> Callable[[Any], Any]:
    return lambda store: store.memory.update_thread_resource_id(thread_id=unique, resource_id=f"{unique}{to}", **given)


async def inside(store: Any, thread_id: str) -> list[str]:
    return ids((await store.memory.list_messages(thread_id=thread_id, per_page=False)).messages)


async def of(store: Any, resource_id: str) -> int:
    return len((await store.memory.list_messages_by_resource_id(resource_id=resource_id, per_page=False)).messages)


# -- copies --------------------------------------------------------------------------------------------------------


async def test_a_thread_saved_where_a_copy_was_killed_has_no_messages_of_it(deployment: Deployment, unique: str) -> None:
    plain = await killed(deployment, unique, clone(unique))
    assert len(await inside(plain, f"{unique}copy")) > 0
    await plain.memory.save_thread(thread=thread(f"{unique}copy", "another"))
    assert await inside(plain, f"{unique}copy") == []
    assert await of(plain, f"{unique}old") == SIZE
    with pytest.raises(ThreadAlreadyExists):
        await clone(unique)(plain)
    assert not [one for one in await _notes(plain) if unique in str(one)]


async def test_deleting_where_a_copy_was_killed_takes_it_back(deployment: Deployment, unique: str) -> None:
    plain = await killed(deployment, unique, clone(unique, resource_id=f"{unique}r"))
    await plain.memory.delete_thread(thread_id=f"{unique}copy", resource_id="another")
    assert await of(plain, f"{unique}r") > 0
    await plain.memory.delete_thread(thread_id=f"{unique}copy", resource_id=f"{unique}r")
    assert await of(plain, f"{unique}r") == 0
    assert not [one for one in await _notes(plain) if unique in str(one)]
    copy = await clone(unique, resource_id=f"{unique}r")(plain)
    assert await inside(plain, f"{unique}copy") == ids(copy.cloned_messages)


async def test_with_strict_owners_a_killed_copy_keeps_its_id_for_its_resource(deployment: Deployment, unique: str) -> None:
    plain = await killed(deployment, unique, clone(unique))
    strict = AsyncConvexStore(id="test", deployment=deployment, owners="strict")
    before = await inside(plain, f"{unique}copy")
    await plain.memory.save_messages(messages=[message(f"{unique}m0x", f"{unique}t", "another")])
    for call in (
        lambda: strict.memory.save_thread(thread=thread(f"{unique}copy", "another")),
        lambda: strict.memory.save_messages(messages=[message(f"{unique}x", f"{unique}copy", "another")]),
        lambda: strict.memory.update_messages(messages=[{"id": f"{unique}m0x", "thread_id": f"{unique}copy"}]),
    ):
        with pytest.raises(InvalidArgument, match="belongs to another resource"):
            await call()
    await strict.memory.save_thread(thread=thread(f"{unique}other", "another"))
    with pytest.raises(ThreadAlreadyExists):
        await strict.memory.clone_thread(source_thread_id=f"{unique}other", new_thread_id=f"{unique}copy")
    assert await inside(plain, f"{unique}copy") == before
    copy = await clone(unique)(strict)
    assert await inside(plain, f"{unique}copy") == ids(copy.cloned_messages)
    assert len(copy.cloned_messages) == SIZE


async def test_no_copy_mixes_with_messages_that_are_there(deployment: Deployment, unique: str) -> None:
    every: list[Any] = ["contract", "strict"]
    for owners in every:
        store = AsyncConvexStore(id="test", deployment=deployment, owners=owners)
        id = f"{unique}{owners}"
        for count in (0, 1, SIZE):
            source, taken = f"{id}source{count}", f"{id}taken{count}"
            await store.memory.save_thread(thread=thread(source, "r"))
            await store.memory.save_messages(messages=messages(f"{source}m", count, source, "r"))
            await store.memory.save_messages(messages=[message(f"{taken}m", taken, "another")])
            for method in (store.memory.clone_thread, store.memory.copy_thread):
                with pytest.raises(ThreadAlreadyExists):
                    await method(source_thread_id=source, new_thread_id=taken)
            assert await inside(store, taken) == [f"{taken}m"]
        if owners == "strict":
            with pytest.raises(InvalidArgument):
                await store.memory.save_thread(thread=thread(taken, "r"))
            await store.memory.save_thread(thread=thread(taken, "another"))
    assert not [one for one in await _notes(store) if unique in str(one)]


@pytest.mark.parametrize("kind", ["memory", "host"])
async def test_whoever_saves_messages_before_the_commit_of_a_new_thread_is_noticed(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    deployment = open_deployment(kind)
    await AsyncConvexStore(id="test", deployment=deployment).memory.save_thread(thread=thread(f"{unique}s", "r"))
    calls: list[Callable[[Any, str], Any]] = [
        lambda store, id: store.memory.save_thread(thread=thread(id, "r")),
        lambda store, id: store.memory.clone_thread(source_thread_id=f"{unique}s", new_thread_id=id),
    ]
    for number, call in enumerate(calls):
        id = f"{unique}{number}"
        store = AsyncConvexStore(id="test", deployment=deployment, owners="strict")
        backend = store.memory._backend

        def overtake(id: str = id) -> None:
            strict = ConvexStore(id="test", deployment=deployment, owners="strict")
            strict.memory.save_messages(messages=[message(id, id, "another")])

        object.__setattr__(backend, "port", Overtaken(backend.port, overtake))
        with pytest.raises((InvalidArgument, ThreadAlreadyExists)):
            await call(store, id)
        assert await store.memory.get_thread_by_id(thread_id=id) is None
        assert await inside(store, id) == [id]


@pytest.mark.parametrize("kind", ["sqlite", "host"])
async def test_a_killed_copy_of_large_messages_is_taken_back(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.memory.copies._TAKEN_BACK_AT_ONCE", 1_000)
    monkeypatch.setattr("mastra_convex.memory.copies._COPIED_AT_ONCE", 9)
    monkeypatch.setattr("mastra_convex.memory.copies._COPIED_BYTES", 15 << 20)
    deployment = open_deployment(kind)
    store = AsyncConvexStore(id="test", deployment=deployment)
    await store.memory.save_thread(thread=thread(unique, "r"))
    for number in range(27):  # more than one transaction reads
        await store.memory.save_messages(
            messages=[message(f"{unique}{number}", unique, "r", number, content="x" * 700_000)]
        )
    cut, _ = opened(deployment, number=2, applied=True, error=Killed())
    with pytest.raises(Killed):
        await clone(unique)(cut)
    assert len(await inside(store, f"{unique}copy")) == 18
    await store.memory.save_thread(thread=thread(f"{unique}copy", "r"))
    assert await inside(store, f"{unique}copy") == []


# -- moves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owners", ["contract", "strict"])
@pytest.mark.parametrize("count", [2, SIZE])
async def test_a_move_leaves_with_others_what_is_theirs(
    deployment: Deployment, owners: Any, count: int, unique: str
) -> None:
    plain = AsyncConvexStore(id="test", deployment=deployment)
    store = AsyncConvexStore(id="test", deployment=deployment, owners=owners)
    ada, bob, carol = (f"{unique}{who}" for who in ("ada", "bob", "carol"))
    # each was there before there was a thread
    for who in (ada, bob, carol):
        await plain.memory.save_messages(messages=messages(who, count, unique, who))
    await plain.memory.save_thread(thread=thread(unique, ada))
    source = None if owners == "strict" else ada
    await store.memory.update_thread_resource_id(thread_id=unique, resource_id=carol, source_resource_id=source)
    assert [await of(plain, who) for who in (ada, bob, carol)] == [0, count, 2 * count]
    await store.memory.update_thread_resource_id(thread_id=unique, resource_id=carol, source_resource_id=carol)
    with pytest.raises(ThreadNotFound):
        await store.memory.update_thread_resource_id(thread_id=unique, resource_id=bob, source_resource_id=bob)
    assert [await of(plain, who) for who in (ada, bob, carol)] == [0, count, 2 * count]
    await plain.memory.update_thread_resource_id(thread_id=unique, resource_id=carol)  # the contract: all of it
    assert [await of(plain, who) for who in (ada, bob, carol)] == [0, 0, 3 * count]


@pytest.mark.parametrize("own", [True, False])
async def test_a_killed_move_goes_home_without_what_the_new_owner_had_there(
    deployment: Deployment, own: bool, unique: str
) -> None:
    old, new = f"{unique}old", f"{unique}new"
    source = old if own else None
    plain = AsyncConvexStore(id="test", deployment=deployment)
    await plain.memory.save_messages(messages=messages(f"{unique}theirs", 3, unique, new))
    await killed(deployment, unique, move(unique, source_resource_id=source))
    assert 3 < await of(plain, new) < SIZE + 3
    await plain.memory.update_thread_resource_id(thread_id=unique, resource_id=old, source_resource_id=old)
    assert [await of(plain, who) for who in (old, new)] == [SIZE, 3]
    await plain.memory.update_thread_resource_id(thread_id=unique, resource_id=f"{unique}third", source_resource_id=old)
    assert [await of(plain, who) for who in (old, new, f"{unique}third")] == [0, 3, SIZE]
    assert not [one for one in await _notes(plain) if unique in str(one)]


async def test_a_killed_move_to_another_resource_than_the_next_ends_with_that_one(
    deployment: Deployment, unique: str
) -> None:
    plain = await killed(deployment, unique, move(unique))
    await move(unique, "third")(plain)
    assert [await of(plain, f"{unique}{who}") for who in ("old", "new", "third")] == [0, 0, SIZE]
    assert not [one for one in await _notes(plain) if unique in str(one)]


async def test_deleting_a_thread_deletes_what_a_killed_move_took(deployment: Deployment, unique: str) -> None:
    old, new = f"{unique}old", f"{unique}new"
    plain = AsyncConvexStore(id="test", deployment=deployment)
    await plain.memory.save_messages(messages=messages(f"{unique}theirs", 3, unique, new))
    await killed(deployment, unique, move(unique, source_resource_id=old))
    for other in ("another", new):
        await plain.memory.delete_thread(thread_id=unique, resource_id=other)
    assert await plain.memory.get_thread_by_id(thread_id=unique) is not None
    await plain.memory.delete_thread(thread_id=unique, resource_id=old)
    assert await plain.memory.get_thread_by_id(thread_id=unique) is None
    assert len(await inside(plain, unique)) == await of(plain, new) == 3
    assert not [one for one in await _notes(plain) if unique in str(one)]


async def test_of_two_moves_one_is_whole(open_deployment: Callable[[str], Deployment], unique: str) -> None:
    deployment = open_deployment("memory")
    plain = AsyncConvexStore(id="test", deployment=deployment)
    await CASES["clone_thread"].prepare(plain, unique)
    for number in range(1, 4):
        store, port = opened(deployment, number=number)
        slow = asyncio.ensure_future(move(unique)(store))
        await port.stuck.wait()
        await move(unique, "third")(plain)
        assert await of(plain, f"{unique}third") == SIZE
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert await of(plain, f"{unique}third") == SIZE
        await move(unique, "old")(plain)
    assert await of(plain, f"{unique}old") == SIZE


# -- interrupted again ---------------------------------------------------------------------------------------------


class Insistent(CutOff):
    """A port whose commits of these numbers, and all that is asked from the second one on in vain, are interrupted."""

    def __init__(self, port: Any, first: int, again: tuple[int, ...], error: type[BaseException], *, applied: bool) -> None:
        super().__init__(port, first, applied=applied, error=error())
        self._again = {first + 1 + number for number in again}
        self.interrupts = 0

    async def commit(self, commit: Any) -> Any:
        if self.commits in self._again:
            self.interrupts += 1
            self.commits += 1
            if self._applied:
                await self._port.commit(commit)
            raise type(self._error)
        return await super().commit(commit)

    async def read(self, reads: Any) -> Any:
        if self.commits in self._again and self.interrupts < 3:
            self.interrupts += 1
            raise type(self._error)
        return await super().read(reads)


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.undone])
async def test_whoever_interrupts_the_taking_back_too_finds_nothing_left(
    open_deployment: Callable[[str], Deployment], name: str, error: type[BaseException], unique: str
) -> None:
    deployment, case = open_deployment("memory"), CASES[name]
    plain = AsyncConvexStore(id="test", deployment=deployment)
    interrupts = 0
    for first in range(1, 3):
        for again in [(0,), (1,), (2,), (0, 1), (0, 2, 3)]:
            for applied in (False, True):
                id = f"{unique}{first}{again}{applied}"
                await case.prepare(plain, id)
                before = await case.seen(plain, id)
                store = AsyncConvexStore(id="test", deployment=deployment)
                backend = store.memory._backend
                port = Insistent(backend.port, first, again, error, applied=applied)
                object.__setattr__(backend, "port", port)
                with pytest.raises(error):
                    await case.run(store, id)
                interrupts += port.interrupts
                assert await case.seen(plain, id) == before, id
                assert not [one for one in await _notes(plain) if id in str(one)]
    assert interrupts >= 20


async def test_a_task_cancelled_twice_leaves_nothing(open_deployment: Callable[[str], Deployment], unique: str) -> None:
    deployment = open_deployment("memory")
    plain = AsyncConvexStore(id="test", deployment=deployment)
    for name in ("clone_thread", "update_thread_resource_id"):
        id, case = f"{unique}{name}", CASES[name]
        await case.prepare(plain, id)
        before = await case.seen(plain, id)
        store, port = opened(deployment, number=2)
        task = asyncio.ensure_future(case.run(store, id))
        await port.stuck.wait()
        port.stuck.clear()
        port._number = port.commits  # the first of the taking back does not return either
        task.cancel()
        await port.stuck.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await case.seen(plain, id) == before


async def test_nothing_else_changes_what_is_saved(deployment: Deployment, unique: str) -> None:
    store = AsyncConvexStore(id="test", deployment=deployment)
    await store.memory.save_thread(thread=thread(unique, "r", updated_at=at(5)))
    await store.memory.save_thread(thread=thread(unique, "r", title="again", updated_at=at(1)))
    found = await store.memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert (found.title, found.updated_at) == ("again", at(5))
