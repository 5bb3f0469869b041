"""Tenants kept apart: whose a thread or a message is, decided in the commit, and two tenants let loose on every domain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import attrs
import pytest

from convexorm import ConvexORMError, Deployment, Model, Session
from convexorm.errors import InvalidRequestError
from convexorm.requests import Applied, Commit
from mastra_convex import (
    AsyncConvexStore,
    AsyncMemory,
    ConvexServerCache,
    ConvexStore,
    ConvexVector,
    InvalidArgument,
    Message,
    ObservationalMemoryNotFound,
    Thread,
    ThreadAlreadyExists,
    ThreadNotFound,
    entities,
)
from tests.mastra.support import at_once, awaited, cut_off, ids, message, messages, thread


def opened(deployment: Deployment, face: str, owners: Any) -> AsyncMemory:
    if face == "async":
        return AsyncConvexStore(id="test", deployment=deployment, owners=owners).memory
    return awaited(ConvexStore(id="test", deployment=deployment, owners=owners).memory)


@pytest.fixture(params=["contract", "strict"])
def owners(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["async", "blocking"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def strict(deployment: Deployment, face: str) -> AsyncMemory:
    return opened(deployment, face, "strict")


@pytest.fixture
def memory(deployment: Deployment, face: str, owners: str) -> AsyncMemory:
    return opened(deployment, face, owners)


async def furnish(memory: AsyncMemory, unique: str) -> tuple[str, str]:
    """A thread with three messages of each of two resources, whose ids are the resource's and a number."""
    ada, bob = f"{unique}ada", f"{unique}bob"
    for who in (ada, bob):
        await memory.save_thread(thread=thread(who, who))
        await memory.save_messages(messages=messages(who, 3, who, who))
    return ada, bob


async def belongings(memory: AsyncMemory, who: str) -> Any:
    """All that is a resource's."""
    found = await memory.list_threads(filter={"resource_id": who}, per_page=False)
    inside = await memory.list_messages_by_resource_id(resource_id=who, per_page=False)
    return [(one.id, one.title, one.metadata, one.updated_at) for one in found.threads], [
        (one.id, one.thread_id, one.content) for one in inside.messages
    ]


# -- strict owners -------------------------------------------------------------------------------------------------


async def test_ids_of_another_resource_are_refused(strict: AsyncMemory, unique: str) -> None:
    ada, bob = await furnish(strict, unique)
    before = await belongings(strict, ada), await belongings(strict, bob)
    own = message(f"{unique}own", bob, bob)
    calls: dict[str, Callable[[], Any]] = {
        f"thread '{ada}'": lambda: strict.save_thread(thread=thread(ada, bob)),
        f"message '{ada}1'": lambda: strict.save_messages(messages=[own, message(f"{ada}1", bob, bob)]),
        f"the thread '{ada}'": lambda: strict.save_messages(messages=[own, message(f"{unique}x", ada, bob)]),
        f"a thread '{ada}'": lambda: strict.update_messages(messages=[{"id": f"{bob}0", "thread_id": ada}]),
    }
    for words, call in calls.items():
        with pytest.raises(InvalidArgument, match=words.removeprefix("a ")) as caught:
            await call()
        assert caught.value.id.endswith("_OTHER_RESOURCE")
    for update in ({"resource_id": ada}, {"resource_id": ada, "thread_id": bob}, {"resource_id": None}):
        with pytest.raises(InvalidArgument, match=f"message '{bob}0' belongs to another resource"):
            await strict.update_messages(messages=[{"id": f"{bob}1"}, {"id": f"{bob}0", **update}])
    with pytest.raises(InvalidArgument, match=f"message '{bob}0'"):  # taken over into one's own thread
        await strict.update_messages(messages=[{"id": f"{bob}0", "thread_id": ada, "resource_id": ada}])
    for second in (message(f"{unique}own", bob, ada), message(f"{unique}y", bob, ada)):
        with pytest.raises(InvalidArgument):
            await strict.save_messages(messages=[own, second])
    assert (await belongings(strict, ada), await belongings(strict, bob)) == before


async def _spare(memory: AsyncMemory, unique: str, owner: str) -> str:
    """Another thread of an owner, with a message."""
    await memory.save_thread(thread=thread(f"{unique}spare", owner))
    await memory.save_messages(messages=[message(f"{unique}spare", f"{unique}spare", owner)])
    return f"{unique}spare"


