"""Files: stored whole or not at all, and read back equal, on every deployment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import pytest

from convexorm import (
    Deployment,
    DeploymentError,
    Functions,
    Id,
    InvalidRequestError,
    Mapped,
    Model,
    NoResultFound,
    Session,
    StoredFile,
    ValidationError,
    compare,
    connect,
)
from tests.conftest import Host

DATA = bytes(range(256)) * 3_000
MISSING = "kg2abcdefghjkmnpqrstvwxyz0123456"


class Picture(Model, table="pictures"):
    file: Mapped[Id[Literal["_storage"]]]


def stored(deployment: Deployment) -> set[str]:
    with Session(deployment) as session:
        return {one.convex_id or "" for one in session.all(StoredFile.query().full_scan())}


def test_a_file_is_read_back_as_it_was_stored(deployment: Deployment, tmp_path: Path) -> None:
    files = deployment.files
    told: list[tuple[int, int | None]] = []
    path = tmp_path / "picture.bin"
    path.write_bytes(DATA)
    ids = [
        files.upload(DATA, "image/png", on_progress=lambda sent, total: told.append((sent, total))),
        files.upload(path),
        files.upload(str(path)),
        files.upload(BytesIO(DATA)),
        files.upload(DATA[start : start + 1_000] for start in range(0, len(DATA), 1_000)),
    ]
    assert all(files.download(id) == DATA for id in ids)
    assert len(set(ids)) == len(ids)
    assert told[-1] == (len(DATA), len(DATA))
    metadata = files.metadata(ids[0])
    assert (metadata.size, metadata.sha256) == (len(DATA), sha256(DATA).hexdigest())
    assert metadata.content_type == "image/png"
    assert files.metadata(ids[1]).content_type is None
    to = tmp_path / "copy.bin"
    to.write_bytes(b"old")
    assert files.download(ids[0], to=to) is None
    assert to.read_bytes() == DATA
    assert not list(tmp_path.glob("*.partial"))
    assert files.download(files.upload(b"")) == b""
    if files.url(ids[0]).startswith("http"):
        assert httpx2.get(files.url(ids[0])).content == DATA


def test_a_deleted_file_is_not_there(deployment: Deployment, tmp_path: Path) -> None:
    files = deployment.files
    id = files.upload(DATA)
    files.delete(id)
    for ask in (files.download, files.url, files.metadata, files.delete):
        with pytest.raises(NoResultFound):
            ask(id)
        with pytest.raises(NoResultFound):
            ask("no id at all")
        with pytest.raises(InvalidRequestError):
            ask(7)  # type: ignore[arg-type, call-overload, unused-ignore]
    with pytest.raises(NoResultFound):
        files.download(id, to=tmp_path / "none")
    assert list(tmp_path.glob("none*")) == []
    assert id not in stored(deployment)


def test_what_raises_midway_leaves_nothing(deployment: Deployment) -> None:
    def pieces() -> Iterator[bytes]:
        yield DATA
        raise KeyError("midway")

    def stopped(sent: int, total: int | None) -> None:
        raise KeyError("stopped")

    before = stored(deployment)
    with pytest.raises(KeyError):
        deployment.files.upload(pieces())
    with pytest.raises(KeyError):
        deployment.files.upload(DATA, on_progress=stopped)
    wrong: list[Any] = [7, None, StringIO("text"), ["text"], {"a": 1}, bytes]
    for source in wrong:
        with pytest.raises(InvalidRequestError):
            deployment.files.upload(source)
    for content_type in ("", "a\nb", " a/b", "ä", "a" * 256):
        with pytest.raises(ValidationError):
            deployment.files.upload(DATA, content_type)
    with pytest.raises(FileNotFoundError):
        deployment.files.upload("/no/such/file")
    assert stored(deployment) == before


def test_a_stream_goes_in_and_out_in_pieces(deployment: Deployment, tmp_path: Path) -> None:
    """However large: at no time is more than a few pieces of it on the way, as counted where they are made."""
    size, most = 40, 0
    made = sent = 0

    class Stream:
        def read(self, size_: int) -> bytes:
            nonlocal made, most
            if made == size:
                return b""
            made += 1
            most = max(most, made - sent)
            return b"x" * size_

    def told(so_far: int, total: int | None) -> None:
        nonlocal sent
        sent += 1

    id = deployment.files.upload(Stream(), on_progress=told)
    assert (made, sent) == (size, size)
    assert most <= 2
    received: list[int] = []
    deployment.files.download(id, to=tmp_path / "out", on_progress=lambda so_far, total: received.append(so_far))
    assert len(received) >= size // 2


async def test_files_are_awaited_the_same(deployment: Deployment, tmp_path: Path) -> None:
    files = deployment.async_files

    async def pieces() -> AsyncIterator[bytes]:
        yield DATA
        yield DATA

    async def broken() -> AsyncIterator[bytes]:
        yield DATA
        raise KeyError

    id = await files.upload(pieces(), "a/b")
    assert await files.download(id) == DATA + DATA
    await files.download(id, to=tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA + DATA
    assert (await files.metadata(id)).content_type == "a/b"
    with pytest.raises(KeyError):
        await files.upload(broken())
    await files.delete(id)
    with pytest.raises(NoResultFound):
        await files.url(id)


def test_convex_own_tables_are_read_and_not_written(deployment: Deployment) -> None:
    id = deployment.files.upload(DATA, "a/b")
    with Session(deployment) as session:
        file = session.get(StoredFile, id)
        assert file is not None
        assert (file.size, file.content_type) == (len(DATA), "a/b")
        assert session.page(StoredFile.query().full_scan(), 1).items
        writes: list[Callable[[], object]] = [
            lambda: session.add(StoredFile(sha256="", size=1)),
            lambda: session.delete(file),
            lambda: setattr(file, "size", 3),
            lambda: session.delete_range(StoredFile.query().full_scan()),
        ]
        for write in writes:
            write()
            with pytest.raises(ValidationError, match="_storage"):
                session.commit()
            session.rollback()
    assert deployment.files.download(id) == DATA


def test_a_column_holds_the_id_of_a_file() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        picture = Picture(file=deployment.files.upload(DATA))
        session.add(picture)
        session.commit()
        session.expire(picture)
        session.refresh(picture)
        assert deployment.files.download(picture.file) == DATA


async def test_the_event_loop_waits_for_no_disk(deployment: Deployment, tmp_path: Path) -> None:
    threads: set[int] = set()

    class Stream(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)

    id = await deployment.async_files.upload(Stream(DATA))
    assert threads
    assert threading.get_ident() not in threads
    assert await deployment.async_files.download(id) == DATA


def test_a_checked_schema_has_the_tables_of_convex(shared_host: Host) -> None:
    with connect(shared_host.url, shared_host.key, check_schema=True) as deployment:
        assert deployment.files.upload(DATA) in stored(deployment)
        assert compare([StoredFile], deployment) == []


def test_an_upload_that_is_cut_off_is_no_file(shared_host: Host) -> None:
    with shared_host.connect() as deployment:
        before = stored(deployment)
        store = Functions(deployment)
        url = urlsplit(store.mutation("orm:store", {"version": 4, "op": "upload"}, returns=dict[str, Any])["url"])
        head = f"POST {url.path}?{url.query} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
        with socket.create_connection((str(url.hostname), url.port or 0)) as connection:
            connection.sendall(head.encode() + b"x" * 500)
        assert deployment.files.upload(b"after") not in before
        assert len(stored(deployment)) == len(before) + 1


# -- beside a SQLite file ------------------------------------------------------------------------------------------


def folder(path: Path) -> list[str]:
    beside = path.with_name(f"{path.name}-files")
    return sorted(entry.name for entry in beside.iterdir()) if beside.is_dir() else []


def test_bytes_without_an_id_are_removed_and_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with connect(f"sqlite:///{path}") as deployment:
        id = deployment.files.upload(DATA)
    (tmp_path / "x.db-files" / "orphan").write_bytes(b"x")
    (tmp_path / "x.db-files" / ".partial-1").write_bytes(b"x")
    with connect(f"sqlite:///{path}") as one, connect(f"sqlite:///{path}") as two:

        def pieces() -> Iterator[bytes]:
            yield DATA
            other.append(two.files.upload(DATA))  # sweeps, while the first is being written

        other: list[str] = []
        first = one.files.upload(pieces())
        assert folder(path) == sorted([id, first, *other])
        assert one.files.download(first) == one.files.download(id) == DATA


KILLED = """
    import os, signal, sys
    from convexorm import connect

    with connect(sys.argv[1]) as deployment:
        def pieces():
            yield b"x" * 1_000_000
            os.kill(os.getpid(), signal.SIGKILL)

        print(deployment.files.upload(b"whole"), flush=True)
        deployment.files.upload(pieces())
