"""A page in the terminal that follows the threads, messages and tasks of Mastra agents, as they are written by others.

    python examples/dashboard.py sqlite:///agent.db            # in one terminal
    python examples/dashboard.py sqlite:///agent.db --write    # in another: somebody who talks, works and waits

For a deployment on Convex give its URL, with its key in CONVEX_ADMIN_KEY. It needs `rich`. Ctrl-C ends it, and so does
`--states N`, after so many states.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from convexorm import Deployment, connect
from mastra_convex import AsyncConvexStore, BackgroundTask, ConvexStore, Message, Thread

THREADS = Thread.query().by_index("by_updated").order("desc").limit(8)
TASKS = BackgroundTask.query().by_index("by_created").order("desc").limit(8)
LAST = 12
COLORS = {"pending": "yellow", "running": "cyan", "completed": "green", "failed": "red"}


class Page:
    """What is shown at a moment."""

    def __init__(self) -> None:
        self.threads: Sequence[Thread] = ()
        self.tasks: Sequence[BackgroundTask] = ()
        self.messages: Sequence[Message] = ()
        self.new: frozenset[str] = frozenset()
        """The ids of the messages that the last change has brought."""
        self.connected = False

    def __rich__(self) -> Layout:
        page = Layout()
        page.split_row(Layout(name="left", ratio=2), Layout(self._conversation(), ratio=3))
        page["left"].split_column(Layout(self._threads()), Layout(self._tasks()))
        return page

    def _threads(self) -> Panel:
        table = Table.grid("", "", padding=(0, 1), expand=True)
        for thread in self.threads:
            table.add_row(plain(thread.title or thread.id), f"[dim]{thread.updated_at:%H:%M:%S}")
        state = "[green]live" if self.connected else "[red]not connected"
        return Panel(table, title="threads", subtitle=state, title_align="left")

    def _tasks(self) -> Panel:
        table = Table.grid("", "", padding=(0, 1), expand=True)
        for task in self.tasks:
            table.add_row(plain(task.tool_name), f"[{COLORS.get(task.status, 'white')}]{task.status}")
        return Panel(table, title="tasks", title_align="left")

    def _conversation(self) -> Panel:
        table = Table.grid("", "", padding=(0, 1), expand=True)
        for message in self.messages:
            style = "bold" if message.id in self.new else ""
            table.add_row(Text(plain(message.role).plain, "dim"), plain(text_of(message)), style=style)
        title = plain(self.threads[0].title or self.threads[0].id if self.threads else "nobody has said anything")
        return Panel(table, title=title, title_align="left")


def plain(text: str) -> Text:
    """What others have written, and no more: neither markup nor what moves a terminal's cursor."""
    return Text("".join(one if one.isprintable() else " " for one in text))


def text_of(message: Message) -> str:
    """The words of a message; what else it has goes by its type."""
    content: Any = message.content
    parts = content.get("parts", ()) if isinstance(content, dict) else ()
    return " ".join(part["text"] if part.get("type") == "text" else f"[{part.get('type')}]" for part in parts)


async def follow(deployment: Deployment, console: Console, states: int | None) -> None:
    """Show the page, and its newest conversation, until it was shown so often."""
    page, store = Page(), AsyncConvexStore(id="dashboard", deployment=deployment)
    numbers = count(1)
    talking: asyncio.Task[None] | None = None
    shown: str | None = None
    ended = asyncio.Event()

    def connected(now: bool) -> None:
        page.connected = now

    with Live(page, console=console, screen=console.is_terminal, auto_refresh=False) as screen:

        def show() -> None:
            screen.refresh()
            if states is not None and next(numbers) >= states:
                ended.set()

        async def converse(thread_id: str) -> None:
            async with store.memory.watch_messages(thread_id=thread_id, last=LAST) as conversation:
                async for change in conversation:
                    page.messages = change.items
                    page.new = frozenset(message.id for message in change.added)
                    show()

        async def overview() -> None:
            nonlocal talking, shown
            async with deployment.watch(THREADS, TASKS, on_state=connected) as live:
                async for threads, tasks in live:
                    page.threads, page.tasks = threads.items, tasks.items
                    newest = threads.items[0].id if threads.items else None
                    if newest is not None and newest != shown:
                        shown = newest
                        if talking is not None:
                            talking.cancel()
                        talking = asyncio.create_task(converse(newest))
                    show()

        watching = asyncio.create_task(overview())
        ending = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait((watching, ending), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for task in (watching, ending, talking):
                if task is not None:
                    task.cancel()


def write(store: ConvexStore, pause: float, turns: int | None) -> None:
    """Talk in two threads, and let a tool work now and then."""
    for number in count() if turns is None else range(turns):
        subject = number // 6 % 2 + 1
        thread, of = f"conversation {subject}", {"resource_id": "ada"}
        store.memory.save_thread(thread={"id": thread, "title": f"About plants, {subject}", **of})
        said = {"user": f"Question {number}: does it need water?", "assistant": f"Answer {number}: it does."}
        for role, text in said.items():
            content = {"format": 2, "parts": [{"type": "text", "text": text}]}
            message = {"id": uuid4().hex, "thread_id": thread, "role": role, "content": content, **of}
            store.memory.save_messages(messages=[message])
            time.sleep(pause)
        task, names = uuid4().hex, {"tool_call_id": "call", "tool_name": "water", "agent_id": "gardener", "run_id": thread}
        store.background_tasks.create_task(task={"id": task, "status": "pending", **names})
        time.sleep(pause)
        store.background_tasks.update_task(task_id=task, update={"status": "completed", "completed_at": datetime.now(UTC)})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", default="sqlite:///agent.db", help="of the deployment")
    parser.add_argument("--write", action="store_true", help="talk and work instead of showing it")
    parser.add_argument("--states", type=int, help="end after so many states, or turns")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between what is written")
    given = parser.parse_args()
    with connect(given.url, os.environ.get("CONVEX_ADMIN_KEY")) as deployment, suppress(KeyboardInterrupt):
        if given.write:
            write(ConvexStore(id="dashboard", deployment=deployment), given.pause, given.states)
        else:
            asyncio.run(follow(deployment, Console(), given.states))


if __name__ == "__main__":
    main()
