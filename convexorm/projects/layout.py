"""`Project`: where a Convex project has its parts."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from convexorm.errors import InvalidRequestError

__all__ = ["Project"]

_DEFAULT = "convex"


@attrs.frozen
class Project:
    """A Convex project on disk: its folder, and the folder of its functions."""

    root: Path
    functions: Path

    @classmethod
    def at(cls, folder: Path) -> Project:
        """The project that a folder is, or whose functions it holds.

        Raises InvalidRequestError for a folder that is not there, and for one that is no Convex project.
        """
        if not folder.is_dir():
            raise InvalidRequestError(f"{folder} is no folder")
        if _has_functions(folder):  # before package.json: a folder of functions may have one of its own
            return cls(_root_of(folder), folder)
        named = _named(folder)
        if named is not None:
            functions = folder / named
            if not functions.is_dir():
                raise InvalidRequestError(
                    f"{folder / 'convex.json'} names {named!r} for the functions, and it is no folder"
                )
            return cls(folder, functions)
        if (folder / _DEFAULT).is_dir():
            return cls(folder, folder / _DEFAULT)
        if folder.name == _DEFAULT and (folder.parent / "package.json").is_file():
            return cls(folder.parent, folder)
        raise InvalidRequestError(
            f"{folder} is no Convex project: it has neither a folder {_DEFAULT!r}, nor a convex.json that names another, "
            "nor a schema of its own"
        )

    @classmethod
    def near(cls, folder: Path) -> Project:
        """The project that a folder lies in. Raises InvalidRequestError where there is none."""
        for place in (folder, *folder.resolve().parents):
            if (place / "package.json").is_file() and (_named(place) or (place / _DEFAULT).is_dir()):
                return cls.at(place)
        raise InvalidRequestError(
            f"{folder} lies in no Convex project (a package.json and a folder {_DEFAULT!r}, or a convex.json that names "
            "another); name it with --convex"
        )

    def schema_file(self) -> Path | None:
        """The file of the schema."""
        return next((file for name in ("schema.ts", "schema.js") if (file := self.functions / name).is_file()), None)


def _has_functions(folder: Path) -> bool:
    return (folder / "_generated").is_dir() or any((folder / name).is_file() for name in ("schema.ts", "schema.js"))


def _root_of(functions: Path) -> Path:
    resolved = functions.resolve()
    return next((place for place in resolved.parents if (place / "package.json").is_file()), resolved.parent)


def _named(folder: Path) -> str | None:
    """The folder of functions that a convex.json names."""
    file = folder / "convex.json"
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequestError(f"{file} is no JSON") from None
    named = told.get("functions") if isinstance(told, dict) else None
    return named if isinstance(named, str) and named else None
