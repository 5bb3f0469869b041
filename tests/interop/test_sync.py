"""The PyPI package `convex` subscribes on the local host, unchanged, to what this library reads and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import httpx2

from convexorm import Session
from convexorm.requests import Range, Read
from convexorm.wire import encode_reads
from tests.conftest import ROOT, Host
from tests.models import Task

# Its calls hold the interpreter's lock for as long as they wait, so they are in a process of their own.
_PROGRAM = """
import json, sys
import convex
url, key, arguments = sys.argv[1:]
client = convex.ConvexClient(url)
client.set_admin_auth(key)
for answer in client.subscribe("orm:read", json.loads(arguments)):
    print(len(answer["results"][0]["docs"]), flush=True)
"""


def _floats(value: Any) -> Any:
    """Numbers as JavaScript's, which is what arguments are to hold."""
    if isinstance(value, dict):
        return {name: _floats(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(one) for one in value]
    return float(value) if type(value) is int else value


def test_a_subscription_sees_commits_over_connections_that_are_cut(models_host: Host) -> None:
    read = Read(Range(Task.__mapper__.table, "by_owner", ("pypi",)))
    arguments = json.dumps(_floats(encode_reads([read])))
    command = [sys.executable, "-c", _PROGRAM, models_host.url, models_host.key, arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ})
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "0\n"
        with models_host.connect() as deployment, Session(deployment) as session:
            session.add(Task(text="a", owner_id="pypi"))
            session.commit()
            assert process.stdout.readline() == "1\n"
            headers = {"Authorization": f"Convex {models_host.key}"}
            cut = httpx2.post(f"{models_host.url}/disconnect", headers=headers).raise_for_status().json()
            assert cut == {"disconnected": 1}
            session.add(Task(text="b", owner_id="pypi"))
            session.add(Task(text="c", owner_id="somebody else"))
            session.commit()
        assert process.stdout.readline() == "2\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
