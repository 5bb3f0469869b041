"""`AsyncFunctions` and `Functions`: a team's own queries, mutations and actions, with typed results.

Arguments are plain values. A result is checked against `returns` as a column is against its annotation; models in it become
instances, detached or of the session that a call names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from convexorm.calling import Arguments, check_path, dumped_arguments
from convexorm.deployments.base import Caller, Deployment, FunctionCall, FunctionKind, check_deployment
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.faces import blocking, blocking_stream, named
from convexorm.mapping.mapper import mapper_of
from convexorm.mapping.model import InstanceState, Model, set_state
from convexorm.schema import AnyValue
from convexorm.sessions import AsyncSession, Session
from convexorm.types import ColumnType, result_type
from convexorm.values import MISSING, Value

if TYPE_CHECKING:
    from convexorm.live.watch import Watch

__all__ = ["Answer", "AsyncFunctions", "Functions"]

T = TypeVar("T")
AnySession: TypeAlias = AsyncSession | Session | None


class AsyncFunctions:
    """The functions of a Convex project, awaited. `Functions` is the same, blocking.

    They are called with the deployment's admin key, internal ones too; with `token`, a JWT, as the user whose it is.
    `component` is the name of a component whose functions are called. On an embedded deployment the Python functions given
    to `connect(functions=...)` stand for them.

    Raises InvalidRequestError for what is no deployment, and for a deployment without functions of a project.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        token: str | None = None,
        component: str | None = None,
        _caller: Caller | None = None,
    ) -> None:
        _check_printable("token", token)
        _check_printable("component", component)
        self._caller = _caller or check_deployment(deployment).asynchronous_caller
        self._deployment = deployment
        self._token = token
        self._component = component

    @overload
    async def query(self, path: str, arguments: Arguments = None, *, returns: type[T], session: AnySession = None) -> T: ...
    @overload
    async def query(
        self, path: str, arguments: Arguments = None, *, returns: Any = Any, session: AnySession = None
    ) -> Any: ...
    async def query(self, path: str, arguments: Arguments = None, *, returns: Any = Any, session: AnySession = None) -> Any:
        """What a query answers: `query("messages:list", {"channel": "general"}, returns=list[Message])`.

        Without `returns` plain values. It is asked again after a failure that may pass. Raises FunctionFailed for what it
        throws, whose `data` is that of a ConvexError; FunctionNotFound; ValidationError for arguments that Convex cannot
        hold and for a result that is not what `returns` says.
        """
        return await self._call("query", path, arguments, returns, session)

    @overload
    async def mutation(
        self, path: str, arguments: Arguments = None, *, returns: type[T], session: AnySession = None
    ) -> T: ...
    @overload
    async def mutation(
        self, path: str, arguments: Arguments = None, *, returns: Any = Any, session: AnySession = None
    ) -> Any: ...
    async def mutation(
        self, path: str, arguments: Arguments = None, *, returns: Any = Any, session: AnySession = None
    ) -> Any:
        """What a mutation answers, as `query` has it. It is sent again only if it never left: after a DeploymentError that
        says so it may have run.
        """
        return await self._call("mutation", path, arguments, returns, session)

    @overload
    async def action(
        self, path: str, arguments: Arguments = None, *, returns: type[T], session: AnySession = None
    ) -> T: ...
    @overload
    async def action(
        self, path: str, arguments: Arguments = None, *, returns: Any = Any, session: AnySession = None
    ) -> Any: ...
    async def action(
        self, path: str, arguments: Arguments = None, *, returns: Any = Any, session: AnySession = None
    ) -> Any:
        """What an action answers, as `query` has it. It is sent again only if it never left, as a mutation is."""
        return await self._call("action", path, arguments, returns, session)

    @overload
    def paginate(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: type[T],
        page_size: int = 100,
        session: AnySession = None,
    ) -> AsyncIterator[T]: ...
    @overload
    def paginate(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        page_size: int = 100,
        session: AnySession = None,
    ) -> AsyncIterator[Any]: ...
    async def paginate(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        page_size: int = 100,
        session: AnySession = None,
    ) -> AsyncIterator[Any]:
        """The items of a query that answers pages, one after the other, asked for by its argument `paginationOpts`.

        `returns` says what an item is. Each page of about `page_size` items is a call and a snapshot of its own. Raises
        what `query` does, and ValidationError for an answer that is no page.
        """
        if isinstance(page_size, bool) or not isinstance(page_size, int) or page_size < 1:
            raise InvalidRequestError("page_size is a whole number from 1 on")
        meaning, cursor = Answer(path, _codec(returns, session)), None
        while True:
            options = {"numItems": float(page_size), "cursor": cursor}
            answer = await self.query(path, {**(arguments or {}), "paginationOpts": options})
            if not isinstance(answer, dict) or not isinstance(answer.get("page"), list):
                raise ValidationError(f"what {path} answers is no page: it has no list called page")
            for item in answer["page"]:
                yield meaning.load(item)
            if answer.get("isDone") is not False:
                return
            if answer.get("continueCursor") in (None, cursor):
                raise ValidationError(f"what {path} answers is no page: there is more, and its cursor does not move")
            cursor = answer["continueCursor"]

    async def _call(self, kind: FunctionKind, path: str, arguments: Arguments, returns: Any, session: AnySession) -> Any:
        call = self._call_of(kind, path, arguments)
        meaning = Answer(path, _codec(returns, session))
        return meaning.load(await self._caller.call(call))

    def _call_of(self, kind: FunctionKind, path: str, arguments: Arguments) -> FunctionCall:
        check_path(path)
        return FunctionCall(kind, path, dumped_arguments(path, arguments), self._token, self._component)

    @overload
    def watch(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: type[T],
        on_state: Callable[[bool], object] | None = None,
    ) -> Watch[T]: ...
    @overload
    def watch(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        on_state: Callable[[bool], object] | None = None,
    ) -> Watch[Any]: ...
    def watch(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        on_state: Callable[[bool], object] | None = None,
    ) -> Any:
        """What a query answers, again whenever that changes: something to enter, as `Deployment.watch` has it.

        It is for deployments on Convex. Instances are detached. Raises what `query` does; what the function throws ends
        the watch with FunctionFailed.
        """
        from convexorm.live.states import FunctionStates  # which imports this module
        from convexorm.live.watch import Watch

        call, meaning = self._call_of("query", path, arguments), Answer(path, _codec(returns, None))
        return Watch(FunctionStates(meaning), lambda mailbox: self._deployment.subscribe(call, mailbox), on_state)


