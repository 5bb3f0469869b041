"""A lock that another thread holds while a process forks is free in the child."""

from __future__ import annotations

import os
import threading

import pytest

from mastra_convex.locks import ProcessLock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_lock_of_its_parents() -> None:
    lock, held, done = ProcessLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock().acquire(blocking=False) else 1)
    _, status = os.waitpid(child, 0)
    assert not lock().acquire(blocking=False)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
