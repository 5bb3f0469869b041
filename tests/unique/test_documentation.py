"""The TypeScript that `docs/unique.md` shows keeps the rule, and has the types it shows."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from convexorm import Session
from tests.conftest import ROOT, Host, node
from tests.unique.conftest import emptied
from tests.unique.models import Customer


def test_a_mutation_of_the_page_renames_where_the_email_is_free(unique_host: Host) -> None:
    def rename(id: str | None, email: str) -> Any:
        request = {"path": "customers:rename", "args": {"id": id, "email": email}, "format": "json"}
        return httpx2.post(f"{unique_host.url}/api/mutation", json=request).json()

    with unique_host.connect() as deployment, Session(emptied(deployment)) as session:
        ada, bob = Customer(id="c1", email="ada@x"), Customer(id="c2", email="bob@x")
        session.add_all([ada, bob])
        session.commit()
        assert rename(bob.convex_id, "rob@x")["status"] == "success"
        refused = rename(bob.convex_id, "ada@x")
        assert refused["errorData"]["code"] == "Taken"
        assert refused["errorData"]["fields"] == ["email"]
        assert "ada@x" not in json.dumps(refused)
        session.refresh(bob)
        assert bob.email == "rob@x"


def test_it_is_typed(project: Path) -> None:
    tsc = [node(), str(ROOT / "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck"]
    tsc += ["--target", "ES2022", "--module", "ESNext", "--moduleResolution", "Bundler"]
    done = subprocess.run([*tsc, "customers.ts"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    wrong = (project / "customers.ts").read_text(encoding="utf-8").replace('"customers", id)', '"seats", id)')
    (project / "wrong.ts").write_text(wrong, encoding="utf-8")
    done = subprocess.run([*tsc, "wrong.ts"], cwd=project, capture_output=True, text=True)
    (project / "wrong.ts").unlink()
    assert re.match(r"wrong\.ts\(\d+,\d+\): error TS", done.stdout)