class Answer:
    """What a function of this path answers, and what it means."""

    def __init__(self, path: str, codec: ColumnType[Any]) -> None:
        self._path = path
        self._codec = codec

    def load(self, answer: Value) -> Any:
        """The meaning of an answer. Raises ValidationError for one that is not what was said of it."""
        try:
            return self._codec.load(answer)
        except ValidationError as error:
            place = f"what {self._path} answers{error.path}"
            raise ValidationError(f"{place}: {error.problem}") from None


named(AsyncFunctions, "Functions")


_paginate = blocking_stream(AsyncFunctions.paginate)


class Functions:
    """The functions of a Convex project, called without awaiting. `AsyncFunctions` is the same, awaited.

    They are called with the deployment's admin key, internal ones too; with `token`, a JWT, as the user whose it is.
    `component` is the name of a component whose functions are called. On an embedded deployment the Python functions given
    to `connect(functions=...)` stand for them.
    """

    def __init__(self, deployment: Deployment, *, token: str | None = None, component: str | None = None) -> None:
        caller = check_deployment(deployment).blocking_caller
        self._core = AsyncFunctions(deployment, token=token, component=component, _caller=caller)

    query = blocking(AsyncFunctions.query)
    mutation = blocking(AsyncFunctions.mutation)
    action = blocking(AsyncFunctions.action)

    @overload
    def paginate(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: type[T],
        page_size: int = 100,
        session: AnySession = None,
    ) -> Iterator[T]: ...
    @overload
    def paginate(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        page_size: int = 100,
        session: AnySession = None,
    ) -> Iterator[Any]: ...
    def paginate(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        page_size: int = 100,
        session: AnySession = None,
    ) -> Iterator[Any]:
        return _paginate(self, path, arguments, returns=returns, page_size=page_size, session=session)

    paginate.__doc__ = AsyncFunctions.paginate.__doc__

    @overload
    def watch(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: type[T],
        on_state: Callable[[bool], object] | None = None,
    ) -> Watch[T]: ...
    @overload
    def watch(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        on_state: Callable[[bool], object] | None = None,
    ) -> Watch[Any]: ...
    def watch(
        self,
        path: str,
        arguments: Arguments = None,
        *,
        returns: Any = Any,
        on_state: Callable[[bool], object] | None = None,
    ) -> Any:
        return self._core.watch(path, arguments, returns=returns, on_state=on_state)

    watch.__doc__ = AsyncFunctions.watch.__doc__


# -- arguments and results -----------------------------------------------------------------------------------------


def _check_printable(name: str, given: object) -> None:
    """Raise InvalidRequestError for what cannot be a token or a name; it is not repeated."""
    if given is None:
        return
    if not isinstance(given, str):
        raise InvalidRequestError(f"{name} is a string, got {type(given).__name__}")
    if not given.isascii() or not given.isprintable() or " " in given or not given:
        raise InvalidRequestError(f"{name} is a string of printable ASCII without white space")


def _codec(returns: Any, session: AnySession) -> ColumnType[Any]:
    try:
        return _codec_of(returns, session)
    except NameError as error:
        raise ValidationError(f"returns speaks of a class that is not there: {error}") from None


def _codec_of(returns: Any, session: AnySession) -> ColumnType[Any]:
    if session is None:
        return _detached(returns) if _hashable(returns) else result_type(returns, _DocumentType)
    core = session._core if isinstance(session, Session) else session
    if not isinstance(core, AsyncSession):
        raise InvalidRequestError(f"session is a Session, got {type(session).__name__}")
    return result_type(returns, lambda model: _DocumentType(model, core))


def _hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


@lru_cache(maxsize=1_024)
def _detached(returns: Any) -> ColumnType[Any]:
    return result_type(returns, _DocumentType)


class _DocumentType(ColumnType[Model]):
    """Documents of a model, as functions answer them: they become detached instances, or those of a session."""

    validator = AnyValue()

    def __init__(self, model: type, session: AsyncSession | None = None) -> None:
        self._mapper = mapper_of(model)
        self._session = session

    @property
    def name(self) -> str:
        return self._mapper.model.__name__

    def load(self, value: Value) -> Model:
        if not isinstance(value, dict):
            raise ValidationError(f"expected a document of {self.name}, got {type(value).__name__}")
        model: type[Model] = self._mapper.class_of(value) if self._mapper.polymorphic else self._mapper.model
        if "_id" not in value:  # it looks like a document, and is none
            columns = model.__mapper__.columns
            return model(**{name: column.load(value.get(column.field, MISSING)) for name, column in columns.items()})
        if not isinstance(value["_id"], str) or not isinstance(value.get("_creationTime"), int | float):
            raise ValidationError(f"expected a document of {self.name}, with _id and _creationTime")
        instance = model.__mapper__.create(model)
        set_state(instance, InstanceState(value))
        return instance if self._session is None else self._session.attach(instance)
