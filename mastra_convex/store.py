"""`ConvexStore` and `AsyncConvexStore`: the facade over the storage domains."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypeAlias, Unpack, get_args, overload

from attrs import evolve

from convexorm import AsyncSession, Deployment
from convexorm.errors import InvalidRequestError
from convexorm.faces import blocking
from convexorm.files import AsyncFiles
from mastra_convex.background_tasks import AsyncBackgroundTasks, BackgroundTasks
from mastra_convex.channels import AsyncChannels, Channels
from mastra_convex.connection import AsyncConnected, Connected, Connection, ConnectionOptions, check_name, check_store_id
from mastra_convex.documents import AsyncDocuments, Documents
from mastra_convex.domain import Backend, asynchronous_files, blocking_files
from mastra_convex.errors import UnknownStore, named
from mastra_convex.foreign import DEFAULT_STORAGE_FUNCTION
from mastra_convex.large_values import sweep
from mastra_convex.large_values.references import COLUMNS
from mastra_convex.memory import AsyncMemory, Memory
from mastra_convex.schedules import AsyncSchedules, Schedules
from mastra_convex.scores import AsyncScores, Scores
from mastra_convex.workflows import AsyncWorkflows, Workflows

__all__ = ["AsyncConvexStore", "ConvexStore", "StoreOptions"]


_DOMAINS = ("memory", "workflows", "scores", "background_tasks", "schedules", "channels", "documents")
"""The domains of a store: its attributes, and the contract's names in snake_case."""


Owners: TypeAlias = Literal["contract", "strict"]
"""Whether the id of another resource's thread or message may be saved under, as the contract has it, or is refused."""


LargeValues: TypeAlias = Literal["refuse", "files"]
"""What becomes of a value that no document (1 MiB) can hold: LimitExceeded, or a file."""


class StoreOptions(ConnectionOptions, total=False):
    """Where a store's data lives, how it is called, and whether it keeps owners apart.

    `storage_function` is the npm package's handler. With `owners="strict"` a thread or a message is not saved under an id
    of another resource, nor a message into another resource's thread; "contract" is the default. With
    `large_values="files"` messages, snapshots and the payloads of background tasks may be of any size; "refuse" is the
    default.
    """

    storage_function: str
    name: str
    owners: Owners
    large_values: LargeValues


class _Store:
    """What both faces hold: what they were told, and the domains by name."""

    _connection: Connection

    def __init__(self, *, id: str, **options: Unpack[StoreOptions]) -> None:
        self.id = check_store_id(id)
        self.name = check_name("a store's name", options.pop("name", "ConvexStore"))
        function = options.pop("storage_function", DEFAULT_STORAGE_FUNCTION)
        self.storage_function = check_name("storage_function", function)
        self.owners: Owners = options.pop("owners", "contract")
        if self.owners not in get_args(Owners):
            raise InvalidRequestError(f"owners is one of {', '.join(map(repr, get_args(Owners)))}")
        self.large_values: LargeValues = options.pop("large_values", "refuse")
        if self.large_values not in get_args(LargeValues):
            raise InvalidRequestError(f"large_values is one of {', '.join(map(repr, get_args(LargeValues)))}")
        self._connection = Connection(options, self.storage_function, ("id", *StoreOptions.__annotations__))

    @property
    def stores(self) -> Mapping[str, Any]:
        """The domains by the contract's names."""
        return {name: getattr(self, name) for name in _DOMAINS}

    def _told(self, backend: Backend, files: Callable[[Deployment], Callable[[], AsyncFiles]]) -> Backend:
        """The backend as the store was told to have it."""
        kept = files(backend.deployment) if self.large_values == "files" else None
        return evolve(backend, strict=self.owners == "strict", files=kept)

    def _domain(self, name: str) -> Any:
        try:
            return self.stores[_snake(str(name))]
        except KeyError:
            known = ", ".join(self.stores)
            raise UnknownStore(f"no domain {named(name)}; there are {known}", operation="GET_STORE") from None


def _snake(name: str) -> str:
    """A domain's name in Python, where the contract's was given: backgroundTasks is background_tasks."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0].lower()}", name)


_SWEPT_FROM = timedelta(days=1)
"""How long ago a file has to be stored to be swept: longer than anybody is between storing it and its commit."""


class _Sweeping:
    """Removing what kills have left, over one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def sweep_files(self, *, older_than: timedelta = _SWEPT_FROM) -> int:
        """Delete the files of large values that no document names, stored longer ago than that; answers how many.

        A kill between a file and its commit leaves such files, and so do other clients that delete documents. It looks at
        all files of the deployment; those that are no values of this store's tables stay. While others write, `older_than`
        is to be longer than they take from storing a file to the end of its commit. Raises InvalidRequestError for a store
        without `large_values="files"`.
        """
        if self._backend.files is None:
            raise InvalidRequestError('a store has files of large values with large_values="files"')
        if not isinstance(older_than, timedelta) or older_than < timedelta():
            raise InvalidRequestError("older_than is a timedelta, not below 0")
        backend = self._backend
        session = AsyncSession(backend.deployment, _port=backend.port)
        own = {backend.tables.get(name, name): name for name in COLUMNS}
        return await sweep(session, backend.port, self._backend.files(), own, older_than)


