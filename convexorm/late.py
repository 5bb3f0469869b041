"""Packages that take long to import, imported when they are first needed, so that nothing can tear an import apart.

An extension module that is interrupted in the midst of its import cannot be imported again for the rest of the process. So
it is imported on a thread of its own, which no interrupt reaches: whoever waits for it may be interrupted, the import goes
on.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module

__all__ = ["need"]


def need(name: str) -> None:
    """Import a package, such as numpy. Raises what its import raises."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return
    if threading.current_thread() is not threading.main_thread():  # interrupts are the main thread's
        import_module(name)
        return
    failed: list[BaseException] = []

    def run() -> None:
        try:
            import_module(name)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name=f"import {name}", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
