"""What `serve --persist` keeps: all that was acknowledged, whenever it is killed; and nothing is made of a damaged file."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from convexorm import Deployment, ScheduledFunction, Session, StoredFile, connect
from convexorm.errors import DeploymentError
from tests.conftest import ROOT, node
from tests.models import Note

KEY = "kept|key"
PROJECT = ROOT / "tests" / "functions"


@attrs.define
class Host:
    file: Path
    process: subprocess.Popen[str]
    url: str

    def connect(self) -> Deployment:
        return connect(self.url, KEY, timeout=10)

    def end(self, signal_: signal.Signals) -> None:
        self.process.send_signal(signal_)
        self.process.wait(timeout=20)


def command(file: Path) -> list[str]:
    program = [sys.executable, "-m", "convexorm", "serve", str(PROJECT), "--port", "0", "--admin-key", KEY]
    return [*program, "--persist", str(file)]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], Host]]:
    node()
    hosts: list[Host] = []

    def start(file: Path) -> Host:
        process = subprocess.Popen(command(file), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        ready, url = process.stdout.readline().split()
        assert ready == "ready"
        hosts.append(Host(file, process, url))
        return hosts[-1]

    yield start
    for host in hosts:
        host.process.kill()
        host.process.wait()
        assert host.process.stdout is not None
        host.process.stdout.close()


def refused(file: Path) -> str:
    run = subprocess.run(command(file), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert str(file) in line or "document" in line
    return line


def test_all_that_was_acknowledged_is_there_after_kills_amid_commits(serve: Callable[[Path], Host], tmp_path: Path) -> None:
    """Each commit is a note and a scheduled function, after a file: all of it, or nothing."""
    file = tmp_path / "kept.db"
    acknowledged: list[str] = []
    errors: list[Exception] = []
    stored: dict[str, bytes] = {}

    def write(url: str, round_: int, enough: threading.Event) -> None:
        try:
            with connect(url, KEY, timeout=5, retry=1) as deployment:
                for number in range(10_000):
                    text = f"{round_}-{number}"
                    id = deployment.files.upload(text.encode() * 1_000)
                    stored[id] = text.encode() * 1_000
                    with Session(deployment) as session:
                        session.add(Note(id=text, title=id, body="x" * 2_000))
                        session.schedule("paying:pay", {"id": text}, delay=timedelta(days=30))
                        session.commit()
                    acknowledged.append(text)
                    if number >= 10 + round_:
                        enough.set()
        except Exception as error:
            errors.append(error)
        finally:
            enough.set()

    for round_ in range(2):
        host = serve(file)
        enough = threading.Event()

        writer = threading.Thread(target=write, args=(host.url, round_, enough))
        writer.start()
        assert enough.wait(timeout=60)
        assert errors == []
        host.end(signal.SIGKILL)
        writer.join(timeout=60)
        assert [type(error) for error in errors] == [DeploymentError]
        errors.clear()

        host = serve(file)
        with host.connect() as deployment, Session(deployment) as session:
            notes = {note.id: note.title for note in session.all(Note.query().full_scan())}
            assert set(acknowledged) <= set(notes)
            assert len(set(notes) - set(acknowledged)) <= round_ + 1  # whose answer the kill took away
            scheduled = session.all(ScheduledFunction.query().full_scan())
            pays = [one.args[0]["id"] for one in scheduled if one.name.startswith("paying")]
            assert sorted(pays) == sorted(notes)
            files = {str(one.convex_id) for one in session.all(StoredFile.query().full_scan())}
            assert stored.keys() <= files
            assert all(deployment.files.download(id) == content for id, content in stored.items())
        host.end(signal.SIGTERM)
        assert host.process.returncode == 0


def test_a_second_host_of_a_file_is_refused_while_the_first_goes_on(serve: Callable[[Path], Host], tmp_path: Path) -> None:
    host = serve(tmp_path / "kept.db")
    assert "another host uses it" in refused(host.file)
    with host.connect() as deployment, Session(deployment) as session:
        session.add(Note(id="still here"))
        session.commit()


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_to_bytes(file: Path) -> None:
    os.truncate(file, 100)


def scratched(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in range(4_096, len(data), 4_096):
        data[place : place + 64] = os.urandom(64)
    file.write_bytes(data)


def bent(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE documents SET json = substr(json, 1, 20)")
        database.commit()


def emptied(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("DROP TABLE documents")
        database.execute("DROP TABLE files")
        database.execute("DROP TABLE tables")
        database.commit()


def replaced(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE theirs (a)")
        database.commit()


def test_a_damaged_file_is_one_error_and_stays_as_it_is(serve: Callable[[Path], Host], tmp_path: Path) -> None:
    host = serve(tmp_path / "kept.db")
    with host.connect() as deployment, Session(deployment) as session:
        session.add_all([Note(id=f"n{number}", body="x" * 3_000) for number in range(20)])
        session.commit()
    host.end(signal.SIGTERM)
    with closing(sqlite3.connect(host.file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for damage in (halved, cut_to_bytes, scratched, bent, emptied, replaced):
        file = tmp_path / f"{damage.__name__}.db"
        shutil.copy(host.file, file)
        damage(file)
        before = file.read_bytes()
        said = refused(file)
        assert "damaged" in said or "something else" in said, damage
        assert damage is bent or file.read_bytes() == before, damage  # what is bent looks right until it is read
    (tmp_path / "folder.db").mkdir()
    assert "cannot be used" in refused(tmp_path / "folder.db")
    assert "cannot be used" in refused(tmp_path / "no" / "such.db")
