"""A worker that is interrupted at its start is at work, or has none."""

from __future__ import annotations

import gc
import threading
from typing import Any
from weakref import ref

import pytest

from convexorm.concurrency.threads import Worker

BEGIN = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"


class Kept:
    """What a worker is given."""

    def work(self) -> None:
        """There is nothing to do."""


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_at_its_start_leaves_nothing_behind(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = getattr(threading, BEGIN)

    def interrupted(*arguments: Any, **options: Any) -> None:
        if begun:
            begin(*arguments, **options)
        raise KeyboardInterrupt

    kept = Kept()
    there, worker = ref(kept), Worker(kept.work, "working")
    del kept
    monkeypatch.setattr(threading, BEGIN, interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.start()
    monkeypatch.undo()
    worker.join()
    if not begun:
        assert not worker.alive
        del worker
        gc.collect()
        assert there() is None
