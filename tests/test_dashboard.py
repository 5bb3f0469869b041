"""The dashboard of the examples, with a second process that writes what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from mastra_convex import ConvexStore
from tests.conftest import ROOT, Host


@pytest.mark.parametrize("kind", ["file", "host"])
def test_the_dashboard_follows_what_another_process_writes(kind: str, fresh_host: Host, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}" if kind == "file" else fresh_host.url
    key = None if kind == "file" else fresh_host.key
    environment = {**os.environ, "CONVEX_ADMIN_KEY": fresh_host.key, "PYTHONIOENCODING": "utf-8"}
    environment |= {"COLUMNS": "120", "LINES": "40"}
    program = [sys.executable, "examples/dashboard.py", url]
    writing = [*program, "--write", "--states", "2", "--pause", "0"]
    subprocess.run(writing, cwd=ROOT, env=environment, check=True, timeout=60)
    with ConvexStore(id="test", deployment_url=url, admin_auth_token=key) as store:
        thread = {"id": "t", "resource_id": "ada", "title": "[red]Hi[/red]\x1b[2J", "updated_at": "2999-01-01T00:00:00Z"}
        store.memory.save_thread(thread=thread)
        content = {"format": 2, "parts": [{"type": "text", "text": "word"}, {"type": "file"}]}
        said = {"thread_id": "t", "resource_id": "ada", "role": "user", "content": content}
        numbers = count()
        with subprocess.Popen(
            [*program, "--states", "4"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
        ) as shown:
            while shown.poll() is None:  # the page sees as many as it is fast enough for
                store.memory.save_messages(messages=[{**said, "id": f"m{next(numbers)}"}])
            page = shown.stdout.read() if shown.stdout else ""
    assert shown.returncode == 0
    assert "[red]Hi[/red]" in page
    assert "\x1b" not in page
    assert "About plants, 1" in page
    assert "word [file]" in page
    assert "completed" in page
