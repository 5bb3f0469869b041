"""The messages of the sync protocol. Values in them are left as they are, until somebody wants to know."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from convexorm.errors import DeploymentError

__all__ = ["Message", "Modification", "Version", "add", "authenticate", "connect", "message_in", "modify", "remove"]

_NOTHING = msgspec.Raw(b"null")


class Version(msgspec.Struct, frozen=True):
    """What a client has been told of: its queries, who it is, and up to which moment. `ts` is opaque."""

    query_set: int = msgspec.field(name="querySet", default=0)
    identity: int = 0
    ts: str = "AAAAAAAAAAA="


class Modification(msgspec.Struct):
    """What has become of a query."""

    type: Literal["QueryUpdated", "QueryFailed", "QueryRemoved"]
    query_id: int = msgspec.field(name="queryId")
    value: msgspec.Raw = _NOTHING
    error: str = msgspec.field(name="errorMessage", default="")
    data: msgspec.Raw = msgspec.field(name="errorData", default=msgspec.Raw(b""))
    journal: str | None = None

    def __repr__(self) -> str:
        return f"<Modification {self.type} of query {self.query_id}>"


class Message(msgspec.Struct):
    """Anything that a server says; what is of another type than is named here says nothing to a watch."""

    type: str
    start: Version = msgspec.field(name="startVersion", default=Version())
    end: Version = msgspec.field(name="endVersion", default=Version())
    modifications: Sequence[Modification] = ()
    error: str = ""

    def __repr__(self) -> str:
        return f"<Message {self.type}>"


_decode = msgspec.json.Decoder(Message).decode


def message_in(text: str | bytes) -> Message:
    """Raises DeploymentError for what is no message; it repeats nothing of it."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        pass
    raise DeploymentError("what came over the WebSocket is no message of the sync protocol")


def connect(session: str, count: int, why: str, seen: str | None) -> str:
    """The first message of a connection, the `count`-th of its session, after the last one was closed for a reason."""
    told = {"sessionId": session, "connectionCount": count, "lastCloseReason": why, "clientTs": int(time.time() * 1_000)}
    return json.dumps({"type": "Connect", **told, **({} if seen is None else {"maxObservedTimestamp": seen})})


def authenticate(kind: Literal["Admin", "User"], value: str) -> str:
    return json.dumps({"type": "Authenticate", "baseVersion": 0, "tokenType": kind, "value": value})


def add(query_id: int, path: str, arguments: str, journal: str | None, component: str | None) -> str:
    """A query to be kept answered; `arguments` are JSON already."""
    more = {} if journal is None else {"journal": journal}
    more |= {} if component is None else {"componentPath": component}
    head = json.dumps({"type": "Add", "queryId": query_id, "udfPath": path, **more})
    return f'{head[:-1]},"args":[{arguments}]}}'


def remove(query_id: int) -> str:
    return json.dumps({"type": "Remove", "queryId": query_id})


def modify(base: int, modifications: Iterable[str]) -> str:
    """What the queries are to be from now on."""
    head: dict[str, Any] = {"type": "ModifyQuerySet", "baseVersion": base, "newVersion": base + 1}
    return f'{json.dumps(head)[:-1]},"modifications":[{",".join(modifications)}]}}'
