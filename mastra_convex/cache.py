"""The server cache: values, counters and lists that expire, under keys with a prefix.

`ConvexServerCache` and `AsyncConvexServerCache` keep the rows that the npm package's cache keeps, so a Python service and a
TypeScript app share one cache: a head for each key, and a row for each element of a list. A head that has expired, or that
is marked as deleted, is as good as none; whoever writes to its key next puts it to use again and removes what it left. The
time is the caller's, and one moment for all that an operation checks and prolongs. A list and the counter of its indexes
are a pair: what prolongs the one prolongs the other.

A row belongs to the cache whose prefix it has, not to whoever can spell its key: "t" and "1x" make the same key as "t1" and
"x", and are two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar, Unpack

from convexorm import AsyncSession, LimitExceeded, Query
from convexorm.faces import blocking
from convexorm.requests import DELETED_BY_RANGE, MAX_DELETED_BY_RANGE
from convexorm.values import is_whole
from mastra_convex.arguments import MAX_SAFE_INTEGER, check_amount, check_json, check_mapping, check_text
from mastra_convex.connection import AsyncConnected, Connected, Connection, ConnectionOptions
from mastra_convex.domain import AsyncDomain, Backend
from mastra_convex.entities import CacheEntry, CacheListItem
from mastra_convex.errors import InvalidArgument, WrongCacheKind

__all__ = ["AsyncConvexServerCache", "CacheOptions", "ConvexServerCache"]

T = TypeVar("T")
Kind = Literal["value", "list", "counter", "deleted"]

DEFAULT_KEY_PREFIX = "mastra:cache:"
DEFAULT_TTL_MS = 300_000


class CacheOptions(ConnectionOptions, total=False):
    """Where a cache's rows live, and how they are kept.

    `key_prefix` stands before every key; `clear` removes only what has exactly this one. `ttl_ms` is how long an entry
    lives where nothing else is said, 0 for ever.
    """

    key_prefix: str
    ttl_ms: float


class AsyncCaching(AsyncDomain):
    """What a cache does, awaited."""

    def __init__(self, backend: Backend, key_prefix: str, ttl_ms: float) -> None:
        super().__init__(backend)
        self._prefix = key_prefix
        self._ttl = ttl_ms

    # -- values ----------------------------------------------------------------------------------------------------

    async def get(self, *, key: str) -> Any:
        """The value, or None where there is none, where it has expired, and where the key holds something else."""
        name = self._name("GET", "key", key)
        async with self._session() as session:
            entry = await session.get(CacheEntry, (name, self._prefix))
        return entry.value if entry is not None and _live(entry, _milliseconds()) and entry.kind == "value" else None

    async def set(self, *, key: str, value: Any, ttl_ms: float | None = None) -> None:
        """Store any JSON value, in place of whatever the key holds, for `ttl_ms` milliseconds; 0 is for ever."""
        name = self._name("SET", "key", key)
        moment = _milliseconds()
        expires_at = _expiry(moment, self._ttl if ttl_ms is None else _lifetime("SET", ttl_ms))
        value = check_json("SET", "value", value)

        async def write(session: AsyncSession) -> None:
            entry = CacheEntry(key=name, key_prefix=self._prefix, kind="value", value=value, expires_at=expires_at)
            session.upsert(entry, returning=False)
            session.delete_range(self._items(name))

        async with self._session() as session:
            await self._written(session, write, {name: True}, moment)

    async def delete(self, *, key: str) -> None:
        """Remove whatever the key holds; nothing happens where there is none."""
        name = self._name("DELETE", "key", key)
        async with self._session() as session:
            await self._removed(session, name)

    async def clear(self) -> None:
        """Remove everything whose prefix is exactly that of this cache, atomically where one commit can (4,000 rows)."""
        entries = CacheEntry.query().by_index("by_key_prefix", key_prefix=self._prefix)
        items = CacheListItem.query().by_index("by_key_prefix", key_prefix=self._prefix)
        async with self._session() as session:
            while True:
                session.delete_range(entries)
                session.delete_range(items)
                try:
                    return await session.commit()
                except LimitExceeded:
                    session.rollback()
                await session.delete_all(entries.where(CacheEntry.kind.in_(("value", "counter"))))
                for key in [entry.key for entry in await session.all(entries)]:
                    await self._removed(session, key)
                while (left := await session.first(items)) is not None:
                    await self._removed(session, left.key)

    # -- counters --------------------------------------------------------------------------------------------------

    async def increment(self, *, key: str) -> int:
        """Count one more, from 1, and prolong the counter's life. Concurrent increments all count.

        Raises WrongCacheKind where the key holds something else.
        """
        name, moment = self._name("INCREMENT", "key", key), _milliseconds()

        async def count(session: AsyncSession) -> int:
            return int((await self._continued(session, "INCREMENT", name, "counter", moment)).counter or 0)

        async with self._session() as session:
            return await self._written(session, count, {name: False}, moment)

    # -- lists -----------------------------------------------------------------------------------------------------

    async def list_length(self, *, key: str) -> int:
        """How many elements the list has, 0 where there is none. Raises WrongCacheKind where the key holds another kind."""
        name = self._name("LIST_LENGTH", "key", key)
        async with self._session() as session:
            entry = await session.get(CacheEntry, (name, self._prefix))
        if entry is None or not _live(entry, _milliseconds()):
            return 0
        if entry.kind != "list":
            raise WrongCacheKind(key, expected="list", actual=entry.kind, operation="LIST_LENGTH")
        return int(entry.counter or 0)

    async def list_push(self, *, key: str, value: Any) -> None:
        """Append any JSON value to the list, and prolong the list's life. Concurrent pushes are all kept.

        Raises WrongCacheKind where the key holds something else.
        """
        name, moment = self._name("LIST_PUSH", "key", key), _milliseconds()
        value = check_json("LIST_PUSH", "value", value)

        async def push(session: AsyncSession) -> None:
            self._append(session, await self._continued(session, "LIST_PUSH", name, "list", moment), value)

        async with self._session() as session:
            await self._written(session, push, {name: False}, moment)

    async def list_push_indexed(self, *, list_key: str, counter_key: str, value: Mapping[str, Any]) -> int:
        """Count one more under `counter_key`, append `value` with that number less one as its `index` to the list, and
        answer the index: both in one commit, so that indexes and elements never part.

        From then on they expire together, whichever of them is counted, pushed to or prolonged by itself. A list never has
        an index twice: a counter that was deleted or set goes on after the greatest that the list has.
        """
        operation = "LIST_PUSH_INDEXED"
        list_name, counter_name = (
            self._name(operation, "list_key", list_key),
            self._name(operation, "counter_key", counter_key),
        )
        if list_name == counter_name:
            raise InvalidArgument("another key than list_key", operation=operation, argument="counter_key")
        element = check_json(operation, "value", check_mapping(operation, "value", value))
        moment = _milliseconds()

        async def push(session: AsyncSession) -> int:
            counter = await self._continued(session, operation, counter_name, "counter", moment)
            head = await self._continued(session, operation, list_name, "list", moment)
            counter.partner, head.partner = list_name, counter_name
            counter.expires_at = head.expires_at = _later(counter.expires_at, head.expires_at)
            index = int(counter.counter or 0) - 1
            if head.counter != 1:
                index = max(index, await self._next_index(session, list_name))
                counter.counter = index + 1
            self._append(session, head, {**element, "index": index})
            return index

        async with self._session() as session:
            return await self._written(session, push, {list_name: False, counter_name: False}, moment)

    async def list_from_to(self, *, key: str, from_: int, to: int = -1) -> list[Any]:
        """The elements from one position to another, both inclusive; negative ones count from the end, -1 is the last.

        An empty list where there is none, and where the key holds something else.
        """
        name = self._name("LIST_FROM_TO", "key", key)
        for argument, value in (("from_", from_), ("to", to)):
            if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_SAFE_INTEGER:
                raise InvalidArgument("a whole number within 2**53 - 1", operation="LIST_FROM_TO", argument=argument)
        async with self._session() as session:
            head = CacheEntry.query().by_index("by_key_and_prefix", key=name, key_prefix=self._prefix)
            heads, items = await session.read(head, _between(self._items(name), from_, to))
        if not heads or not _live(heads[0], _milliseconds()) or heads[0].kind != "list":
            return []
        first = max(int(heads[0].counter or 0) + from_, 0) if from_ < 0 else from_
        return [item.value for item in sorted(items, key=lambda item: item.index) if item.index >= first]

    # -- underneath ------------------------------------------------------------------------------------------------

    def _name(self, operation: str, argument: str, key: object) -> str:
        """The key as it is stored."""
        return self._prefix + check_text(operation, argument, key)

    def _items(self, name: str) -> Query[CacheListItem]:
        """The elements of a list."""
        query = CacheListItem.query().by_index("by_key_index", key=name)
        return query.where(CacheListItem.key_prefix == self._prefix)

    def _append(self, session: AsyncSession, head: CacheEntry, value: Any) -> None:
        """Add an element behind those of a list that was continued by it."""
        index = int(head.counter or 0) - 1
        item = CacheListItem(key=head.key, key_prefix=self._prefix, index=index, value=value)
        session.add(item, returning=False)

    async def _next_index(self, session: AsyncSession, name: str) -> int:
        """One more than the last index that an element of the list has been given; what was pushed without one has none."""
        items = self._items(name).order("desc")
        for part in (items.limit(1), items.limit(100), items):  # it is the last one, or one of the last, or none
            found = await session.all(part)
            index = next((one for one in map(_index_of, found) if one is not None), None)
            if index is not None:
                return index + 1
        return 0

    async def _continued(self, session: AsyncSession, operation: str, name: str, kind: Kind, moment: float) -> CacheEntry:
        """The head of a counter or a list, begun if need be, with one more to it and a new life, as its partner has."""
        entry = await session.get(CacheEntry, (name, self._prefix))
        expires_at = _expiry(moment, self._ttl)
        if entry is not None and _live(entry, moment):
            if entry.kind != kind:
                raise WrongCacheKind(name.removeprefix(self._prefix), expected=kind, actual=entry.kind, operation=operation)
            entry.counter = (entry.counter or 0) + 1
            expires_at = _later(entry.expires_at, expires_at)
            partner = None if entry.partner is None else await session.get(CacheEntry, (entry.partner, self._prefix))
            if partner is not None and partner.partner == name and _live(partner, moment):
                partner.expires_at = expires_at
        else:
            session.delete_range(self._items(name))
            if entry is None:
                entry = CacheEntry(key=name, key_prefix=self._prefix, kind=kind, counter=1)
                session.add(entry, returning=False)
            entry.kind = kind
            entry.value = entry.partner = None
            entry.counter = 1
        entry.expires_at = expires_at
        return entry

    async def _written(
        self,
        session: AsyncSession,
        write: Callable[[AsyncSession], Awaitable[T]],
        keys: Mapping[str, bool],
        moment: float,
    ) -> T:
        """Run a transaction. Where it would delete more than one commit can, the lists under `keys` are deleted before it:
        those that are as good as none, and with True live ones too.
        """
        while True:
            try:
                return await session.transact(write)
            except LimitExceeded as error:
                if error.limit != DELETED_BY_RANGE:
                    raise
            for name, live in keys.items():
                await self._swept(session, name, moment, live=live)

    async def _removed(self, session: AsyncSession, name: str) -> None:
        """Delete a head and its list: at once where one commit can, else the list beforehand."""

        async def remove(session: AsyncSession) -> None:
            session.delete_range(self._items(name))
            session.delete_key(CacheEntry, (name, self._prefix))

        await self._written(session, remove, {name: True}, _milliseconds())

    async def _swept(self, session: AsyncSession, name: str, moment: float, *, live: bool) -> None:
        """Delete the elements of a list of any length, in as many commits as it takes.

        The head is marked as deleted first, and changed by each commit, so none of them deletes from a list that another
        writer has begun in the meantime. Without `live` a list that lives is left alone.
        """
        begun = False

        async def step(session: AsyncSession) -> bool:
            entry = await session.get(CacheEntry, (name, self._prefix))
            if await session.first(self._items(name)) is None:
                return False
            if entry is None:
                head = CacheEntry(key=name, key_prefix=self._prefix, kind="deleted", counter=0)
                session.add(head, returning=False)
            elif entry.kind == "deleted":
                entry.counter = (entry.counter or 0) + 1
            elif not begun and (live or not _live(entry, moment)):
                entry.kind, entry.counter = "deleted", 0
            else:
                return False
            session.delete_range(self._items(name).limit(MAX_DELETED_BY_RANGE))
            return True

        while await session.transact(step):
            begun = True


# -- time ----------------------------------------------------------------------------------------------------------


def _milliseconds() -> float:
    return float(math.floor(time.time() * 1000))


def _expiry(moment: float, ttl_ms: float) -> float | None:
    return moment + ttl_ms if ttl_ms > 0 else None


def _later(one: float | None, other: float | None) -> float | None:
    """The later of two ends of a life; None is none. What prolongs a life never shortens it, whatever the clocks are."""
    return None if one is None or other is None else max(one, other)


def _live(entry: CacheEntry, moment: float) -> bool:
    return entry.kind != "deleted" and (entry.expires_at is None or entry.expires_at > moment)


def _lifetime(operation: str, value: object) -> float:
    return float(check_amount(operation, "ttl_ms", value))


# -- rows ----------------------------------------------------------------------------------------------------------


def _index_of(item: CacheListItem) -> int | None:
    """The index that `list_push_indexed` gave an element."""
    index = item.value.get("index") if isinstance(item.value, dict) else None
    return index if is_whole(index) else None


def _between(items: Query[CacheListItem], from_: int, to: int) -> Query[CacheListItem]:
    """At least the elements of a range of positions, whatever the length: negative ones are passed over from the end."""
    if to >= 0:
        items = items.where(CacheListItem.index <= to)
    if from_ >= 0:
        items = items.where(CacheListItem.index >= from_)
    if to < 0:
        items = items.order("desc").offset(-to - 1)
    if from_ < 0:
        items = items.order("desc").limit(max(to - from_ + 1, 0) if to < 0 else -from_)
    return items


# -- the two faces -------------------------------------------------------------------------------------------------


class _Told:
    """What a cache was told, checked."""

    def __init__(self, options: CacheOptions) -> None:
        self.key_prefix = options.pop("key_prefix", DEFAULT_KEY_PREFIX)
        check_text("CACHE", "key_prefix", self.key_prefix)
        self.ttl_ms = _lifetime("CACHE", options.pop("ttl_ms", DEFAULT_TTL_MS))
        self.connection = Connection(options, others=CacheOptions.__annotations__)


class AsyncConvexServerCache(AsyncConnected, AsyncCaching):
    """Mastra's server cache on Convex, awaited. Takes what `ConvexServerCache` takes."""

    id = "cache"

    def __init__(self, **options: Unpack[CacheOptions]) -> None:
        told = _Told(options)
        self._connection = told.connection
        super().__init__(told.connection.asynchronous, told.key_prefix, told.ttl_ms)


class ConvexServerCache(Connected):
    """Mastra's server cache on Convex, blocking.

    Give it a `deployment`, or a `deployment_url` (any URL `convexorm.connect` takes) with the `admin_auth_token`; with
    neither it connects to `CONVEX_URL`. A deployment the cache has opened itself is closed with it.
    """

    id = "cache"

    def __init__(self, **options: Unpack[CacheOptions]) -> None:
        told = _Told(options)
        self._connection = told.connection
        self._core = AsyncCaching(told.connection.blocking, told.key_prefix, told.ttl_ms)

    get = blocking(AsyncCaching.get)
    set = blocking(AsyncCaching.set)
    delete = blocking(AsyncCaching.delete)
    clear = blocking(AsyncCaching.clear)
    increment = blocking(AsyncCaching.increment)
    list_length = blocking(AsyncCaching.list_length)
    list_push = blocking(AsyncCaching.list_push)
    list_push_indexed = blocking(AsyncCaching.list_push_indexed)
    list_from_to = blocking(AsyncCaching.list_from_to)
