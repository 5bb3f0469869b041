"""The functions that a Convex project runs for this library, as files to copy into it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from convexorm.errors import InvalidRequestError
from convexorm.projects.files import body_of, stamped

__all__ = ["functions"]

_PACKAGE = Path(__file__).parents[1]


def functions(*, mastra: bool = False) -> dict[str, str]:
    """The text of each file, by its path in a project's folder of functions; with `mastra` those of its stores, too.

    Raises InvalidRequestError if this installation does not carry them.
    """
    bundled = _PACKAGE / "functions"
    source = bundled if bundled.is_dir() else _PACKAGE.parent / "convex"
    if not (source / "orm.ts").is_file():
        raise InvalidRequestError("this installation does not carry the functions; install the wheel, or use a checkout")
    says = f"Copied by `python -m convexorm functions` of convexorm {version('convexorm')}; run it again after an upgrade."
    paths = [source / "orm.ts", *sorted((source / "orm").rglob("*.ts"))]
    paths += sorted((source / "mastra").rglob("*.ts")) if mastra else []
    texts = {path.relative_to(source).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    return {name: stamped(says, body_of(text) or text) for name, text in texts.items()}
