"""`Watches`: keeps what is watched answered, by one thread for all watches of a deployment, while there are any.

A commit of this process wakes the thread; a commit of another one is noticed by the file (see `alarms`). Then what the
commits have written is compared with the intervals that each watch has read, and those that meet are answered again, each
once its last state was taken. Where it is not known what was written, as in a file that can only be read, all are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import ref

from convexorm.concurrency.threads import Worker
from convexorm.deployments.embedded.alarms import alarm_of
from convexorm.deployments.embedded.engine import Engine
from convexorm.deployments.embedded.intervals import Interval, meet
from convexorm.deployments.embedded.rows import Known
from convexorm.deployments.embedded.written import Keys
from convexorm.deployments.observers import Observers
from convexorm.errors import ConvexORMError, DeploymentError
from convexorm.live.mailboxes import Mailbox
from convexorm.requests import Read

__all__ = ["Watches"]


class _Watch:
    """One watch: what it asks, what the last answer depended on, and whether that has changed since.

    Its mailbox is its user's: one that was dropped, as an interrupt may leave it, is closed.
    """

    __slots__ = ("due", "intervals", "known", "mailbox", "number", "reads")

    def __init__(self, reads: Sequence[Read], mailbox: ref[Mailbox[Any]]) -> None:
        self.reads = reads
        self.mailbox = mailbox
        self.known = Known()
        self.intervals: frozenset[Interval] = frozenset()
        self.number: int | None = None
        self.due = True


class Watches:
    """The watches of one deployment."""

    def __init__(self, engine: Engine, observers: Observers, path: str | None) -> None:
        self._engine = engine
        self._observers = observers
        self._files = () if path is None else (path, f"{path}-wal")
        self._watches: dict[int, _Watch] = {}
        self._closed = False
        self._process = os.getpid()
        self._runner: _Runner | None = None

    def add(self, reads: Sequence[Read], mailbox: Mailbox[Any]) -> None:
        """Keep some reads answered. Raises DeploymentError when the deployment is closed."""
        if self._closed:
            raise DeploymentError("the deployment is closed")
        if self._process != os.getpid():  # those of the parent are its own
            self._watches, self._runner, self._process = {}, None, os.getpid()
        watch = _Watch(reads, ref(mailbox, self._dropped))
        mailbox.on_close = mailbox.on_taken = self.wake
        self._watches[id(watch)] = watch
        self._go_on()

    def wake(self) -> None:
        """There is something to do for the thread: a state was taken, or a watch closed."""
        runner = self._runner
        if runner is not None:
            runner.wake()

    def _dropped(self, _: object) -> None:
        """A mailbox is gone. Python lets no exception out of here, an interrupt as little as any other."""
        self.wake()

    def committed(self) -> None:
        """A commit was applied."""
        runner = self._runner
        if runner is not None:
            runner.told = True
            runner.wake()

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        for mailbox in self._mailboxes():
            mailbox.end()
        self.wake()

    def _mailboxes(self) -> list[Mailbox[Any]]:
        return [mailbox for watch in list(self._watches.values()) if (mailbox := watch.mailbox()) is not None]

    def _go_on(self) -> None:
        """Have a thread run. It may be that two begin at once: the first of them ends."""
        runner = self._runner
        if runner is None or not runner.alive:
            runner = self._runner = _Runner(self, self._files)
            self._engine.on_commit = self.committed
            runner.start()
        runner.wake()

    # -- what the thread does --------------------------------------------------------------------------------------

    def run(self, runner: _Runner) -> None:
        """Answer until there is nobody left to answer."""
        try:
            self._run(runner)
        except Exception as error:  # none that is known of; nobody is to wait for ever
            self._fail(DeploymentError(f"watching failed: {type(error).__name__}"))
            raise

    def _run(self, runner: _Runner) -> None:
        position: int | None = None
        begun = look = False
        while self._runner is runner:
            for key, watch in list(self._watches.items()):
                if (mailbox := watch.mailbox()) is None or mailbox.over:
                    self._watches.pop(key, None)
                del mailbox
            if not self._watches:
                self._runner = None
                if not self._watches:
                    return
                self._go_on()  # one came at the last moment
                return
            try:
                if not begun:
                    self._engine.keep_written()
                    begun = True
                if look or runner.told:
                    runner.told = False
                    position = self._compare(position)
            except ConvexORMError as error:
                self._fail(error)
                continue
            for watch in list(self._watches.values()):
                if watch.due:
                    self._answer(watch)
            look = runner.alarm.wait()

    def _compare(self, position: int | None) -> int | None:
        """Find out which watches are to be answered again; up to which commit that is known now."""
        number, commits = self._engine.written_since(position)
        for watch in list(self._watches.values()):
            if not watch.due:
                watch.due = number is None or commits is None or _concerns(watch, commits)
        return number

    def _answer(self, watch: _Watch) -> None:
        """Answer a watch again, if its last state was taken."""
        mailbox = watch.mailbox()
        if mailbox is None or mailbox.over or not mailbox.empty:
            return
        watch.due = False
        try:
            with self._observers.watch("watch") as request:
                if request is not None:
                    request.of_reads(watch.reads)
                observation = self._engine.observe(watch.reads, watch.known)
                if request is not None:
                    request.documents = watch.known.parsed
        except ConvexORMError as error:
            self._end(mailbox, error)
            return
        watch.intervals, watch.number = observation.intervals, observation.number
        mailbox.connected = True
        mailbox.deliver(observation.results)

    def _fail(self, error: ConvexORMError) -> None:
        for mailbox in self._mailboxes():
            self._end(mailbox, error)

    def _end(self, mailbox: Mailbox[Any], error: ConvexORMError) -> None:
        if self._closed:
            mailbox.end()
        else:
            mailbox.fail(error)


def _concerns(watch: _Watch, commits: Sequence[tuple[int, Keys]]) -> bool:
    """Whether one of some commits, which the last answer does not show, has written what the answer depends on."""
    since = watch.number
    return since is None or any(number > since and meet(watch.intervals, keys) for number, keys in commits)


class _Runner:
    """The thread, and what wakes it."""

    def __init__(self, watches: Watches, files: Sequence[str]) -> None:
        self.told = True
        """Whether a commit was applied by this process."""
        self.alarm = alarm_of(files)
        self._worker = Worker(partial(watches.run, self), "convexorm watches")
        self.start = self._worker.start

    @property
    def alive(self) -> bool:
        return self._worker.alive

    def wake(self) -> None:
        self.alarm.ring()
