"""What must not cross a fork: SQLite's connections and locks.

Before this process forks, no new request begins, those under way come to their end, and the connections to files are
closed. After it, the parent goes on, and a child starts afresh: it has no connection, and waits for nobody.

A gate is closed while any thread forks. It is closed and opened by functions that an interrupt cannot enter. A fork in the
midst of a request of the same thread (a signal's handler) cannot wait for that request; the child then lets the connection
lie, neither used nor closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from sys import _getframe
from threading import get_ident
from typing import Protocol, TypeVar
from weakref import ref

from convexorm.concurrency.works import Work, work_in

__all__ = [
    "Pooled",
    "at_work",
    "begin",
    "between_forks",
    "check_process",
    "end",
    "enroll",
    "forks_elsewhere",
    "gates",
    "pools",
    "process",
    "strike",
    "wait_for_forks",
    "work_of",
]

T = TypeVar("T")


class Pooled(Protocol):
    def abandon(self) -> None:
        """Start afresh in a child."""

    def mend(self) -> None:
        """Settle what requests that are over have left behind."""

    def rest(self, work: Work) -> None:
        """Close what must not cross a fork, in the name of a work of the thread that forks."""


_pools: dict[int, tuple[ref[Pooled], Callable[[], None]]] = {}
"""All pools, and for each what closes its connections when it is gone."""
at_work: dict[int, Work] = {}
"""What each thread is about, by its id; what began in the midst of something else names that as its `outer`."""
gates: list[None] = []
"""One for each fork under way; nearly always there is none, so whoever begins looks here first."""
_forking: set[int] = set()
"""The threads that run the functions around a fork: the gate is open to themselves."""
_waiting: set[int] = set()
"""Those of them that wait for others to end."""
_ready: set[int] = set()
"""Those of them for whom everything has come to rest, and is to stay so."""
process = [os.getpid()]
"""The process that all of this is about."""


def enroll(pool: Pooled, close: Callable[[], None]) -> int:
    """Have a pool told of forks until it is struck out by this number, and `close` called before them if it is gone."""
    _pools[id(pool)] = (ref(pool), close)
    return id(pool)


def strike(number: int) -> None:
    """Forget a pool that is gone."""
    _pools.pop(number, None)


def pools() -> list[Pooled]:
    """All pools there are."""
    return [pool for one, _ in list(_pools.values()) if (pool := one()) is not None]


def work_of(thread: int) -> Work | None:
    """What a thread is in the midst of."""
    work = at_work.get(thread)
    while work is not None and work.over:
        work = work.outer
    return work


def begin(work: Work) -> bool:
    """Let a work begin; False while another thread forks."""
    at_work[work.thread] = work
    if gates and forks_elsewhere(work):
        end(work)
        return False
    return True


def end(work: Work) -> None:
    """Say that a work has ended."""
    if work.outer is None:
        at_work.pop(work.thread, None)
    else:
        at_work[work.thread] = work.outer


def forks_elsewhere(work: Work) -> bool:
    """Whether another thread is about to fork."""
    return bool(gates) and work.thread not in _forking


def wait_for_forks(work: Work) -> None:
    """Wait until no other thread forks."""
    while forks_elsewhere(work):
        time.sleep(0.0005)


def between_forks(action: Callable[[Work], T], owner: object = None, *, closes: bool = False) -> T:
    """What an action answers that no fork may come in the midst of, although it is no request.

    One that `closes` something goes on while others prepare to fork, who wait for it: it would be open in their children.
    """
    work = work_in(_getframe(), owner)
    work.outer = work_of(work.thread)
    while not begin(work):
        if work.outer is not None:  # whoever forks waits for this thread
            break
        if closes:
            at_work[work.thread] = work
            if not _ready:  # whoever is ready later looks again for those at work
                break
            end(work)
        wait_for_forks(work)
    try:
        return action(work)
    finally:
        end(work)
        work.end()


def check_process() -> None:
    """Start afresh in a child that was not told of its fork."""
    if process[0] != os.getpid():
        _start_afresh()


def _others_work(thread: int) -> bool:
    return any(other != thread and other not in _waiting and work.under_way for other, work in list(at_work.items()))


def _come_to_rest() -> None:
    work = work_in(_getframe())
    work.outer = work_of(work.thread)
    _ready.discard(work.thread)
    _forking.add(work.thread)
    _wait_for_others(work.thread)
    at_work[work.thread] = work
    if not _ready:  # else all is at rest
        for one, close in list(_pools.values()):
            pool = one()
            if pool is None:
                close()
            else:
                pool.rest(work)
    end(work)
    work.end()
    _ready.add(work.thread)
    _wait_for_others(work.thread)


def _wait_for_others(thread: int) -> None:
    """Wait until no other thread works, but for those that wait likewise."""
    _waiting.add(thread)
    try:
        pause = 0.0001
        while _others_work(thread):
            time.sleep(pause)
            pause = min(pause * 2, 0.005)
    finally:
        _waiting.discard(thread)


def _go_on() -> None:
    _ready.discard(get_ident())
    _forking.discard(get_ident())


def _start_afresh() -> None:
    if process[0] == os.getpid():
        return
    for pool in pools():
        pool.abandon()
    for container in (at_work, gates, _forking, _waiting, _ready):
        container.clear()
    process[0] = os.getpid()


if hasattr(os, "register_at_fork"):
    # Functions before a fork run in reverse order: the gate is closed first. What must not be left out is registered
    # twice, because an interrupt that arrives during the fork is raised where the first one begins.
    os.register_at_fork(before=_come_to_rest)
    os.register_at_fork(before=partial(gates.append, None))
    for _ in range(2):
        os.register_at_fork(after_in_parent=_go_on, after_in_child=_start_afresh)
    os.register_at_fork(after_in_parent=gates.pop)
