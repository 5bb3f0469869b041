"""URLs of deployments and of proxies: which are right, and that no error, repr or log repeats what may be a key in them."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from convexorm import ConvexORMError, DeploymentError, connect
from convexorm.deployments.remote.addresses import Address
from tests.remote.calling import KEY, Say, echo
from tests.servers import received, scripted, serve, success

CERTIFICATE = Path(__file__).with_name("certificate.pem")
"""Of localhost, 127.0.0.1 and deployment.test, with its key; signed by itself."""

NASTY = [
    "https://happy-animal-123.convex.cloud:{secret}",
    "https://happy-animal-123.convex.cloud:{secret}/api",
    "https://prod:{secret}",
    "https://{secret}@happy-animal-123.convex.cloud",
    "https://user:{secret}@happy-animal-123.convex.cloud",
    "https://@{secret}@happy-animal-123.convex.cloud",
    "https://happy-animal-123.convex.cloud?key={secret}",
    "https://happy-animal-123.convex.cloud/?{secret}",
    "https://happy-animal-123.convex.cloud/#{secret}",
    "https://happy-animal-123.convex.cloud#{secret}",
    "https://happy-animal-123.convex.cloud|{secret}",
    "https://happy-animal-123.convex.cloud {secret}",
    "https://happy-animal-123.convex.cloud\n{secret}",
    "https://happy-animal-123.convex.cloud/\t{secret}",
    "https://[{secret}]",
    "https://[::1]{secret}",
    "https://[::1]:{secret}",
    "https://[::1",
    "https://exa℀mple.com:{secret}",
    "https:///{secret}",
    "https://:{secret}",
    "https://%{secret}",
    "https:{secret}",
    "http://127.0.0.1:99999{secret}",
    "HTTPS://{secret}@HOST",
    "prod:{secret}",
    "{secret}://host",
    "{secret}",
    "wss://{secret}@host",
    "happy-animal-123.convex.cloud|{secret}",
    "//user:{secret}@host",
]
SECRET = "s3cret0123456789abcdef"


def shown(error: BaseException) -> str:
    """All that a program might print of an error."""
    errors: list[BaseException | None] = [error]
    while errors[-1] is not None:
        errors.append(errors[-1].__cause__ or errors[-1].__context__)
    return "".join([*traceback.format_exception(error), *map(repr, errors), *map(str, errors)])


@pytest.mark.parametrize("from_environment", [False, True], ids=["given", "from the environment"])
@pytest.mark.parametrize("url", NASTY)
def test_a_url_that_is_none_is_refused_and_not_repeated(
    url: str, from_environment: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = url.format(secret=SECRET)
    if from_environment:
        monkeypatch.setenv("CONVEX_URL", given)
        monkeypatch.setenv("CONVEX_ADMIN_KEY", KEY)
    with pytest.raises(DeploymentError) as refused:
        connect() if from_environment else connect(given, KEY)
    text = shown(refused.value) + caplog.text
    assert SECRET not in text
    assert "secret-admin-key" not in text


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://happy-animal-123.convex.cloud", "https://happy-animal-123.convex.cloud", ""),
        ("HTTPS://Happy.Convex.Cloud:443/", "https://happy.convex.cloud", ""),
        ("http://127.0.0.1:3210", "http://127.0.0.1:3210", ""),
        ("http://[::1]:3210", "http://[::1]:3210", ""),
        ("http://convex_backend:3210/convex/", "http://convex_backend:3210", "/convex"),
        ("https://bücher.example", "https://xn--bcher-kva.example", ""),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: str, path: str) -> None:
    address = Address.parse(url)
    assert (str(address), address.path) == (origin, path)


def test_a_path_is_called_and_not_shown(ask: Say) -> None:
    with serve(echo) as server, connect(f"{server.url}/behind/{SECRET}/", KEY) as deployment:
        assert ask(deployment, 1) == 1
        assert SECRET not in repr(deployment)
    assert server.calls[0][0] == f"/behind/{SECRET}/api/query"


def test_an_error_of_a_call_shows_the_origin_alone(ask: Say, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with connect(f"http://127.0.0.1:{port}/{SECRET}", KEY, retry=1) as deployment, pytest.raises(ConvexORMError) as refused:
        ask(deployment, 1)
    assert f"http://127.0.0.1:{port}: unreachable" in str(refused.value)
    assert SECRET not in shown(refused.value) + caplog.text


# -- TLS and proxies -----------------------------------------------------------------------------------------------


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def answering(said: list[bytes]) -> Callable[[socket.socket, threading.Event], None]:
    """A server that answers every call with what it was told, and keeps the heads."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            head, body = received(connection)
            said.append(head)
            answer = success(json.loads(body)["args"]["value"]).body
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

    return script


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(20)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.mark.usefixtures("trusting")
def test_calls_over_tls_go_over_one_connection(ask: Say) -> None:
    said: list[bytes] = []
    large = "x" * 3_000_000
    with scripted(answering(said), tls=server_context()) as url, connect(url, KEY) as deployment:
        assert [ask(deployment, value) for value in (1, large, "last")] == [1, large, "last"]
    assert len(said) == 3


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(ask: Say) -> None:
    with (
        scripted(answering([]), tls=server_context()) as url,
        connect(url, KEY) as deployment,
        pytest.raises(DeploymentError, match=r"certificate is not valid here: self.signed"),
    ):
        ask(deployment, 1)


