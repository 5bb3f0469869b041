"""The memory of loaded messages: `python -m bench.loaded SIDE ROWS PATH` prints the bytes that Python holds for them.

What SQLite keeps of the file is not counted, since it is not the instances'. With `fill` behind them it stores the messages
instead, so that another process has none of what that takes.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path
from uuid import uuid4

from bench.peers import Alchemy, Ours, Side, values

SIDES: dict[str, type[Side]] = {"ours": Ours, "alchemy": Alchemy}
_BATCH = 2_000


def _fill(side: Side, rows: int) -> None:
    for first in range(0, rows, _BATCH):
        side.insert([values(number, str(uuid4())) for number in range(first, min(first + _BATCH, rows))])


def main(name: str, rows: int, path: Path, *, fill: bool) -> None:
    side = SIDES[name](path)
    if fill:
        _fill(side, rows)
        side.close()
        return
    side.get(side.last("thread-0")[0].id)
    gc.collect()
    tracemalloc.start()
    loaded = side.all()
    assert len([one.role for one in loaded]) == rows
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    side.close()
    print(held)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), fill="fill" in sys.argv[4:])
