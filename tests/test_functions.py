"""A team's own functions, called from Python: on the local host, on servers that misbehave, and as fakes."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, cast
from uuid import uuid4

import attrs
import pytest
from convex import ConvexError, ConvexInt64

from convexorm import (
    AsyncFunctions,
    AsyncSession,
    AuthError,
    Deployment,
    DeploymentError,
    FunctionFailed,
    FunctionNotFound,
    Functions,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    Session,
    ValidationError,
    connect,
    field,
)
from tests.conftest import ROOT, Host, serve_host
from tests.servers import Answer, refusal, serve, success


@attrs.define
class Text:
    kind: Literal["text"]
    text: str


@attrs.define
class File:
    kind: Literal["file"]
    file: str
    size: float


class Message(Model, table="messages"):
    channel: Mapped[str]
    author: Mapped[str]
    body: Mapped[Text | File]
    text: Mapped[str]
    reactions: Mapped[dict[str, float] | None] = field(default=None)
    by_channel = Index("channel")


class Channel(Model, table="channels"):
    name: Mapped[str]
    topic: Mapped[str | None] = field(default=None, none="null")
    members: Mapped[list[str]]


class User(Model, table="users"):
    email: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    by_email = Index("email")


@attrs.define
class Opened:
    channel: str
    members: list[str]


@attrs.define
class Shown:
    channel: Channel
    members: list[User | None]


@pytest.fixture(scope="module")
def app() -> Iterator[Host]:
    yield from serve_host(ROOT / "examples" / "app" / "convex")


@pytest.fixture(params=["async", "blocking"])
def face(request: pytest.FixtureRequest) -> str:
    return cast("str", request.param)


class _Awaited:
    """`Functions` whose calls answer awaitables that are done."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._functions, name)

        async def run(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return run


def open_functions(face: str, deployment: Deployment, **options: Any) -> AsyncFunctions:
    if face == "async":
        return AsyncFunctions(deployment, **options)
    return cast("AsyncFunctions", _Awaited(Functions(deployment, **options)))


def opened(functions: Functions, *names: str) -> Opened:
    members = [{"email": f"{name}@{uuid4()}", "name": name} for name in names]
    return functions.mutation("channels:open", {"name": "general", "members": members}, returns=Opened)


async def test_functions_of_an_app_are_called_with_typed_results(app: Host, face: str) -> None:
    with app.connect() as deployment:
        functions = open_functions(face, deployment)
        members = [{"email": f"ada@{uuid4()}", "name": "Ada"}, {"email": f"bob@{uuid4()}", "name": "Bob"}]
        room = await functions.mutation("channels:open", {"name": "general", "members": members}, returns=Opened)
        ada, bob = room.members
        first = await functions.mutation(
            "messages:send", {"channel": room.channel, "author": ada, "text": "hello"}, returns=str
        )
        await functions.mutation("messages:send", {"channel": room.channel, "author": bob, "text": "hi"})
        said = await functions.query("messages:list", {"channel": room.channel}, returns=list[Message])
        assert [(one.text, one.author, one.body) for one in said] == [
            ("hi", bob, Text("text", "hi")),
            ("hello", ada, Text("text", "hello")),
        ]
        assert said[1].convex_id == first
        assert said[0]._state.name == "detached"
        assert await functions.query("messages:list", {"channel": room.channel, "limit": 1}, returns=list[Message]) != []
        shown = await functions.query("channels:show", {"channel": room.channel}, returns=Shown | None)
        assert [one.name for one in shown.members if one is not None] == ["Ada", "Bob"]
        assert (shown.channel.name, shown.channel.topic, shown.channel.members) == ("general", None, [ada, bob])
        assert (
            await functions.action("messages:announce", {"channels": [room.channel] * 2, "author": ada, "text": "!"}) == 2
        )
        assert await functions.mutation("messages:purge", {"channel": room.channel, "author": ada}) == 3  # internal
        (left,) = await functions.query("messages:list", {"channel": room.channel})
        assert left["body"] == {"kind": "text", "text": "hi"}


def test_results_become_instances_of_a_session_that_is_named(app: Host) -> None:
    with app.connect() as deployment, Session(deployment) as session:
        functions = Functions(deployment)
        room = opened(functions, "ada")
        functions.mutation("messages:send", {"channel": room.channel, "author": room.members[0], "text": "hello"})
        ask = {"channel": room.channel}
        (message,) = functions.query("messages:list", ask, returns=list[Message], session=session)
        assert message in session
        (again,) = functions.query("messages:list", ask, returns=list[Message], session=session)
        assert again is message
        assert session.get(Message, message.convex_id) is message
        message.text = "other"
        functions.query("messages:list", ask, returns=list[Message], session=session)
        assert message.text == "other"
        assert session.dirty == [message]


async def test_what_a_function_throws_arrives_with_its_data(app: Host, face: str) -> None:
    with app.connect() as deployment:
        functions = open_functions(face, deployment)
        room = opened(Functions(deployment), "ada")
        stranger = opened(Functions(deployment), "eve").members[0]
        with pytest.raises(FunctionFailed) as failed:
            await functions.mutation("messages:send", {"channel": room.channel, "author": stranger, "text": "secret words"})
        assert failed.value.data == {"code": "NotAMember", "channel": "general"}
        assert failed.value.function == "messages:send"
        assert "general" not in str(failed.value)
        assert pickle.loads(pickle.dumps(failed.value)).data == failed.value.data
        assert copy.copy(failed.value).data == failed.value.data
        with pytest.raises(FunctionFailed) as invalid:
            await functions.query("messages:list", {"channel": 5})
        assert invalid.value.data is None
        with pytest.raises(FunctionFailed, match="messages:nowhere failed"):  # production tells no more
            await functions.query("messages:nowhere")


def test_a_users_token_is_sent_instead_of_the_key() -> None:
    with serve(lambda call: success(None)) as server, connect(server.url, "key|secret") as deployment:
        Functions(deployment, token="a.b.c").query("x:y")
        Functions(deployment).query("x:y")
        Functions(deployment, component="billing").query("x:y", {"n": ConvexInt64(5)})
    (user, _, _), (admin, _, _) = ((headers["authorization"], path, body) for path, headers, body in server.calls[:2])
    assert (user, admin) == ("Bearer a.b.c", "Convex key|secret")
    path, headers, body = server.calls[2]
    assert (path, headers["authorization"]) == ("/api/function", "Convex key|secret")
    assert json.loads(body) == {
        "path": "x:y",
        "args": {"n": {"$integer": "BQAAAAAAAAA="}},
        "format": "convex_encoded_json",
        "componentPath": "billing",
    }


@pytest.mark.parametrize(("kind", "sent"), [("query", 4), ("mutation", 1), ("action", 1)])
async def test_only_a_query_is_sent_again_after_it_may_have_run(kind: str, sent: int, face: str) -> None:
    with (
        serve(lambda call: None) as server,
        connect(server.url, "key") as deployment,
        pytest.raises(DeploymentError) as failed,
    ):
        await getattr(open_functions(face, deployment), kind)("x:y")
    assert len(server.calls) == sent
    assert ("it may have run" in str(failed.value)) == (sent == 1)


@pytest.mark.parametrize("kind", ["query", "mutation", "action"])
def test_what_never_left_is_sent_again(kind: str) -> None:
    with serve(lambda call: success(1)) as server, connect(server.url, "key") as deployment:
        functions = Functions(deployment)
        assert getattr(functions, kind)("x:y") == 1
    with connect(server.url, "key", retry=3) as deployment, pytest.raises(DeploymentError, match="after 3 attempts"):
        getattr(Functions(deployment), kind)("x:y")  # nobody listens any more


@pytest.mark.parametrize("code", ["Invalid", "Stale", "Version", "Limit", "UnknownTable"])
def test_a_teams_own_codes_are_not_taken_for_ours(code: str) -> None:
    with (
        serve(lambda call: refusal("[Request ID: 1] Server Error", code=code, table="t")) as server,
        connect(server.url, "key") as deployment,
        pytest.raises(FunctionFailed) as failed,
    ):
        Functions(deployment).mutation("x:y")
    assert failed.value.data == {"code": code, "table": "t"}


def test_a_text_that_looks_like_another_failure_is_what_the_function_threw() -> None:
    text = "[Request ID: 1] Server Error\nUncaught Error: Could not find function words; limit: too large"
    with (
        serve(lambda call: refusal(text)) as server,
        connect(server.url, "key") as deployment,
        pytest.raises(FunctionFailed) as failed,
    ):
        Functions(deployment).mutation("x:y")
    assert failed.value.text == text
    with (
        serve(lambda call: Answer(b"{}", 401)) as server,
        connect(server.url, "key") as deployment,
        pytest.raises(AuthError, match="refused the admin key"),
    ):
        Functions(deployment).mutation("x:y")


def test_a_function_that_is_not_there_is_said_to_be_missing_where_convex_says_so() -> None:
    text = "[Request ID: 1] Server Error\nCould not find public function for 'x:y'. Did you forget to run `npx convex dev`?"
    with (
        serve(lambda call: refusal(text)) as server,
        connect(server.url, "key") as deployment,
        pytest.raises(FunctionNotFound, match="no function 'x:y'") as missing,
    ):
        Functions(deployment).query("x:y")
    assert missing.value.function == "x:y"


# -- fakes ---------------------------------------------------------------------------------------------------------

DOCUMENT = {
    "_id": "j57ayeq2fc0mkvdpwk3k0e4x7h7k0mnp",
    "_creationTime": 1700000000000.5,
    "channel": "c",
    "author": "a",
    "text": "hello",
    "body": {"kind": "text", "text": "hello"},
}


async def test_fakes_stand_for_functions_on_an_embedded_deployment(face: str) -> None:
    asked: list[Any] = []

    def listed(channel: str, limit: int = 50) -> list[Any]:
        asked.append((channel, limit))
        return [DOCUMENT]

    async def send(**arguments: Any) -> str:
        await asyncio.sleep(0)
        return f"sent {sorted(arguments)}"

    async def refuse() -> None:
        raise ConvexError("no", {"code": "No"})

    def broken() -> None:
        raise ZeroDivisionError

    fakes: dict[str, Callable[..., Any]] = {
        "messages:list": listed,
        "messages:send": send,
        "a:refuse": refuse,
        "a:broken": broken,
        "a:bad": lambda: {"x": [1, 2j]},
    }
    with connect("memory:", functions=fakes) as deployment:
        functions = open_functions(face, deployment)
        (message,) = await functions.query("messages:list", {"channel": "c"}, returns=list[Message])
        assert (message.text, message.body, message._state.name) == ("hello", Text("text", "hello"), "detached")
        assert asked == [("c", 50)]
        assert await functions.mutation("messages:send", {"b": 1, "a": 2}) == "sent ['a', 'b']"
        with pytest.raises(FunctionFailed) as failed:
            await functions.action("a:refuse")
        assert failed.value.data == {"code": "No"}
        with pytest.raises(ZeroDivisionError):
            await functions.action("a:broken")
        with pytest.raises(ValidationError, match=r"the fake for 'a:bad'\[\"x\"\]\[1\]: "):
            await functions.query("a:bad")
        with pytest.raises(FunctionNotFound, match="has no fake for 'a:b'") as missing:
            await functions.query("a:b")
        assert missing.value.function == "a:b"
        with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
            await functions.query("messages:list", {"channel": "c", "c": 1})


async def test_the_blocking_face_waits_for_a_fake_within_a_running_loop() -> None:
    async def slow() -> int:
        await asyncio.sleep(0)
        return 3

    with connect("memory:", functions={"a:b": slow}) as deployment:
        assert Functions(deployment).query("a:b", returns=int) == 3


def test_arguments_and_results_are_the_callers_own() -> None:
    kept: list[Any] = []

    def keep(value: list[int]) -> list[Any]:
        value.append(2)
        kept.append(value)
        return kept

    given = [1]
    with connect("memory:", functions={"a:b": keep}) as deployment:
        answer = Functions(deployment).query("a:b", {"value": given})
    assert given == [1]
    assert answer == [[1, 2]]
    assert answer is not kept
    assert answer[0] is not kept[0]


@pytest.mark.parametrize(
    ("returns", "answer", "place"),
    [
        (int, "x", r"what a:b answers: expected int, got str"),
        (list[str], ["x", 1], r"what a:b answers\[1\]: expected str, got int"),
        (dict[str, Opened], {"k": {"channel": 1, "members": []}}, r"what a:b answers\[\"k\"\].channel: expected str"),
        (list[Message], [5], r"what a:b answers\[0\]: expected a document of Message, got int"),
        (Message, {"_id": 5}, r"what a:b answers: expected a document of Message, with _id and _creationTime"),
        (Message, None, r"what a:b answers: expected a document of Message, got NoneType"),
        (type(None), 1, r"what a:b answers: expected None"),
    ],
)
def test_a_result_that_is_not_what_was_said_names_the_place(returns: Any, answer: Any, place: str) -> None:
    with connect("memory:", functions={"a:b": lambda: answer}) as deployment, pytest.raises(ValidationError, match=place):
        Functions(deployment).query("a:b", returns=returns)


def test_what_has_no_id_becomes_a_new_instance() -> None:
    values = {name: value for name, value in DOCUMENT.items() if name[0] != "_"}
    with connect("memory:", functions={"a:b": lambda: values}) as deployment:
        message = Functions(deployment).query("a:b", returns=Message)
        assert (message._state.name, message.text, message.reactions) == ("transient", "hello", None)


@pytest.mark.parametrize("path", ["", ":list", "messages:", 5, None, "mess\nages:list", "zürich:x"])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with connect("memory:") as deployment, pytest.raises(InvalidRequestError, match="a function is named by its path"):
        Functions(deployment).query(path)


def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    with serve(lambda call: success(None)) as server, connect(server.url, "key") as deployment:
        functions = Functions(deployment)
        with pytest.raises(ValidationError, match=r'the arguments of x:y\["a"\]\[0\]: '):
            functions.mutation("x:y", {"a": [object()]})
        with pytest.raises(InvalidRequestError, match="arguments are values by name, got list"):
            functions.mutation("x:y", [1])  # type: ignore[call-overload]
        with pytest.raises(ValidationError, match="no Convex type for complex"):
            functions.mutation("x:y", returns=complex)
        with pytest.raises(InvalidRequestError, match="session is a Session, got str"):
            functions.mutation("x:y", session="s")  # type: ignore[call-overload]
        for wrong in ("", "a b", "a\n", "ü"):
            with pytest.raises(InvalidRequestError, match="token is a string") as refused:
                Functions(deployment, token=wrong)
            assert wrong == "" or wrong not in str(refused.value)
        with pytest.raises(InvalidRequestError, match="component is a string, got int"):
            Functions(deployment, component=5)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="a deployment is needed"):
            Functions(server.url)  # type: ignore[arg-type]
    assert server.calls == []
    with pytest.raises(InvalidRequestError, match="functions are Python functions by path, got list"):
        connect("memory:", functions=[])  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match=r"functions\['a:b'\]: a Python function is needed, got int"):
        connect("memory:", functions={"a:b": 5})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequestError, match="runs its own functions"):
        connect("https://x.convex.cloud", "key", functions={"a:b": print})


