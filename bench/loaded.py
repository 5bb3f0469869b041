"""How much a process grows when it loads messages: `python -m bench.loaded SIDE ROWS PATH` prints bytes.

The messages are stored by another process's worth of work first, in commits of some thousands, so that what storing them
takes is there before the measurement begins.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from uuid import uuid4

from bench.peers import Alchemy, Ours, Side, values

SIDES: dict[str, type[Side]] = {"ours": Ours, "alchemy": Alchemy}
_PAGE = 4096
_BATCH = 2_000


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _fill(side: Side, rows: int) -> None:
    for first in range(0, rows, _BATCH):
        side.insert([values(number, str(uuid4())) for number in range(first, min(first + _BATCH, rows))])


def main(name: str, rows: int, path: Path) -> None:
    side = SIDES[name](path)
    _fill(side, rows)
    side.get(side.last("thread-0")[0].id)
    gc.collect()
    before = _resident()
    loaded = side.all()
    texts = [one.role for one in loaded]
    gc.collect()
    grown = _resident() - before
    assert len(texts) == rows
    side.close()
    print(grown)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
