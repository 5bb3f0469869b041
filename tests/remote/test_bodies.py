"""Bodies of answers: what is unzipped, what is none, and how much of it is taken."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from convexorm import DeploymentError, connect
from convexorm.deployments.remote import bodies, port
from convexorm.deployments.remote.bodies import Body, TooLarge, Unreadable
from convexorm.values import ConvexInt64, dumps, size_of
from tests.remote.calling import KEY, Say, say
from tests.servers import Answer, serve, success

TEXT = b'{"status": "success", "value": [1, 2, 3]}' * 50


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


ENCODED: dict[str, tuple[str, bytes]] = {
    "as it is": ("", TEXT),
    "identity": ("identity", TEXT),
    "gzip": ("gzip", gzip.compress(TEXT)),
    "x-gzip": ("X-GZip ", gzip.compress(TEXT)),
    "gzip in members": ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])),
    "gzip with padding": ("gzip", gzip.compress(TEXT) + bytes(1_000)),
    "gzip with what is none behind it": ("gzip", gzip.compress(TEXT) + b"garbage\x1f\x8b" * 3),
    "zlib": ("deflate", zlib.compress(TEXT)),
    "bare deflate": ("deflate", bare(TEXT)),
    "deflate with what is none behind it": ("deflate", zlib.compress(TEXT) + b"garbage"),
}


def read(encoding: str, data: bytes, step: int) -> bytes:
    body = Body(encoding)
    for start in range(0, len(data), step):
        body.add(data[start : start + step])
    return body.end()


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", ENCODED)
def test_a_body_is_what_was_encoded_however_it_comes(name: str, step: int) -> None:
    encoding, data = ENCODED[name]
    assert read(encoding, data, step) == TEXT


UNREADABLE: dict[str, tuple[str, bytes]] = {
    "another encoding": ("br", TEXT),
    "two of them": ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
    "no gzip": ("gzip", TEXT),
    "nothing": ("gzip", b""),
    "a cut gzip": ("gzip", gzip.compress(TEXT)[:-1]),
    "a cut second member": ("gzip", gzip.compress(TEXT) + gzip.compress(TEXT)[:-5]),
    "a checksum that is wrong": ("gzip", gzip.compress(TEXT)[:-8] + bytes(8)),
    "members of nothing": ("gzip", gzip.compress(b"") * 10_001),
    "no deflate": ("deflate", b"\xff" * 100),
    "a cut deflate": ("deflate", zlib.compress(TEXT)[:-1]),
    "a cut bare deflate": ("deflate", bare(TEXT)[:-1]),
    "one byte": ("deflate", b"x"),
}


@pytest.mark.parametrize("step", [1, 1_000_000])
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_is_cut_or_badly_encoded_is_none(name: str, step: int) -> None:
    with pytest.raises(Unreadable):
        read(*UNREADABLE[name], step)


def zeros(packer: Any, size: int) -> bytes:
    parts: list[bytes] = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "gzip": lambda: ("gzip", zeros(zlib.compressobj(9, wbits=31), 64 << 20)),
    "members": lambda: ("gzip", gzip.compress(bytes(1 << 20)) * 64),
    "deflate": lambda: ("deflate", zeros(zlib.compressobj(9), 64 << 20)),
    "as it is": lambda: ("", bytes(64 << 20)),
    "what is none behind it": lambda: ("gzip", gzip.compress(b"x") + bytes(64 << 20)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_more_is_taken_than_convex_can_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY", 4 << 20)
    encoding, data = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            read(encoding, data, 1 << 16)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_that_is_too_large_is_one_error(ask: Say, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY", 1 << 20)
    bomb = Answer(zeros(zlib.compressobj(9, wbits=31), 8 << 20), status, encoding="gzip")
    with (
        serve(lambda call: bomb) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(DeploymentError, match="larger than any of Convex"),
    ):
        ask(deployment, 1)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "value",
    ["\x01" * 1_000, "é" * 1_000, "x", "", [False] * 1_000, [None] * 1_000, [""] * 1_000, [[]] * 1_000, [{}] * 1_000,
     b"\xff" * 1_000, [b""] * 1_000, [1.1234567890123456e-300] * 1_000, [float("-inf")] * 1_000,
     [ConvexInt64(-(2**63))] * 1_000, {f"f{n}": True for n in range(1_000)}],
    ids=lambda value: f"{type(value).__name__} of {value[:1]!r}" if isinstance(value, list | str) else type(value).__name__,
)  # fmt: skip
def test_no_value_is_longer_as_json_than_the_bound_takes_it_to_be(value: Any) -> None:
    assert len(dumps(value).encode()) <= 7 * size_of(value) + 32


def test_the_largest_result_is_read() -> None:
    value = ["\x01" * (1 << 20)] * 15
    answer = success(value)
    assert len(answer.body) > 90_000_000
    packed = Answer(gzip.compress(answer.body, 1), encoding="gzip")
    with serve(lambda call: packed) as server, connect(server.url, KEY) as deployment:
        assert say(deployment, 1) == value


def test_an_unreadable_answer_is_asked_for_again(ask: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_BACKOFF", 0.0)
    answers = [Answer(TEXT, encoding="br"), Answer(gzip.compress(TEXT)[:-9], encoding="gzip"), success("there")]
    with serve(lambda call: answers[len(server.calls) - 1]) as server, connect(server.url, KEY) as deployment:
        assert ask(deployment, 1) == "there"
    with (
        serve(lambda call: answers[0]) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(DeploymentError, match="the answer is cut, or encoded as was not asked for, after 4 attempts"),
    ):
        ask(deployment, 1)
