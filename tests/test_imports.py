"""What `import convexorm` leaves for later: packages that take long to import, until something needs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = ("numpy", "convex", "_convex", "httpx2", "h11", "ssl", "asyncio", "requests", "urllib.request", "email", "http")

USED = """
from convexorm import Index, IsoDatetime, Mapped, Model, Session, connect, field

class Task(Model, table="tasks", primary_key="id"):
    id: Mapped[str]
    due: Mapped[IsoDatetime | None] = field(default=None)
    rank: Mapped[float | None] = field(default=None)
    tags: Mapped[list[str]] = field(factory=list)
    by_task_id = Index("id")

with connect("memory:") as deployment, Session(deployment) as session:
    session.add_all([Task(id="a", rank=1.5), Task(id="b", tags=["x"])])
    session.commit()
    session.get_one(Task, "a").rank = 2.0
    session.commit()
    assert [task.tags for task in session.all(Task.query().by_index("by_task_id").where(Task.rank == None))] == [["x"]]
"""


def loaded(program: str) -> set[str]:
    """The modules that a process has once it has run a program."""
    program += "\nimport sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    return set(ran.stdout.split())


@pytest.mark.parametrize("program", ["import convexorm", USED], ids=["imported", "used"])
def test_what_takes_long_to_import_is_not_imported_before_it_is_needed(program: str) -> None:
    modules = loaded(program)
    assert "convexorm" in modules
    assert not modules.intersection(LATER)


def test_what_is_imported_later_is_found_by_the_names_it_always_had() -> None:
    program = """
from convexorm.deployments import RemoteDeployment
from convexorm.values import ConvexInt64
import convexorm.deployments, convexorm.values
assert RemoteDeployment.__name__ == "RemoteDeployment" and ConvexInt64(5).value == 5
assert not hasattr(convexorm.deployments, "Nothing") and not hasattr(convexorm.values, "Nothing")
"""
    assert {"convex", "httpx2", "ssl"} <= loaded(program)