async def test_ids_of_ones_own_are_saved_under_as_ever(memory: AsyncMemory, unique: str) -> None:
    ada, bob = await furnish(memory, unique)
    await memory.save_thread(thread=thread(ada, ada, title=None))
    await memory.save_thread(thread=thread(f"{ada}2", ada))
    await memory.save_messages(messages=[message(f"{ada}0", f"{ada}2", ada), message(f"{ada}9", f"{unique}no thread", ada)])
    await memory.update_messages(messages=[{"id": f"{ada}1", "thread_id": f"{ada}2"}])
    await memory.update_thread_resource_id(
        thread_id=(await _spare(memory, unique, ada)), resource_id=bob, source_resource_id=ada
    )
    moved = await memory.list_messages(thread_id=f"{ada}2")
    assert sorted(ids(moved.messages)) == [f"{ada}0", f"{ada}1"]
    found = await memory.get_thread_by_id(thread_id=ada)
    assert found is not None
    assert not found.title
    assert (await memory.list_messages(thread_id=bob)).total == 3


async def test_the_id_of_no_thread_is_whose_messages_have_it(strict: AsyncMemory, unique: str) -> None:
    ada, bob = f"{unique}ada", f"{unique}bob"
    await strict.save_messages(messages=messages(ada, 2, unique, ada))
    await strict.save_messages(messages=[message(f"{bob}0", bob, bob)])
    for call in (
        lambda: strict.save_messages(messages=[message(f"{bob}1", unique, bob)]),
        lambda: strict.update_messages(messages=[{"id": f"{bob}0", "thread_id": unique}]),
        lambda: strict.save_thread(thread=thread(unique, bob)),
    ):
        with pytest.raises(InvalidArgument, match=f"thread '{unique}' belongs to another"):
            await call()
    await strict.save_messages(messages=[message(f"{ada}0", f"{ada}new", ada), message(f"{ada}2", unique, ada)])
    await strict.update_messages(messages=[{"id": f"{ada}{number}", "thread_id": f"{ada}all"} for number in range(3)])
    await strict.update_messages(messages=[{"id": f"{ada}{number}", "thread_id": unique} for number in range(3)])
    await strict.update_messages(messages=[{"id": f"{ada}{number}", "thread_id": f"{ada}all"} for number in range(3)])
    await strict.update_messages(messages=[{"id": f"{bob}0", "thread_id": unique}])  # nobody has it any more
    with pytest.raises(InvalidArgument):
        await strict.save_messages(messages=[message(f"{ada}0", unique, ada)])


async def test_the_contract_lets_ids_be_taken(deployment: Deployment, unique: str) -> None:
    memory = opened(deployment, "async", "contract")
    ada, bob = await furnish(memory, unique)
    await memory.save_messages(messages=[message(f"{ada}0", ada, bob)])
    await memory.save_thread(thread=thread(ada, bob))
    assert len((await belongings(memory, bob))[0]) == 2


def test_owners_are_one_or_the_other(open_deployment: Callable[[str], Deployment]) -> None:
    deployment = open_deployment("memory")
    for wrong in ("loose", None, True, ""):
        for kind in (ConvexStore, AsyncConvexStore):
            with pytest.raises(InvalidRequestError, match="'contract', 'strict'"):
                kind(id="test", deployment=deployment, owners=wrong)  # type: ignore[arg-type]
    assert ConvexStore(id="test", deployment=deployment).owners == "contract"


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_resources_that_take_an_id_at_once_one_has_it(open_deployment: Any, kind: str, unique: str) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind), owners="strict").memory

    def take(number: int) -> int:
        who, won = f"{unique}{number}", 0
        for call in (
            lambda: memory.save_thread(thread=thread(f"{unique}t", who)),
            lambda: memory.save_messages(messages=[message(f"{unique}m", who, who)]),
            lambda: memory.save_messages(messages=[message(f"{who}n", f"{unique}no thread", who)]),
        ):
            try:
                call()
                won += 1
            except InvalidArgument:
                pass
        return won

    assert sum(at_once(5, take)) == 3
    (left,) = memory.list_messages_by_id(message_ids=[f"{unique}m"]).messages
    assert left.resource_id == left.thread_id


# -- by id, for a resource -----------------------------------------------------------------------------------------