def test_a_token_is_not_shown() -> None:
    from convexorm.deployments.base import FunctionCall

    assert "secret" not in repr(FunctionCall("query", "a:b", {"x": "secret"}, token="secret"))


# -- attach --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["async", "blocking"])
async def test_a_detached_instance_is_attached_with_its_changes(face: str) -> None:
    from tests.models import Note

    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all([Note(id="a", title="one"), Note(id="b", title="two")])
            session.commit()
            a, b = session.all(Note.query().full_scan())
            assert (a.title, b.title) == ("one", "two")
        a.title = "changed"
        if face == "async":
            async with AsyncSession(deployment) as other:
                assert other.attach(a) is a
                held = await other.get(Note, "b")
                assert held is not b
                assert other.attach(b) is held
                assert await other.get(Note, "a") is a
                await other.commit()
        else:
            with Session(deployment) as plain:
                assert plain.attach(a) is a
                assert plain.get(Note, "a") is a
                plain.commit()
        with Session(deployment) as session:
            note = session.get_one(Note, "a")
            assert note.title == "changed"
            with pytest.raises(InvalidRequestError, match="is transient; only a detached"):
                session.attach(Note(id="c"))
            with Session(deployment) as foreign, pytest.raises(InvalidRequestError, match="is persistent; only a detached"):
                foreign.attach(note)
            session.delete(note)
            session.commit()
            with pytest.raises(InvalidRequestError, match="is deleted; only a detached"):
                session.attach(note)
