"""Taking back what was begun, to its end: a second interrupt, or a second cancellation, does not stop it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from convexorm import ConvexORMError

__all__ = ["undone"]

_INTERRUPTS = 8
"""How many interrupts it outlasts. Whoever insists longer wants an end, whatever is left."""


async def undone(undo: Callable[[], Awaitable[object]]) -> None:
    """Run `undo`, which can be run again wherever it was cut off, until it has come to its end.

    What interrupts it is raised afterwards. What cannot be taken back now, because the deployment refuses it or is gone, is
    left for whoever comes next.
    """
    interrupted: BaseException | None = None
    for _ in range(_INTERRUPTS):
        try:
            await undo()
        except ConvexORMError:
            break
        except (Exception, GeneratorExit):  # an error of ours; nobody waits for a coroutine that is closed
            raise
        except BaseException as error:
            interrupted = error
        else:
            break
    if interrupted is not None:
        raise interrupted