@pytest.mark.usefixtures("trusting")
def test_a_certificate_of_another_host_is_refused(ask: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: look_up("127.0.0.1", *rest, **named))
    with (
        scripted(answering([]), tls=server_context()) as url,
        connect(url.replace("127.0.0.1", "elsewhere.test"), KEY) as deployment,
        pytest.raises(DeploymentError, match="certificate is not valid here"),
    ):
        ask(deployment, 1)


def test_a_server_without_tls_is_told_from_one_that_is_not_there(ask: Say) -> None:
    with (
        scripted(lambda connection, over: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url,
        connect(url.replace("http://", "https://"), KEY, retry=1) as deployment,
        pytest.raises(DeploymentError, match="the TLS handshake failed, after 1 attempt"),
    ):
        ask(deployment, 1)


@pytest.mark.usefixtures("trusting")
def test_a_handshake_that_does_not_end_ends_in_time(ask: Say) -> None:
    with (
        scripted(silent) as url,
        connect(url.replace("http://", "https://"), KEY, timeout=0.2) as deployment,
        pytest.raises(DeploymentError, match="timed out while connecting"),
    ):
        ask(deployment, 1)


def test_certificates_that_cannot_be_read_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"/nowhere/{SECRET}")
    with pytest.raises(DeploymentError, match="SSL_CERT_FILE") as refused:
        connect("https://happy-animal-123.convex.cloud", KEY)
    assert SECRET not in shown(refused.value)


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    def use(url: str) -> None:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, url)

    return use


def test_a_proxy_is_asked_for_the_whole_url(ask: Say, proxied: Callable[[str], None]) -> None:
    said: list[bytes] = []
    with scripted(answering(said)) as url:
        proxied(url.replace("//", f"//user:{SECRET}@"))
        with connect("http://deployment.test:3210/base", KEY) as deployment:
            assert ask(deployment, 1) == 1
            assert SECRET not in repr(deployment)
    assert said[0].startswith(b"POST http://deployment.test:3210/base/api/query HTTP/1.1\r\nHost: deployment.test:3210\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpzM2NyZXQ" in said[0]


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_proxy_connects_what_is_encrypted(ask: Say, proxied: Callable[[str], None], secure: bool) -> None:
    asked: list[bytes] = []
    said: list[bytes] = []
    inner = server_context()

    def script(connection: socket.socket, over: threading.Event) -> None:
        asked.append(received(connection)[0])
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with relayed(connection) as plain, inner.wrap_socket(plain, server_side=True) as there:
            answering(said)(there, over)

    with scripted(script, tls=server_context() if secure else None) as url:
        proxied(url)
        with connect("https://deployment.test", KEY) as deployment:
            assert ask(deployment, 1) == 1
    assert asked[0].startswith(b"CONNECT deployment.test:443 HTTP/1.1\r\nHost: deployment.test:443")
    assert b"Authorization" not in asked[0]
    assert said[0].startswith(b"POST /api/query HTTP/1.1\r\nHost: deployment.test\r\n")


def relayed(connection: socket.socket) -> socket.socket:
    """The other end of a connection that may itself be encrypted, as a plain socket."""
    here, there = socket.socketpair()

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if source is here:
            here.close()

    for pair in ((connection, here), (here, connection)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
    there.settimeout(20)
    return there


def test_a_proxy_that_refuses_is_one_error(ask: Say, proxied: Callable[[str], None]) -> None:
    def script(connection: socket.socket, over: threading.Event) -> None:
        received(connection)
        connection.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

    with scripted(script) as url:
        proxied(url.replace("//", f"//user:{SECRET}@"))
        with (
            connect("https://deployment.test", KEY) as deployment,
            pytest.raises(DeploymentError, match="the proxy refuses, HTTP 407") as refused,
        ):
            ask(deployment, 1)
    assert SECRET not in shown(refused.value)


@pytest.mark.parametrize("url", ["socks5://user:{secret}@host", "http://host:{secret}", "http://[{secret}"])
def test_a_proxy_that_cannot_be_used_is_refused_and_not_repeated(
    proxied: Callable[[str], None], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proxied(url.format(secret=SECRET))
    with pytest.raises(DeploymentError, match="proxy cannot be used") as refused:
        connect("https://deployment.test", KEY)
    assert SECRET not in shown(refused.value) + caplog.text


def test_this_machine_and_what_no_proxy_names_are_reached_directly(
    ask: Say, proxied: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied("http://127.0.0.1:1")
    with serve(echo) as server, connect(server.url, KEY) as deployment:
        assert ask(deployment, 1) == 1
    monkeypatch.setenv("no_proxy", "deployment.test,.internal")
    for url in ("http://deployment.test:3210", "https://a.internal"):
        assert Address.parse(url).proxy() is None
    assert Address.parse("http://other.test").proxy() is not None
