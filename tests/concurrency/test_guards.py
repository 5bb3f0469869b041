"""Guards: one at a time, whatever interrupts those that hold them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from convexorm.concurrency.guards import Guard
from tests.interrupting import PACKAGE, walk


def holding(guard: Guard) -> Callable[[], None]:
    """Have another thread hold a guard; what ends that."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        done.wait()

    thread = threading.Thread(target=guard, args=(hold,))
    thread.start()
    held.wait()

    def end() -> None:
        done.set()
        thread.join()

    return end


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_what_a_thread_of_its_parent_holds() -> None:
    guard = Guard()
    end = holding(guard)
    child = os.fork()
    if child == 0:
        os._exit(guard(lambda: 7))
    _, status = os.waitpid(child, 0)
    end()
    assert os.waitstatus_to_exitcode(status) == 7


def test_one_waits_for_another() -> None:
    guard, order = Guard(), list[str]()
    end = holding(guard)
    second = threading.Thread(target=guard, args=(lambda: order.append("second"),))
    second.start()
    order.append("first")
    end()
    second.join()
    assert order == ["first", "second"]


def test_an_interrupt_at_any_line_leaves_a_guard_to_others() -> None:
    guard = Guard()
    for error in walk(lambda: guard(lambda: None), PACKAGE, least=10):
        other = threading.Thread(target=guard, args=(lambda: None,), daemon=True)
        other.start()
        other.join(20)
        assert not other.is_alive()
        assert guard(lambda: 2) == 2
        del error