async def test_by_id_another_resources_records_are_not_there(memory: AsyncMemory, unique: str) -> None:
    ada, bob = await furnish(memory, unique)
    before = await belongings(memory, ada)
    wanted = [f"{ada}0", f"{bob}0"]
    assert ids((await memory.list_messages_by_id(message_ids=wanted, resource_id=bob)).messages) == [f"{bob}0"]
    updates = [{"id": one, "content": {"metadata": {"by": "bob"}}} for one in wanted]
    assert ids(await memory.update_messages(messages=updates, resource_id=bob)) == [f"{bob}0"]
    await memory.delete_messages(message_ids=[f"{ada}1", f"{bob}1"], resource_id=bob)
    await memory.delete_thread(thread_id=ada, resource_id=bob)
    for not_found in (
        lambda: memory.update_thread(id=ada, title="bob's", resource_id=bob),
        lambda: memory.patch_thread(id=ada, metadata={"bob": 1}, resource_id=bob),
        lambda: memory.clone_thread(source_thread_id=ada, source_resource_id=bob),
        lambda: memory.copy_thread(source_thread_id=ada, source_resource_id=bob),
        lambda: memory.update_thread_resource_id(thread_id=ada, resource_id=bob, source_resource_id=bob),
    ):
        with pytest.raises(ThreadNotFound):
            await not_found()
    assert await memory.update_thread_metadata(id=ada, update=lambda _: {"bob": 1}, resource_id=bob) is None
    assert await belongings(memory, ada) == before
    assert ids((await memory.list_messages(thread_id=bob)).messages) == [f"{bob}0", f"{bob}2"]
    for wrong in ({"thread_id": ada}, {"resource_id": ada}, {"resource_id": None}):
        with pytest.raises(InvalidArgument):
            await memory.update_messages(messages=[{"id": f"{bob}0", **wrong}], resource_id=bob)
    assert (await memory.update_thread(id=bob, title="own", resource_id=bob)).title == "own"
    clone = await memory.clone_thread(source_thread_id=bob, source_resource_id=bob)
    assert clone.thread.resource_id == bob
    assert len(clone.cloned_messages) == 2
    await memory.delete_thread(thread_id=bob, resource_id=bob)
    assert await memory.get_thread_by_id(thread_id=bob) is None
    assert (await memory.list_messages(thread_id=bob)).total == 0


async def test_what_others_have_in_ones_thread_stays_theirs(deployment: Deployment, unique: str) -> None:
    memory = opened(deployment, "async", "contract")
    ada, bob = await furnish(memory, unique)
    await memory.save_messages(messages=[message(f"{unique}in", bob, ada)])
    clone = await memory.clone_thread(source_thread_id=bob, source_resource_id=bob)
    assert len(clone.cloned_messages) == 3
    await memory.delete_thread(thread_id=bob, resource_id=bob)
    assert ids((await memory.list_messages(thread_id=bob)).messages) == [f"{unique}in"]


class Overtaken:
    """A port on which somebody is faster than the first commit."""

    def __init__(self, port: Any, overtake: Callable[[], None]) -> None:
        self._port = port
        self._overtake: Callable[[], None] | None = overtake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def commit(self, commit: Commit) -> list[Applied]:
        overtake, self._overtake = self._overtake, None
        if overtake is not None:
            overtake()
        applied: list[Applied] = await self._port.commit(commit)
        return applied


