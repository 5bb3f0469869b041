"""`python -m bench [NAME …]`: run the measurements, one process each, and print their tables.

`embedded`, `instructions` and `relations` beside SQLAlchemy, `http` beside bare httpx2, `costs` what operations cost on
Convex, `live` what watches take, `conversations` real ones, `vectors` beside numpy, faiss and the npm package.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

NAMES = ("costs", "conversations", "embedded", "http", "instructions", "live", "relations", "vectors")


def main(names: list[str]) -> int:
    for name in names or [name for name in NAMES if find_spec(f"bench.{name}")]:
        status = subprocess.call([sys.executable, "-m", f"bench.{name}"])
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
