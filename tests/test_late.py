"""Packages that are imported late: an interrupt in the midst of their import costs the call, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import os, sys
from convexorm.late import need

def interrupted(at, name):
    seen = 0
    def trace(frame, event, _):
        nonlocal seen
        if "/late.py" not in frame.f_code.co_filename and f"/{name}/" not in frame.f_code.co_filename:
            return trace
        if event == "line":
            seen += 1
            if seen == at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace
    sys.settrace(trace)
    try:
        need(name)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False

def tried(name, at):
    child = os.fork()
    if child == 0:
        was = interrupted(at, name)
        need(name)
        __import__(name)
        os._exit(0 if was else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for name in sys.argv[1:]:
    at = 1
    while (code := tried(name, at)) == 0:
        at += 1
    assert code == 1, (name, at, code)
    assert at > 5, at
"""


@pytest.mark.parametrize("name", ["numpy", "convex"])
def test_an_interrupt_does_not_tear_an_import_apart(name: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, name], cwd=ROOT, check=True, timeout=300)


def test_what_cannot_be_imported_says_so() -> None:
    program = "from convexorm.late import need\nneed('no_such_package_of_anybody')"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: No module named 'no_such_package_of_anybody'" in run.stderr
