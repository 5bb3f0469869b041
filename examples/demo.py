"""Conversations stored, paged, searched, changed and deleted, with what happens shown on the terminal.

    python examples/demo.py

runs on an embedded deployment, a SQLite file in a temporary folder. With CONVEX_URL and CONVEX_ADMIN_KEY set the same
program runs on that Convex deployment, and removes what it has stored there.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from convexorm import ConvexORMError, Deployment, Query, Session, StaleDataError, connect
from mastra_convex import ConvexStore, Message, Thread

T = TypeVar("T")

RUN = uuid4().hex[:6]
"""Makes the ids of this run differ from those of any other."""
RESOURCE = f"ada-{RUN}"
START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)

LISBON = [
    ("user", "I have four days in Lisbon. What should I not miss?"),
    ("assistant", "Alfama on foot, early, before the trams fill up. Then the Gulbenkian for an afternoon."),
    ("user", "And if it rains?"),
    ("assistant", "The tile museum. It is in a convent, and almost all of it is under a roof."),
    ("user", "I do not eat fish."),
    ("assistant", "Noted. Then look for 'tascas' that list açorda without seafood; I can mark some."),
    ("user", "Do that. My hotel is near Rossio."),
    ("assistant", "Three tascas within ten minutes of Rossio are on your list now."),
]
BREAD = [
    ("user", "My sourdough is flat."),
    ("assistant", "How warm is your kitchen, and how long did it rise?"),
    ("user", "19 degrees, four hours."),
    ("assistant", "Too cold for four hours. Give it seven, or find it a spot at 24 degrees."),
]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with deployment_for(Path(folder)) as deployment:
                show(deployment)
        except ConvexORMError as error:
            print(f"\n{red(type(error).__name__)}: {error}", file=sys.stderr)
            return 1
    return 0


def deployment_for(folder: Path) -> Deployment:
    """Convex where the environment names a deployment, else a SQLite file."""
    if os.environ.get("CONVEX_URL"):
        return connect()
    return connect(f"sqlite:///{folder / 'demo.db'}")


def show(deployment: Deployment) -> None:
    store = ConvexStore(id="demo", deployment=deployment)
    print(f"\n  {bold('convexorm')} on {bold(repr(deployment).strip('<>'))}")
    lisbon, bread, log = (f"{name}-{RUN}" for name in ("lisbon", "bread", "log"))
    assert store.memory.get_thread_by_id(thread_id=lisbon) is None  # raises where the deployment cannot be reached
    try:
        store_conversations(store, lisbon, bread, log)
        page_through(store, deployment, lisbon, log)
        search(store, deployment, log)
        change(store, deployment, lisbon)
    finally:
        delete(store, lisbon, bread, log)
    print(dim("\n  The same program runs on Convex with CONVEX_URL and CONVEX_ADMIN_KEY set.\n"))


# -- the five acts -------------------------------------------------------------------------------------------------


def store_conversations(store: ConvexStore, lisbon: str, bread: str, log: str) -> None:
    title("Store", "a batch of messages is one commit: all of them, or none")
    for thread_id, name, lines in (
        (lisbon, "Four days in Lisbon", LISBON),
        (bread, "Flat sourdough", BREAD),
        (log, "Log of the greenhouse", greenhouse()),
    ):
        store.memory.save_thread(thread={"id": thread_id, "resource_id": RESOURCE, "title": name, "created_at": START})
        messages = [message(thread_id, number, *line) for number, line in enumerate(lines)]
        saved, ms = timed(lambda messages=messages: store.memory.save_messages(messages=messages))  # type: ignore[misc]
        row(name, f"{len(saved.messages)} messages", ms)
    print()
    bubbles(store.memory.list_messages(thread_id=lisbon, per_page=4).messages)


def page_through(store: ConvexStore, deployment: Deployment, lisbon: str, log: str) -> None:
    title("Page", "a cursor is a place in an index: every page reads what it shows and no more")
    query = Message.query().by_index("by_thread_created", thread_id=log).order("desc")
    with Session(deployment) as session:
        cursor = None
        for number in range(1, 4):
            page, ms = timed(lambda cursor=cursor: session.page(query, 50, cursor))  # type: ignore[misc]
            cursor = page.cursor
            newest, oldest = page.items[0].created_at, page.items[-1].created_at
            row(f"page {number}, newest first", f"{newest:%d %b %H:%M} … {oldest:%d %b %H:%M}, {len(page.items)}", ms)
    last, ms = timed(
        lambda: store.memory.list_messages(
            thread_id=lisbon,
            per_page=2,
            order_by={"field": "created_at", "direction": "DESC"},
            include_total=False,
        )
    )
    row("the last two of Lisbon", "more behind them" if last.has_more else "all of them", ms)
    print()
    bubbles(reversed(last.messages))


def search(store: ConvexStore, deployment: Deployment, log: str) -> None:
    title("Search", "an index serves the range, the rest is filtered where the data is")
    morning = START + timedelta(hours=24)
    query = (
        Message.query()
        .by_index("by_thread_created", thread_id=log)
        .where(Message.created_at >= morning, Message.created_at < morning + timedelta(hours=12))
        .where(Message.content["metadata"]["alarm"] == True)  # noqa: E712
    )
    for line in query.explain().splitlines():
        print(f"    {dim(line)}")
    found, ms = timed(lambda: read(deployment, query))
    print()
    row("alarms of the second day, 9:00 to 21:00", f"{len(found)} of {len(greenhouse())}", ms)
    bubbles(found)
    page, ms = timed(lambda: store.memory.list_messages(thread_id=log, filter={"metadata": {"alarm": True}}, per_page=1))
    row("alarms in all", f"{page.total}", ms)


def change(store: ConvexStore, deployment: Deployment, lisbon: str) -> None:
    title("Change", "two writers of one field: the second is told, nothing is lost")
    with Session(deployment) as mine, Session(deployment) as yours:
        my_thread, your_thread = mine.get(Thread, lisbon), yours.get(Thread, lisbon)
        assert my_thread is not None
        assert your_thread is not None
        my_thread.title = "Lisbon, without fish"
        mine.commit()
        your_thread.title = "Lisbon in the rain"
        try:
            yours.commit()
        except StaleDataError as error:
            row("the second commit", red(f"{type(error).__name__}, {error.reason}: {', '.join(error.fields)}"))
        yours.rollback()

        def retitle(session: Session) -> str | None:
            thread = session.one(Thread.query().by_index("by_record_id", id=lisbon))
            thread.title = f"{thread.title}, and in the rain"
            return thread.title

        result, ms = timed(lambda: yours.transact(retitle))
        row("the same in transact()", green(str(result)), ms)
    merged, ms = timed(lambda: store.memory.update_thread(id=lisbon, metadata={"city": "Lisboa", "days": 4}))
    row("metadata merged", str(merged.metadata), ms)


def delete(store: ConvexStore, *threads: str) -> None:
    title("Delete", "a thread goes with its messages, in one commit")
    for thread_id in threads:
        _, ms = timed(lambda thread_id=thread_id: store.memory.delete_thread(thread_id=thread_id))  # type: ignore[misc]
        row(f"thread {thread_id}", "deleted", ms)
    left = store.memory.list_threads(filter={"resource_id": RESOURCE})
    messages = store.memory.list_messages_by_resource_id(resource_id=RESOURCE)
    row("left", f"{left.total} threads, {messages.total} messages")


# -- what is talked about ------------------------------------------------------------------------------------------


def greenhouse() -> list[tuple[str, str]]:
    """Two days of a greenhouse, a reading every ten minutes."""
    lines = []
    for number in range(288):
        hour = (9 + number / 6) % 24
        degrees = 21 + 9 * max(0.0, 1 - abs(hour - 14) / 5) + (number * 7 % 5) / 4
        warning = ": too warm, opening the roof" if degrees > 30 else ""
        lines.append(("assistant", f"{degrees:.1f} degrees{warning}"))
    return lines


def message(thread_id: str, number: int, role: str, text: str) -> dict[str, object]:
    return {
        "id": f"{thread_id}-{number}",
        "thread_id": thread_id,
        "resource_id": RESOURCE,
        "role": role,
        "created_at": START + timedelta(minutes=10 * number),
        "content": {
            "format": 2,
            "parts": [{"type": "text", "text": text}],
            "metadata": {"alarm": "too warm" in text},
        },
    }


def read(deployment: Deployment, query: Query[Message]) -> list[Message]:
    with Session(deployment) as session:
        return session.all(query)


# -- how it looks --------------------------------------------------------------------------------------------------

COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
WIDTH = min(shutil.get_terminal_size((96, 24)).columns, 96)


def styled(code: str) -> Callable[[str], str]:
    return lambda text: f"\033[{code}m{text}\033[0m" if COLOR else text


bold, dim, red, green, blue = (styled(code) for code in ("1", "2", "31", "32", "34"))


def title(name: str, says: str) -> None:
    print(f"\n  {bold(name)}  {dim(says)}\n")


def row(name: str, value: str, ms: float | None = None) -> None:
    took = "" if ms is None else dim(f"  {ms:.1f} ms")
    print(f"    {name:<42}{value}{took}")


def bubbles(messages: Iterable[Message]) -> None:
    """Messages as a chat: who asks on the left, who answers on the right."""
    for one in messages:
        text = one.content["parts"][0]["text"]
        lines = textwrap.wrap(text, max(20, WIDTH * 5 // 9))
        broad = max(map(len, lines))
        color, indent = (blue, 6) if one.role == "user" else (green, max(6, WIDTH - broad - 6))
        margin = " " * indent
        print(margin + color(f"╭{'─' * (broad + 2)}╮"))
        for line in lines:
            print(margin + color("│ ") + line.ljust(broad) + color(" │"))
        print(margin + color(f"╰{'─' * (broad + 2)}╯") + dim(f" {one.created_at:%H:%M}"))


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """What `run` answers, and the milliseconds it took."""
    start = time.perf_counter()
    result = run()
    return result, (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    sys.exit(main())
