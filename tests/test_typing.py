"""What type checkers infer: the files in `tests/typing` are right under mypy --strict, and under pyright where it runs.

Expected errors carry `# type: ignore[...]`; one that disappears is an unused comment, which fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = ROOT / "tests" / "typing"


def test_mypy_infers_exact_types(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), str(FILES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_infers_exact_types() -> None:
    pytest.importorskip("pyright")
    node = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(FILES)],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{node}{os.pathsep}{os.environ['PATH']}", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
    )
    if "error" not in done.stdout and done.returncode not in (0, 1):
        pytest.skip(f"pyright does not run here: {(done.stdout + done.stderr)[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
