"""Types of the results of a team's functions, as a checker infers them."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import Any, assert_type

from convexorm import AsyncFunctions, Functions, Mapped, Model, Session, connect


class Task(Model, table="typed_function_tasks"):
    text: Mapped[str]


functions = Functions(connect("memory:"))
assert_type(functions.query("a:b"), Any)
assert_type(functions.query("a:b", {"x": 1}), Any)
assert_type(functions.query("a:b", {"x": 1}, returns=int), int)
assert_type(functions.mutation("a:b", returns=list[Task]), list[Task])
assert_type(functions.action("a:b", returns=Task, session=Session(connect("memory:"))), Task)


async def awaited(deployed: AsyncFunctions) -> None:
    assert_type(await deployed.query("a:b"), Any)
    assert_type(await deployed.query("a:b", returns=dict[str, Task]), dict[str, Task])
    assert_type(await deployed.mutation("a:b", returns=int), int)
