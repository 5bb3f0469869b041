"""Processes forked while a deployment is in use: none gets what is another's, loses its own, or waits in vain."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

from convexorm import ConvexORMError, Deployment, Session, connect
from tests.conftest import Host
from tests.models import Counter, Note
from tests.storm.conftest import Storm
from tests.storm.programs import run, tell


def fork(work: Callable[[], None]) -> int:
    """Run something in a child, which ends with it; what goes wrong there is told."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        tell("failed", f"{type(error).__name__}: {error}"[:200])
    finally:
        os._exit(0)


def write_own(deployment: Deployment, name: str, rounds: int) -> None:
    """Add notes, read and change them, and tell of each commit; and of whatever is not one's own."""
    for number in range(rounds):
        key = f"{name}-{number}"
        with Session(deployment) as session:
            note = Note(id=key, title=name)
            session.add(note)
            session.commit()
            note.body = name
            session.commit()
            tell("stored", key)
            found = session.get(Note, key)
        if found is None or (found.id, found.title, found.body) != (key, name, name):
            tell("not mine", key)
        with Session(deployment) as session:
            mine = Note.query().by_index("by_note_id", Note.id.startswith(f"{name}-"))
            if {one.title for one in session.all(mine)} != {name}:
                tell("not mine", f"notes of {name}")
            if session.count(mine) != number + 1:
                tell("miscounted", name)


def busy(deployment: Deployment, name: str, over: threading.Event) -> threading.Thread:
    """A thread that goes on committing until it is over, under forks."""

    def work() -> None:
        number = 0
        while not over.is_set():
            try:
                write_own(deployment, f"{name}.{number}", 1)
            except BaseException as error:
                tell("failed", f"in a thread: {type(error).__name__}: {error}"[:200])
                return
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def fork_often(url: str, key: str | None, unique: str, seed: str, children: int, rounds: int) -> None:
    """Fork beside threads at work; some children end their deployment, some just end, some fork again."""
    chance = Random(seed)
    deployment = connect(url, key)
    write_own(deployment, f"{unique}-before", 1)
    over = threading.Event()
    threads = [busy(deployment, f"{unique}-thread{number}", over) for number in range(2)]

    def child(name: str, ending: str) -> None:
        write_own(deployment, name, rounds)
        if ending == "closes":
            deployment.close()
        elif ending == "forks":
            os.waitpid(fork(lambda: write_own(deployment, f"{name}.child", 1)), 0)
            write_own(deployment, f"{name}.after", 1)

    forked = []
    for number in range(children):
        name, ending = f"{unique}-child{number}", chance.choice(["closes", "forks", "just ends"])
        forked.append(fork(lambda name=name, ending=ending: child(name, ending)))  # type: ignore[misc]
        if chance.random() < 0.5:
            write_own(deployment, f"{unique}-parent{number}", 1)
    for one in forked:
        os.waitpid(one, 0)
    over.set()
    for thread in threads:
        thread.join()
    write_own(deployment, f"{unique}-end", 1)
    deployment.close()
    tell("done")


def close_while_children_write(url: str, unique: str, rounds: int) -> None:
    """The parent closes its deployment, and opens it anew, while its child is at work."""
    for number in range(rounds):
        deployment = connect(url)
        write_own(deployment, f"{unique}-{number}-parent", 1)
        (at_work, begun), (closed, close) = os.pipe(), os.pipe()

        def child(name: str, deployment: Deployment, begun: int, closed: int) -> None:
            write_own(deployment, f"{name}-before", 3)
            os.write(begun, b".")
            os.read(closed, 1)
            write_own(deployment, f"{name}-after", 3)

        name = f"{unique}-{number}-child"
        one = fork(lambda: child(name, deployment, begun, closed))  # noqa: B023
        os.read(at_work, 1)
        deployment.close()
        os.write(close, b".")
        os.waitpid(one, 0)
        for end in (at_work, begun, closed, close):
            os.close(end)
    tell("done")