"""


def test_a_kill_in_the_midst_of_an_upload_leaves_whole_files(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), url], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    with connect(url) as deployment:
        assert stored(deployment) == {run.stdout.strip()}
        assert deployment.files.download(run.stdout.strip()) == b"whole"
        new = deployment.files.upload(b"new")
        assert folder(tmp_path / "x.db") == sorted([run.stdout.strip(), new])


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'x.db'}") as deployment:
        id = deployment.files.upload(DATA)
        file = tmp_path / "x.db-files" / id
        file.write_bytes(DATA[:-1])
        to = tmp_path / "copy"
        to.write_bytes(b"before")
        with pytest.raises(DeploymentError, match="damaged"):
            deployment.files.download(id, to=to)
        assert to.read_bytes() == b"before"
        file.unlink()
        with pytest.raises(DeploymentError, match="folder"):
            deployment.files.download(id)


def test_a_backup_has_the_files_and_a_file_only_read_takes_none(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'x.db'}") as deployment:
        ids = [deployment.files.upload(DATA + bytes([place])) for place in range(3)]
        gone = deployment.files.upload(b"gone")
        deployment.files.delete(gone)
        deployment.backup(tmp_path / "copy.db")
        with pytest.raises(DeploymentError, match="already"):
            deployment.backup(tmp_path / "copy.db")
    assert folder(tmp_path / "copy.db") == sorted(ids)
    with connect(f"sqlite:///{tmp_path / 'copy.db'}?mode=ro") as copy:
        assert [copy.files.download(id) for id in ids] == [DATA + bytes([place]) for place in range(3)]
        for change in (lambda: copy.files.upload(DATA), lambda: copy.files.delete(ids[0])):
            with pytest.raises(DeploymentError, match="only be read"):
                change()


def test_a_child_of_a_fork_has_the_files(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'x.db'}") as deployment:
        id = deployment.files.upload(DATA)
        child = os.fork()
        if child == 0:
            ok = deployment.files.download(id) == DATA and deployment.files.upload(b"of the child") != id
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(stored(deployment)) == 2


WRITER = """
    import sys
    from convexorm import connect

    with connect(sys.argv[1]) as deployment:
        sys.stdin.readline()
        for number in range(30):
            id = deployment.files.upload(f"{sys.argv[2]} {number}".encode() * 1_000)
            if number % 2:
                deployment.files.delete(id)
            else:
                print(id, flush=True)
"""


def test_processes_upload_and_delete_at_once_while_backups_are_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with connect(url) as deployment:
        deployment.files.upload(b"first")
        command = [sys.executable, "-c", textwrap.dedent(WRITER), url]
        writers = [
            subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(2)
        ]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for number in range(3):
            deployment.backup(tmp_path / f"copy{number}.db")
        kept = [line for writer in writers for line in writer.communicate(timeout=60)[0].split()]
        assert [writer.returncode for writer in writers] == [0, 0]
        assert set(kept) < stored(deployment)
        assert set(folder(tmp_path / "x.db")) == stored(deployment)
        assert all(len(deployment.files.download(id)) % 1_000 == 0 for id in kept)
    for number in range(3):
        with connect(f"sqlite:///{tmp_path / f'copy{number}.db'}") as copy:
            assert set(folder(tmp_path / f"copy{number}.db")) == stored(copy)
            assert all(copy.files.download(id) for id in stored(copy))
