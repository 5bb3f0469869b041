"""This library in somebody's Convex project: its functions beside theirs, and two lines in their schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from convexorm.errors import InvalidRequestError
from convexorm.projects.files import read_file, whose, write_files
from convexorm.projects.functions import functions
from convexorm.projects.layout import Project

__all__ = ["Installation", "Upgraded"]

_MASTRA = "mastra/tables.ts"


@attrs.frozen
class Upgraded:
    """Files that were written, and those that were left alone because somebody has edited them."""

    written: list[Path]
    edited: list[Path]


@attrs.frozen
class Installation:
    """The files of this library in a project; `mastra` says whether those of its stores belong to them."""

    project: Project
    mastra: bool

    @classmethod
    def found(cls, project: Project, *, mastra: bool) -> Installation:
        """What there is to be in a project: the stores' files too, if they are asked for or are there already."""
        return cls(project, mastra or whose(project.functions / _MASTRA) in ("ours", "edited"))

    def files(self) -> Mapping[str, str]:
        return functions(mastra=self.mastra)

    def install(self, *, force: bool) -> list[Path]:
        """Write what is missing or old; the paths. Raises InvalidRequestError as `write_files` does."""
        return write_files(self.project.functions, self.files(), force=force)

    def upgrade(self) -> Upgraded:
        """Write what is missing or old, but for what is not ours any more."""
        files = self.files()
        places = {name: self.project.functions / name for name in files}
        foreign = [str(path) for path in places.values() if whose(path) == "theirs"]
        if foreign:
            raise InvalidRequestError(
                f"nothing was written. {foreign[0]} was not written by this command: move it away, or write it with --force"
            )
        edited = {name for name, path in places.items() if whose(path) == "edited"}
        written = write_files(self.project.functions, {name: text for name, text in files.items() if name not in edited})
        return Upgraded(written, [places[name] for name in files if name in edited])

    def drift(self) -> list[str]:
        """What is not as this version has it, a line each."""
        lines = []
        for name, text in self.files().items():
            path = self.project.functions / name
            match whose(path):
                case "nobody's":
                    lines.append(f"{path} is missing")
                case "theirs":
                    lines.append(f"{path} is not ours")
                case "edited":
                    lines.append(f"{path} was edited")
                case "ours" if read_file(path) != text:
                    lines.append(f"{path} is of another version")
        return [*lines, *(f"the schema lacks: {line}" for line in self.lines())]

    def lines(self) -> list[str]:
        """The lines that the project's schema lacks."""
        file = self.project.schema_file()
        said = "" if file is None else read_file(file) or ""
        tables = {"ormTables": "./orm/tables", **({"mastraTables": "./mastra/tables"} if self.mastra else {})}
        wanted = [(f'import {{ {name} }} from "{module}";', f"...{name}") for name, module in tables.items()]
        missing = [(bring, spread) for bring, spread in wanted if spread not in said]
        return [*(bring for bring, _ in missing), *(f"{spread}," for _, spread in missing)]