def fork_from_threads(url: str, unique: str, seed: str, forks: int) -> None:
    """Threads fork while others commit, make the file smaller, and drop deployments that they opened, unclosed.

    Children and their children commit, and end their deployment or just end.
    """
    deployment = connect(url)
    write_own(deployment, f"{unique}-before", 1)
    over = threading.Event()

    def write(name: str) -> None:
        chance, number = Random(f"{seed} {name}"), 0
        while not over.is_set():
            number += 1
            if (what := chance.random()) < 0.15:
                deployment.vacuum()
            elif what < 0.5:
                other = connect(url)
                write_own(other, f"{name}.other{number}", 1)
                del other
            else:
                write_own(deployment, f"{name}.{number}", 1)

    def child(name: str, chance: Random) -> None:
        write_own(deployment, name, chance.randrange(3))
        if chance.random() < 0.5:
            os.waitpid(fork(lambda: write_own(deployment, f"{name}.child", 2)), 0)
        if chance.random() < 0.3:
            other = connect(url)
            write_own(other, f"{name}.other", 1)
            del other
        write_own(deployment, f"{name}.after", 1)
        if chance.random() < 0.3:
            deployment.close()

    def fork_on(name: str) -> None:
        chance = Random(f"{seed} {name}")
        for number in range(forks):
            own = Random(chance.random())
            os.waitpid(fork(lambda number=number, own=own: child(f"{name}.{number}", own)), 0)  # type: ignore[misc]

    def told(work: Callable[[str], None], name: str) -> None:
        try:
            work(name)
        except BaseException as error:
            tell("failed", f"in a thread: {type(error).__name__}: {error}"[:200])

    writers = [threading.Thread(target=told, args=(write, f"{unique}-writer{number}")) for number in range(2)]
    forkers = [threading.Thread(target=told, args=(fork_on, f"{unique}-forker{number}")) for number in range(3)]
    for thread in (*writers, *forkers):
        thread.start()
    for thread in forkers:
        thread.join()
    over.set()
    for thread in writers:
        thread.join()
    write_own(deployment, f"{unique}-end", 1)
    tell("done")


def use_memory(children: int) -> None:
    """Children of a process with a memory deployment, which cannot be shared."""
    deployment = connect("memory:")
    with Session(deployment) as session:
        session.add(Note(id="parent"))
        session.commit()

    def child(number: int) -> None:
        calls: list[Callable[[Session], object]] = [
            lambda session: session.get(Note, "parent"),
            lambda session: session.count(Counter.query().full_scan()),
            lambda session: [session.add(Counter(name="c")), session.commit()],
        ]
        for call in calls[number % 3 :]:
            try:
                with Session(deployment) as session:
                    call(session)
                tell("answered")
            except ConvexORMError as error:
                tell("refused", type(error).__name__, str(error))
        deployment.close()

    for number in range(children):
        os.waitpid(fork(lambda number=number: child(number)), 0)  # type: ignore[misc]
    with Session(deployment) as session:
        if session.get(Note, "parent") is None or session.count(Counter.query().full_scan()):
            tell("the parent's documents have changed")
    deployment.close()
    tell("done")


def check(told: list[list[str]], deployment: Deployment, unique: str) -> int:
    """Everything that was told of is there as it was written, and nobody had anything to complain of."""
    stored = [one[1] for one in told if one[0] == "stored"]
    assert [one for one in told if one[0] not in ("stored", "done")] == []
    assert told.count(["done"]) == 1
    assert len(stored) == len(set(stored))
    with Session(deployment) as session:
        found = session.all(Note.query().by_index("by_note_id", Note.id.startswith(f"{unique}-")))
    assert sorted(note.id for note in found) == sorted(stored)
    assert [note.id for note in found if {note.title, note.body} != {note.id.rpartition("-")[0]}] == []
    return len(stored)


def test_fork_beside_a_remote_deployment(storm: Storm, models_host: Host, unique: str) -> None:
    children = 6 * storm.scale
    told = run(fork_often, models_host.url, models_host.key, unique, str(storm.chance.random()), children, 3)
    with models_host.connect() as deployment:
        storm.report(children=children, documents=check(told, deployment, unique))


def test_fork_beside_a_file(storm: Storm, tmp_path: Path, unique: str) -> None:
    path, children = tmp_path / "forked.db", 6 * storm.scale
    url = f"sqlite:///{path}"
    told = run(fork_often, url, None, unique, str(storm.chance.random()), children, 3)
    with connect(url) as deployment:
        documents = check(told, deployment, unique)
    told = run(close_while_children_write, url, f"{unique}+", 3 * storm.scale)
    with connect(url) as deployment:
        documents += check(told, deployment, f"{unique}+")
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()
    storm.report(children=children + 3 * storm.scale, documents=documents)


def test_fork_from_threads_beside_a_file(storm: Storm, tmp_path: Path, unique: str) -> None:
    path, forks = tmp_path / "forked.db", 3 * storm.scale
    url = f"sqlite:///{path}"
    told = run(fork_from_threads, url, unique, str(storm.chance.random()), forks)
    with connect(url) as deployment:
        documents = check(told, deployment, unique)
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()
    storm.report(forks=3 * forks, documents=documents)


def test_fork_beside_memory(storm: Storm) -> None:
    children = 3 * storm.scale
    *told, done = run(use_memory, children)
    assert done == ["done"]
    assert {one[0] for one in told} == {"refused"}
    assert len({tuple(one) for one in told}) == 1, "one error, always the same"
    storm.report(children=children, refusals=len(told))