class ConvexStore(Connected, _Store):
    """Mastra's storage on Convex, blocking.

    Give it a `deployment`, or a `deployment_url` (any URL `convexorm.connect` takes) with the `admin_auth_token`; with
    neither it connects to `CONVEX_URL`. `tables` gives tables other names. `storage_function` is the npm package's handler.
    `owners="strict"` refuses ids of another resource: take it wherever clients choose ids.
    A deployment the store has opened itself is closed with it.
    """

    def __init__(self, *, id: str, **options: Unpack[StoreOptions]) -> None:
        super().__init__(id=id, **options)
        backend = self._backend = self._told(self._connection.blocking, blocking_files)
        self.memory = Memory(backend)
        self.workflows = Workflows(backend)
        self.scores = Scores(backend)
        self.background_tasks = BackgroundTasks(backend)
        self.schedules = Schedules(backend)
        self.channels = Channels(backend)
        self.documents = Documents(backend)

    @overload
    def get_store(self, name: Literal["memory"]) -> Memory: ...
    @overload
    def get_store(self, name: Literal["workflows"]) -> Workflows: ...
    @overload
    def get_store(self, name: Literal["scores"]) -> Scores: ...
    @overload
    def get_store(self, name: Literal["background_tasks", "backgroundTasks"]) -> BackgroundTasks: ...
    @overload
    def get_store(self, name: Literal["schedules"]) -> Schedules: ...
    @overload
    def get_store(self, name: Literal["channels"]) -> Channels: ...
    @overload
    def get_store(self, name: Literal["documents"]) -> Documents: ...
    @overload
    def get_store(self, name: str) -> Any: ...
    def get_store(self, name: str) -> Any:
        """A domain by the contract's name, such as "memory". Raises UnknownStore."""
        return self._domain(name)

    sweep_files = blocking(_Sweeping.sweep_files)

    @property
    def _core(self) -> _Sweeping:
        return _Sweeping(self._backend)

    def init(self) -> None:
        """Nothing: tables come with the deployment's schema. Here because the contract has it."""


class AsyncConvexStore(AsyncConnected, _Store):
    """Mastra's storage on Convex, awaited. Takes what `ConvexStore` takes."""

    def __init__(self, *, id: str, **options: Unpack[StoreOptions]) -> None:
        super().__init__(id=id, **options)
        backend = self._backend = self._told(self._connection.asynchronous, asynchronous_files)
        self.memory = AsyncMemory(backend)
        self.workflows = AsyncWorkflows(backend)
        self.scores = AsyncScores(backend)
        self.background_tasks = AsyncBackgroundTasks(backend)
        self.schedules = AsyncSchedules(backend)
        self.channels = AsyncChannels(backend)
        self.documents = AsyncDocuments(backend)

    @overload
    async def get_store(self, name: Literal["memory"]) -> AsyncMemory: ...
    @overload
    async def get_store(self, name: Literal["workflows"]) -> AsyncWorkflows: ...
    @overload
    async def get_store(self, name: Literal["scores"]) -> AsyncScores: ...
    @overload
    async def get_store(self, name: Literal["background_tasks", "backgroundTasks"]) -> AsyncBackgroundTasks: ...
    @overload
    async def get_store(self, name: Literal["schedules"]) -> AsyncSchedules: ...
    @overload
    async def get_store(self, name: Literal["channels"]) -> AsyncChannels: ...
    @overload
    async def get_store(self, name: Literal["documents"]) -> AsyncDocuments: ...
    @overload
    async def get_store(self, name: str) -> Any: ...
    async def get_store(self, name: str) -> Any:
        """A domain by the contract's name, such as "memory". Raises UnknownStore."""
        return self._domain(name)

    async def sweep_files(self, *, older_than: timedelta = _SWEPT_FROM) -> int:
        return await _Sweeping(self._backend).sweep_files(older_than=older_than)

    sweep_files.__doc__ = _Sweeping.sweep_files.__doc__

    async def init(self) -> None:
        """Nothing: tables come with the deployment's schema. Here because the contract has it."""