@pytest.mark.needs_functions("there is a moment between reading and writing there")
async def test_what_changes_hands_before_the_commit_is_not_touched(
    deployment: Deployment, owners: str, unique: str
) -> None:
    calls: list[Callable[[AsyncMemory, str, str], Any]] = [
        lambda memory, ada, own: memory.update_thread(id=own, title="late", resource_id=ada),
        lambda memory, ada, own: memory.update_thread_metadata(id=own, update=lambda _: {"late": 1}, resource_id=ada),
        lambda memory, ada, own: memory.update_messages(
            messages=[{"id": f"{own}0", "content": {"metadata": {"late": 1}}}], resource_id=ada
        ),
        lambda memory, ada, own: memory.delete_messages(message_ids=[f"{own}0", f"{own}1"], resource_id=ada),
        lambda memory, ada, own: memory.delete_thread(thread_id=own, resource_id=ada),
        lambda memory, ada, own: memory.clone_thread(source_thread_id=own, source_resource_id=ada),
        lambda memory, ada, own: memory.update_thread_resource_id(
            thread_id=own, resource_id=f"{ada}2", source_resource_id=ada
        ),
    ]
    if owners == "strict":
        calls += [
            lambda memory, ada, own: memory.save_thread(thread=thread(own, ada, title="late")),
            lambda memory, ada, own: memory.save_messages(messages=[message(f"{own}0", own, ada, 1)]),
            lambda memory, ada, own: memory.update_messages(messages=[{"id": f"{ada}0", "thread_id": own}]),
        ]
    plain = opened(deployment, "async", owners)
    for number, call in enumerate(calls):
        ada, bob, own = (f"{unique}{number}{who}" for who in ("ada", "bob", "own"))
        await plain.save_messages(messages=[message(f"{ada}0", f"{ada}no thread", ada)])
        await plain.save_thread(thread=thread(own, ada))
        await plain.save_messages(messages=messages(own, 2, own, ada))

        def overtake(bob: str = bob, own: str = own) -> None:
            with Session(deployment) as session:
                for model, id in ((Thread, own), (Message, f"{own}0"), (Message, f"{own}1")):
                    session.update(model, id, {"resource_id": bob})
                session.commit()

        store = AsyncConvexStore(id="test", deployment=deployment, owners=owners)  # type: ignore[arg-type]
        backend = store.memory._backend
        object.__setattr__(backend, "port", Overtaken(backend.port, overtake))
        before = (await plain.list_messages(thread_id=own)).messages
        try:
            answer = await call(store.memory, ada, own)
        except (InvalidArgument, ThreadNotFound):
            answer = None
        assert answer in (None, []), number
        found = await plain.get_thread_by_id(thread_id=own, resource_id=bob)
        assert found is not None
        assert (found.title, found.metadata) == (f"about {own}", {})
        left = (await plain.list_messages(thread_id=own, resource_id=bob)).messages
        assert [(one.id, one.content) for one in left] == [(one.id, one.content) for one in before]
        assert (await plain.list_threads(filter={"resource_id": ada})).total == 0


# -- two tenants in every domain -----------------------------------------------------------------------------------

TENANTS = ("ada", "bob")
IDS = ["x", "x-y", "thread:x", "ada", "bob", "__proto__", "%' OR 1=1 --", "x\x00y", "y", "z"]
HOSTILE: list[Any] = ["", " ", 0, False, [], {}, ["ada", "bob"], {"$ne": None}, b"ada", 1]
PREFIXES = {"ada": "t", "bob": "t1"}
"""Of their caches: with the keys `1x` and `x` they spell the same."""
CACHE_KEYS = ["x", "1x", "", "11x"]

OWNERS: dict[type[Model], Callable[[Any], str | None]] = {
    entities.Thread: lambda one: one.resource_id,
    entities.Message: lambda one: one.resource_id,
    entities.Resource: lambda one: one.id,
    entities.WorkflowSnapshot: lambda one: one.resource_id,
    entities.Score: lambda one: one.organization_id,
    entities.BackgroundTask: lambda one: one.resource_id,
    entities.Schedule: lambda one: one.owner_id,
    entities.ScheduleTrigger: lambda one: one.schedule_id.partition("|")[0],
    entities.ChannelInstallation: lambda one: one.agent_id,
    entities.Document: lambda one: (
        str(one.record.get("resource_id", NOTES)) if one.table.startswith("mastra_") else one.table.removeprefix("docs_")
    ),
    entities.Vector: lambda one: (one.metadata or {}).get("tenant"),
    entities.ObservationalMemory: lambda one: one.resource_id,
    entities.CacheEntry: lambda one: {"t": "ada", "t1": "bob"}[one.key_prefix],
    entities.CacheListItem: lambda one: {"t": "ada", "t1": "bob"}[one.key_prefix],
}
"""Whose a row is."""


