"""Watches over connections that are cut, and cut again, while others commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx2
import pytest

from convexorm import Session
from convexorm.deployments.remote.live import connection
from tests.conftest import ROOT, Host, serve_host
from tests.models import Task
from tests.storm.conftest import Storm

WATCHES = 4


@pytest.fixture
def host() -> Iterator[Host]:
    yield from serve_host(ROOT / "tests" / "functions")


def test_cut_watches(storm: Storm, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last state is everybody's, states come in the order of commits, and nothing waits for ever."""
    monkeypatch.setattr(connection, "BACKOFF", 0.02)
    commits, cuts = 250 * storm.scale, 10 * storm.scale
    owners = [f"o{number}" for number in range(WATCHES)]
    expected = dict.fromkeys(owners, 0)
    plan = [storm.chance.choice(owners) for _ in range(commits)]
    at = set(storm.chance.sample(range(commits), cuts))
    for owner in plan:
        expected[owner] += 1
    seen: dict[str, list[list[str]]] = {owner: [] for owner in owners}

    def follow(owner: str) -> None:
        with host.connect() as deployment, deployment.watch(Task.query().by_index("by_owner", owner_id=owner)) as live:
            for change in live:
                seen[owner].append([task.text for task in change.items])
                if len(change.items) == expected[owner]:
                    return

    watchers = [threading.Thread(target=follow, args=(owner,), daemon=True) for owner in owners]
    for watcher in watchers:
        watcher.start()
    headers = {"Authorization": f"Convex {host.key}"}
    cut = 0
    with host.connect() as deployment, Session(deployment) as session:
        for number, owner in enumerate(plan):
            session.add(Task(text=f"{number}", owner_id=owner))
            session.commit()
            if number in at:
                cut += httpx2.post(f"{host.url}/disconnect", headers=headers).raise_for_status().json()["disconnected"]
    for watcher in watchers:
        watcher.join(120)
        assert not watcher.is_alive()
    for owner, states in seen.items():
        whole = [str(number) for number, one in enumerate(plan) if one == owner]
        assert states[-1] == whole
        assert all(state == whole[: len(state)] for state in states)
        assert [len(state) for state in states] == sorted({len(state) for state in states})
    storm.report(commits=commits, cuts=cuts, connections_cut=cut, states=sum(map(len, seen.values())))
