"""Callers without the key, and requests of any shape: nobody reads or writes, and the host goes on serving."""

from __future__ import annotations

import json
import socket
from collections import Counter as Counts
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from convexorm import AuthError, Session, connect
from tests.conftest import Host
from tests.models import Note
from tests.storm.conftest import Storm

SECRET = "nobody-shall-read-this"
KINDS = ("query", "mutation", "action")
PATHS = ("orm:read", "orm:commit", "orm:search", "orm", "orm.js:read", "_system/cli/tables:get", "lib/store:handle", "")


def requests_of(chance: Random, key: str) -> tuple[str, str | None, dict[str, Any]]:
    """A call that would read or write, a key that is none, and where to."""
    write = {
        "op": chance.choice(["insert", "upsert"]),
        "table": "notes",
        "at": {"index": "by_note_id", "key": [["intruder"]]},
        "doc": {"id": "intruder", "title": "", "body": "", "tags": []},
    }
    version = chance.choice([1, 2])
    arguments: dict[str, Any] = chance.choice(
        [
            {"version": version, "reads": [{"table": "notes", "index": "by_creation_time"}]},
            {"version": version, "commitId": chance.randbytes(8).hex(), "writes": [[write]]},
            {"version": version, "commitId": chance.randbytes(8).hex(), "writes": [[{**write, "op": "insert"}]]},
            {"version": version, "commitId": chance.randbytes(8).hex(), "writes": [], "withdraw": True},
        ]
    )
    authorization = chance.choice(
        [
            *(None, "", "Convex", "Convex ", f"Convex {key[:-1]}", f"Convex {key}x", f"convex {key}", f"Bearer {key}", key),
            *(f"Basic {key}", f"Convex  {key}", f"Convex {key.upper()}", f"Convex {key[::-1]}", "Convex null", "Convex *"),
        ]
    )
    call = {"path": chance.choice(PATHS), "args": arguments, "format": chance.choice(["convex_encoded_json", "json"])}
    if chance.random() < 0.2:
        call["adminKey"] = call["key"] = key
    return f"/api/{chance.choice(KINDS)}", authorization, call


def raw(url: str, request: bytes) -> bytes:
    """What a host answers to some bytes; nothing where it closes the connection."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            try:
                part = connection.recv(1 << 16)
            except ConnectionError:
                return answer
            if not part:
                return answer
            answer += part


def posted(path: str, authorization: str | None, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    if authorization is not None:
        head += f"Authorization: {authorization}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def odd(chance: Random) -> bytes:
    """A request that no client would send."""
    targets = [
        "//",
        "///",
        "/",
        "*",
        "http://",
        "//x:y",
        "/%",
        "/%00",
        "/..",
        "http://[",
        "?",
        "//@",
        "/api/query/../..",
        "\\",
    ]
    method, target = chance.choice(["GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE", "PATCH"]), chance.choice(targets)
    body = chance.choice(
        [b"", b"{", b"null", b"[]", b'{"path":1}', b'{"path":"orm:read","args":' + b"[" * 10_000, chance.randbytes(50)]
    )
    return chance.choice(
        [
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body,
            f"{method} {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode(),
            posted("/api/query", None, body),
            posted("/api/query", chance.choice(["Convex é", "Convex \t", "x" * 5_000]), body),
            b"POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
            chance.randbytes(200),
        ]
    )


def test_callers_without_the_key(storm: Storm, models_host: Host) -> None:
    host = models_host  # of this module alone
    attempts = 150 * storm.scale
    answers: Counts[str] = Counts()
    with host.connect() as deployment, Session(deployment) as session:
        session.add(Note(id="mine", title=SECRET))
        session.commit()
        for number in range(attempts):
            if number % 2:
                path, authorization, call = requests_of(storm.chance, host.key)
                answer = raw(host.url, posted(path, authorization, json.dumps(call).encode()))
                assert b'"status":"success"' not in answer, (path, authorization, call)
            else:
                answer = raw(host.url, odd(storm.chance))
            assert SECRET.encode() not in answer
            assert host.key.encode() not in answer
            answers[answer[9:12].decode(errors="replace") or "none"] += 1
        for key in (host.key[:-1], host.key + "x", host.key.upper()):
            with connect(host.url, key) as other, Session(other) as refused:
                with pytest.raises(AuthError) as error:
                    refused.all(Note.query().full_scan())
                assert key not in str(error.value)
        assert [note.id for note in session.all(Note.query().full_scan())] == ["mine"]
    storm.report(attempts=attempts, answers=dict(answers))