def shown(value: Any) -> Iterator[str]:
    """Every text in an answer."""
    if isinstance(value, Model):
        value = {name: getattr(value, name) for name in value.__mapper__.columns}
    elif attrs.has(type(value)):
        value = {name: getattr(value, name) for name in attrs.fields_dict(type(value))}
    if isinstance(value, dict):
        for key, one in value.items():
            yield from shown(key)
            yield from shown(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from shown(one)
    elif isinstance(value, str):
        yield value


class Tenant:
    """One tenant's calls: each at random, about ids that the other uses too. `who` is the tenant, or no owner at all."""

    def __init__(self, deployment: Deployment, name: str, chance: random.Random) -> None:
        store = ConvexStore(id="test", deployment=deployment, owners="strict")
        self.memory, self.workflows, self.scores = store.memory, store.workflows, store.scores
        self.tasks, self.schedules = store.background_tasks, store.schedules
        self.channels, self.documents = store.channels, store.documents
        self.vectors = ConvexVector(id="test", deployment=deployment)
        self.cache = ConvexServerCache(deployment=deployment, key_prefix=PREFIXES[name])
        self.deployment = deployment
        self.name = name
        self.chance = chance
        self.records: list[str] = []
        """Ids of generations that there are, whosever: made by the store, and yet told to a hostile client."""
        self.secret = f"secret of {name}"
        self.calls = [getattr(self, name) for name in dir(self) if name.startswith("may_")]

    def id(self) -> str:
        return self.chance.choice(IDS)

    def thread(self) -> str:
        """The id of a thread: mostly one that the tenant has, else any."""
        mine = self.memory.list_threads(filter={"resource_id": self.name}, per_page=False).threads
        return self.chance.choice(mine).id if mine and self.chance.random() < 0.6 else self.id()

    def own(self) -> str:
        """An id of the tenant's own, where a domain knows no owner: what a service gives, not a client."""
        return f"{self.name}|{self.id()}"

    # memory

    def may_save_a_thread(self, who: Any) -> Any:
        given = {"id": self.id(), "resource_id": who, "title": self.secret, "metadata": {"of": self.secret}}
        return self.memory.save_thread(thread=given)

    def may_save_messages(self, who: Any) -> Any:
        several = [
            {"id": self.id(), "thread_id": self.id(), "resource_id": who, "role": "user", "content": {"of": self.secret}}
            for _ in range(self.chance.randint(1, 2))
        ]
        return self.memory.save_messages(messages=several)

    def may_get_a_thread(self, who: Any) -> Any:
        return self.memory.get_thread_by_id(thread_id=self.id(), resource_id=who)

    def may_list_threads(self, who: Any) -> Any:
        page = self.memory.list_threads(filter={"resource_id": who}, per_page=self.chance.choice([2, False]))
        return page, page.total, (entities.Thread, lambda one: True)

    def may_list_messages(self, who: Any) -> Any:
        of, include = self.id(), [{"id": self.id(), "with_previous_messages": 3, "with_next_messages": 3}]
        page = self.memory.list_messages(
            thread_id=of,
            resource_id=who,
            include=include,  # type: ignore[arg-type]
        )
        return page, page.total, (entities.Message, lambda one: one.thread_id == of)

    def may_list_messages_of_itself(self, who: Any) -> Any:
        page = self.memory.list_messages_by_resource_id(resource_id=who, include=[{"id": self.id()}], per_page=1)
        return page, page.total, (entities.Message, lambda one: True)

    def may_list_messages_by_id(self, who: Any) -> Any:
        return self.memory.list_messages_by_id(message_ids=[self.id(), self.id()], resource_id=who)

    def may_update_messages(self, who: Any) -> Any:
        update = {"id": self.id(), "content": {"metadata": {"by": self.secret}}}
        if self.chance.random() < 0.3:
            update["thread_id"] = self.id()
        return self.memory.update_messages(messages=[update], resource_id=who)

    def may_delete_messages(self, who: Any) -> Any:
        return self.memory.delete_messages(message_ids=[self.id()], resource_id=who)

    def may_update_a_thread(self, who: Any) -> Any:
        return self.memory.update_thread(id=self.thread(), metadata={"by": self.secret}, resource_id=who)

    def may_change_metadata(self, who: Any) -> Any:
        return self.memory.update_thread_metadata(
            id=self.thread(), update=lambda one: {"seen": str(list(shown(one)))}, resource_id=who
        )

    def may_delete_a_thread(self, who: Any) -> Any:
        return self.memory.delete_thread(thread_id=self.id(), resource_id=who)

    def may_clone(self, who: Any) -> Any:
        new = self.chance.choice([None, self.id(), self.id()])
        cut = self.chance.random() < 0.5
        with self.killed(self.chance.randint(1, 3)) if cut else nullcontext():
            return self.memory.clone_thread(source_thread_id=self.thread(), source_resource_id=who, new_thread_id=new)

    def may_move(self, who: Any) -> Any:
        """To itself: a tenant that gives what it has to another has given it."""
        with self.killed(self.chance.randint(0, 3)) if self.chance.random() < 0.5 else nullcontext():
            return self.memory.update_thread_resource_id(
                thread_id=self.thread(), resource_id=self.name, source_resource_id=who
            )

    @contextmanager
    def killed(self, after: int) -> Iterator[None]:
        """Let the process end after so many commits; the next call is another's."""
        with cut_off(self.deployment, after=after), suppress(KeyboardInterrupt):
            yield

    def may_remember(self, who: Any) -> Any:
        return self.memory.update_resource(resource_id=who, working_memory=self.secret)

    def may_recall(self, who: Any) -> Any:
        return self.memory.get_resource_by_id(resource_id=who)

    def may_observe(self, who: Any) -> Any:
        found = self.memory.initialize_observational_memory(
            thread_id=self.chance.choice([None, self.thread()]), resource_id=who, scope="thread", config={"of": self.secret}
        )
        moment = found.created_at
        self.memory.update_active_observations(
            id=found.id, observations=self.secret, token_count=1, last_observed_at=moment
        )
        return found

    def record(self, who: Any) -> dict[str, Any]:
        """A generation as a client may say it is: of an id that another tenant's record may have."""
        found = self.chance.choice(self.records) if self.records and self.chance.random() < 0.7 else self.id()
        return {"id": found, "thread_id": self.chance.choice([None, self.thread()]), "resource_id": who, "scope": "thread"}

    def observed(self) -> entities.ObservationalMemory | None:
        """A generation of the tenant's own, if there is one."""
        of = self.chance.choice([None, self.thread()])
        return self.memory.get_observational_memory(thread_id=of, resource_id=self.name)

    def may_insert_a_generation(self, who: Any) -> Any:
        record = {**self.record(who), "active_observations": self.secret, "generation_count": self.chance.randint(0, 3)}
        return self.memory.insert_observational_memory_record(record=record)

    def may_reflect(self, who: Any) -> Any:
        mine = self.observed()
        known = {} if mine is None else {"id": mine.id, "thread_id": mine.thread_id}
        record = {**self.record(who), **(known if self.chance.random() < 0.7 else {})}
        return self.memory.create_reflection_generation(current_record=record, reflection=self.secret, token_count=1)

    def may_swap_a_reflection(self, who: Any) -> Any:
        mine = self.observed()
        known = {} if mine is None else {"id": mine.id, "thread_id": mine.thread_id}
        if mine is not None and who == self.name:
            self.memory.update_buffered_reflection(
                id=mine.id, reflection=self.secret, token_count=1, input_token_count=1, reflected_observation_line_count=0
            )
        record = {**self.record(who), **(known if self.chance.random() < 0.7 else {})}
        return self.memory.swap_buffered_reflection_to_active(current_record=record, token_count=1)

    def may_look_at_observations(self, who: Any) -> Any:
        of = self.chance.choice([None, self.thread()])
        history = self.memory.get_observational_memory_history(thread_id=of, resource_id=who)
        return self.memory.get_observational_memory(thread_id=of, resource_id=who), history

    def may_clear_observations(self, who: Any) -> Any:
        return self.memory.clear_observational_memory(thread_id=self.chance.choice([None, self.thread()]), resource_id=who)

    # workflows, scores, tasks, schedules, channels, documents

    def may_run(self, who: Any) -> Any:
        return self.workflows.persist_workflow_snapshot(
            workflow_name=self.own(), run_id=self.id(), resource_id=who, snapshot={"context": {"of": self.secret}}
        )

    def may_list_runs(self, who: Any) -> Any:
        page = self.workflows.list_workflow_runs(resource_id=who)
        return page, page.total, (entities.WorkflowSnapshot, lambda one: True)

    def may_end_a_run(self, who: Any) -> Any:
        return self.workflows.delete_workflow_run_by_id(workflow_name=self.own(), run_id=self.id())

    def may_score(self, who: Any) -> Any:
        score = {"id": self.own(), "scorer_id": "s", "score": 1, "run_id": self.id(), "organization_id": who}
        return self.scores.save_score(score={**score, "reason": self.secret, "entity_id": "e", "entity_type": "AGENT"})

    def may_list_scores(self, who: Any) -> Any:
        run, filters = self.id(), {"organization_id": who}
        if self.chance.random() < 0.5:
            page = self.scores.list_scores_by_run_id(run_id=run, filters=filters)  # type: ignore[arg-type]
            return page, page.total, (entities.Score, lambda one: one.run_id == run)
        page = self.scores.list_scores_by_scorer_id(scorer_id="s", filters=filters)  # type: ignore[arg-type]
        return page, page.total, (entities.Score, lambda one: True)

    def may_queue(self, who: Any) -> Any:
        task = {"id": self.own(), "tool_call_id": self.id(), "tool_name": "t", "agent_id": "a", "run_id": self.id()}
        return self.tasks.create_task(task={**task, "status": "pending", "resource_id": who, "args": {"of": self.secret}})

    def may_list_tasks(self, who: Any) -> Any:
        page = self.tasks.list_tasks(filter={"resource_id": who, "agent_id": "a"})
        return page, page.total, (entities.BackgroundTask, lambda one: True)

    def may_delete_tasks(self, who: Any) -> Any:
        return self.tasks.delete_tasks(filter={"resource_id": who, "run_id": self.id()})

    def may_schedule(self, who: Any) -> Any:
        target = {"type": "workflow", "workflow_id": "w", "input_data": {"of": self.secret}}
        schedule = {"id": self.own(), "target": target, "cron": "0 * * * *", "next_fire_at": 1}
        return self.schedules.create_schedule(schedule={**schedule, "owner_type": "tenant", "owner_id": who})

    def may_list_schedules(self, who: Any) -> Any:
        found = self.schedules.list_schedules(filter={"owner_id": who, "workflow_id": "w"})
        return found, len(found), (entities.Schedule, lambda one: True)

    def may_end_a_schedule(self, who: Any) -> Any:
        return self.schedules.delete_schedule(id=self.own())

    def may_install(self, who: Any) -> Any:
        status = self.chance.choice(["active", "active", "pending", "error"])
        one = {"id": self.id(), "platform": "p", "agent_id": who, "status": status, "data": {"of": self.secret}}
        return self.channels.save_installation(installation={**one, "webhook_id": self.chance.choice([None, self.id()])})

    def may_find_its_installation(self, who: Any) -> Any:
        of_agent = self.channels.get_installation_by_agent(platform="p", agent_id=who)
        return of_agent, self.channels.get_installation(id=self.id(), agent_id=who)

    def may_end_an_installation(self, who: Any) -> Any:
        return self.channels.delete_installation(id=self.id(), agent_id=who)

    def may_note_a_fire(self, who: Any) -> Any:
        times = {"scheduled_fire_at": 1, "actual_fire_at": self.chance.randint(1, 9), "outcome": "published"}
        assert who == self.name
        return self.schedules.record_trigger(
            trigger={**times, "schedule_id": self.own(), "run_id": self.id(), "metadata": {"of": self.secret}}
        )

    def may_look_at_fires(self, who: Any) -> Any:
        of = self.own()
        assert who == self.name
        found = self.schedules.list_triggers(schedule_id=of)
        return found, len(found), (entities.ScheduleTrigger, lambda one: one.schedule_id == of)

    def may_keep_a_document(self, who: Any) -> Any:
        record = {"id": self.id(), "of": self.secret}
        return self.documents.insert(table_name=f"docs_{self.name}" if who == self.name else who, record=record)

    def may_look_for_documents(self, who: Any) -> Any:
        table = f"docs_{self.name}" if who == self.name else who
        found = self.documents.query_table(table_name=table)
        return found, len(found), (entities.Document, lambda one: True)

    # vectors and the cache

    def may_store_vectors(self, who: Any) -> Any:
        assert who == self.name
        metadata = [{"tenant": self.name, "of": self.secret, "n": self.chance.randint(0, 3)}]
        return self.vectors.upsert(
            index_name="i", vectors=[[1.0, self.chance.random()]], ids=[self.own()], metadata=metadata
        )

    def may_search(self, who: Any) -> Any:
        filters: list[dict[str, Any]] = [
            *({}, {"$nor": []}, {"n": {"$nin": []}}, {"other": {"$ne": 1}}),
            {"$or": [{"n": 1}, {"n": 2}]},
        ]
        more = self.chance.choice(filters)
        found = self.vectors.query(
            index_name="i", query_vector=[1.0, 0.5], top_k=999, filter={"tenant": {"$in": [who]}, **more}
        )
        return found, len(found), (entities.Vector, lambda one: "$or" not in more or one.metadata["n"] in (1, 2))

    def may_delete_vectors(self, who: Any) -> Any:
        assert who == self.name
        filter: Any = {"$and": [{"tenant": who}, self.chance.choice([{"n": 1}, {"n": {"$nin": []}}, {"$nor": []}])]}
        return self.vectors.delete_vectors(index_name="i", filter=filter)

    def may_change_vectors(self, who: Any) -> Any:
        assert who == self.name
        return self.vectors.update_vector(
            index_name="i", filter={"tenant": who, "n": {"$gt": 1}}, update={"metadata": {"n": 0}}
        )

    def may_cache(self, who: Any) -> Any:
        assert who == self.name
        key, cache = self.chance.choice(CACHE_KEYS), self.cache
        kind = self.chance.choice(["value", "counter", "list"])
        made: list[Callable[[], Any]] = [
            lambda: cache.set(key=kind + key, value=self.secret),
            lambda: cache.get(key=kind + key),
            lambda: cache.increment(key=f"counter{key}"),
            lambda: cache.list_push_indexed(list_key=f"list{key}", counter_key=f"counter{key}", value={"of": self.secret}),
            lambda: cache.list_push(key=f"list{key}", value={"of": self.secret}),
            lambda: cache.list_length(key=f"list{key}"),
            lambda: cache.list_from_to(key=kind + key, from_=-3),
            lambda: cache.delete(key=kind + key),
            lambda: cache.clear() if self.chance.random() < 0.2 else None,
        ]
        return self.chance.choice(made)()


NOTES = "notes of moves"


def rows(deployment: Deployment) -> dict[str, dict[tuple[str, Any], Any]]:
    """All there is, by whose it is."""
    every: dict[str, dict[tuple[str, Any], Any]] = {}
    with Session(deployment) as session:
        found = session.read(*(model.query().full_scan() for model in OWNERS))
        for (model, owner), several in zip(OWNERS.items(), found, strict=True):
            for one in several:
                every.setdefault(str(owner(one)), {})[model.__mapper__.table.name, one.convex_id] = one
        session.expunge_all()
    return every


def documents(owned: dict[tuple[str, Any], Any]) -> dict[tuple[str, Any], Any]:
    return {key: dict(one._state.document) for key, one in owned.items()}


NOT_FROM_CLIENTS = ("store_vectors", "delete_vectors", "change_vectors", "cache", "note_a_fire", "look_at_fires")


@pytest.mark.parametrize(("kind", "seed", "calls"), [("memory", 1, 700), ("memory", 2, 700), ("host", 3, 120)])
def test_two_tenants_never_see_change_or_count_what_is_the_others(
    open_deployment: Callable[[str], Deployment], kind: str, seed: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, chance = open_deployment(kind), random.Random(seed)
    for place, limit in (("copies._COPIED_AT_ONCE", 1), ("moves._MOVED_AT_ONCE", 1), ("copies._TAKEN_BACK_AT_ONCE", 1)):
        monkeypatch.setattr(f"mastra_convex.memory.{place}", limit)
    ConvexVector(id="test", deployment=deployment).create_index(index_name="i", dimension=2)
    tenants = {name: Tenant(deployment, name, chance) for name in TENANTS}
    before = rows(deployment)
    done: dict[str, int] = {}
    for number in range(calls):
        name = chance.choice(TENANTS)
        other = TENANTS[1 - TENANTS.index(name)]
        tenant = tenants[name]
        call = chance.choice(tenant.calls)
        every = [
            one for owned in before.values() for one in owned.values() if isinstance(one, entities.ObservationalMemory)
        ]
        tenant.records = [one.id for one in every]
        what = f"call {number} of seed {seed}: {name} {call.__name__}"
        owned = call.__name__ not in [f"may_{one}" for one in (*NOT_FROM_CLIENTS, "end_a_run", "end_a_schedule")]
        hostile = owned and chance.random() < 0.15
        try:
            answer = call(chance.choice(HOSTILE) if hostile else name)
        except (InvalidArgument, ThreadNotFound, ThreadAlreadyExists, ObservationalMemoryNotFound) as error:
            answer = str(error)
        except ConvexORMError as error:
            if hostile:
                raise
            answer = str(error)
        else:
            assert not hostile or call.__name__ == "may_search", what
            done[call.__name__] = done.get(call.__name__, 0) + 1
        assert not any(f"secret of {other}" in text for text in shown(answer)), what
        now = rows(deployment)
        assert documents(now.get(other, {})) == documents(before.get(other, {})), what
        if hostile:
            assert documents(now.get(name, {})) == documents(before.get(name, {})), what
        elif isinstance(answer, tuple) and len(answer) == 3:
            _, count, (model, counts) = answer
            mine = [one for (table, _), one in now.get(name, {}).items() if table == model.__mapper__.table.name]
            assert count == sum(map(counts, mine)), what
        assert kind == "host" or set(now) <= {*TENANTS, NOTES}, what  # the host has other tests' rows
        before = now
    assert kind == "host" or set(done) == {call.__name__ for call in tenants["ada"].calls}
