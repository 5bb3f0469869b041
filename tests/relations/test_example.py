"""The worked example says the same on every deployment."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from convexorm import connect
from tests.conftest import ADMIN_KEY, KINDS, ROOT, start_host, stop_host

SAID = """\
stored 3 orders; the figs are of order 1
Ada, 04 May: 2 lines, 7.50, tags: ['gift of Ada']
Ada, 05 May: 1 lines, 9.00, tags: []
the last of Ada is of 05 May
2 orders are gifts, 1 of them go abroad
Ada has 1 order, Bob has 2; the tags: ['moved']
refused because of Order.payments
deleted 8 documents with Bob, 3 with Ada
"""


@pytest.fixture(params=[kind for kind in KINDS if kind != "convex"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param != "host":
        yield "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/shop.db"
        return
    run = [sys.executable, "-m", "convexorm"]
    options = {"cwd": ROOT, "check": True, "capture_output": True, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    subprocess.run([*run, "functions", str(tmp_path / "convex")], **options)  # type: ignore[call-overload]
    subprocess.run([*run, "schema", "examples.shop", "--out", str(tmp_path / "convex/schema.ts")], **options)  # type: ignore[call-overload]
    monkeypatch.setenv("NODE_PATH", str(ROOT / "node_modules"))
    process, address = start_host(tmp_path / "convex")
    try:
        yield address
    finally:
        stop_host(process)


def test_the_shop_says_the_same_everywhere(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    shop = importlib.import_module("examples.shop")
    with connect(url, ADMIN_KEY) as deployment:
        shop.main(deployment)
        assert capsys.readouterr().out == SAID
        shop.main(deployment)  # nothing of it is left
