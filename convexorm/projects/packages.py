"""Which version of the npm package `convex` a project has, and which one the functions need."""

from __future__ import annotations

import json
import re
from pathlib import Path

from convexorm.errors import InvalidRequestError

__all__ = ["NEEDED", "require_convex"]

NEEDED = (1, 31, 7)
"""The oldest version of `convex` that the functions are typechecked and bundled with (`scripts/versions.ts`)."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def require_convex(folder: Path) -> str:
    """What the project around a folder of functions has, in words.

    Raises InvalidRequestError for a version that is too old. One that is not installed, as on a fresh checkout, or that
    cannot be read, is none.
    """
    needed = ".".join(map(str, NEEDED))
    found = _installed(folder.absolute())
    if found is None:
        return f"convex is not installed here yet; the functions need {needed} or newer"
    version = _VERSION.match(found)
    if version is not None and tuple(map(int, version.groups())) < NEEDED:
        raise InvalidRequestError(
            f"nothing was written. The project has convex {found[:40]}, and the functions need {needed} or newer: "
            "`npm install convex@latest`"
        )
    return f"convex {found[:40]} is installed; the functions need {needed} or newer"


def _installed(folder: Path) -> str | None:
    """The version in the nearest `node_modules`, where Node would find it."""
    for parent in folder.parents:
        try:
            text = (parent / "node_modules" / "convex" / "package.json").read_text(encoding="utf-8")
            version = json.loads(text)["version"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return version if isinstance(version, str) else None
    return None
