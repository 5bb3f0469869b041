"""The command line: `python -m convexorm schema MODULE …` and `python -m convexorm functions FOLDER`.

`schema` writes the tables of the models in some modules as TypeScript, or with `--check` fails where the file differs.
`functions` copies the functions that a Convex deployment runs for this library into a Convex project.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from convexorm.errors import ConvexORMError, InvalidRequestError
from convexorm.model import Model
from convexorm.schema import Schema, Table, to_typescript

__all__ = ["main", "models_of"]


def models_of(module_name: str) -> Iterator[type[Model]]:
    """The mapped models a module defines or imports, in the order of its names."""
    for value in vars(importlib.import_module(module_name)).values():
        if isinstance(value, type) and issubclass(value, Model) and "__mapper__" in vars(value):
            yield value


def _schema(arguments: argparse.Namespace) -> int:
    if "" not in sys.path:  # a console script looks for modules beside itself, `python -m` in the working directory
        sys.path.insert(0, "")
    renames = dict(arguments.rename)
    tables: dict[type[Model], Table] = {}
    for module in arguments.modules:
        models = list(models_of(module))
        if not models:
            raise InvalidRequestError(f"module {module} has no models; name the modules that define them")
        for model in models:
            table = model.__mapper__.table
            tables[model] = table.renamed(renames.get(table.name, table.name))
    text = to_typescript(Schema.of(tables.values()))
    if arguments.out is None:
        sys.stdout.write(text)
        return 0
    if not arguments.check:
        arguments.out.write_text(text, encoding="utf-8")
        return 0
    found = arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else ""
    if found == text:
        return 0
    difference = difflib.unified_diff(
        found.splitlines(keepends=True), text.splitlines(keepends=True), str(arguments.out), "the models"
    )
    sys.stderr.writelines(difference)
    sys.stderr.write(f"{arguments.out} does not say what the models say; write it again without --check\n")
    return 1


def _renaming(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW")
    return old, new


def _functions(arguments: argparse.Namespace) -> int:
    package = Path(__file__).parent
    bundled = package / "functions"
    source = bundled if bundled.is_dir() else package.parent / "convex"
    if not (source / "orm.ts").is_file():
        sys.stderr.write("this installation does not carry the functions; install the wheel, or use a checkout\n")
        return 1
    shutil.copytree(source / "orm", arguments.folder / "orm", dirs_exist_ok=True)
    shutil.copy2(source / "orm.ts", arguments.folder / "orm.ts")
    sys.stdout.write(
        f"wrote {arguments.folder / 'orm.ts'} and {arguments.folder / 'orm'}; deploy with `npx convex deploy`\n"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    parser = argparse.ArgumentParser(prog="convexorm", description="Models and functions of a Convex deployment.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    schema = commands.add_parser("schema", help="write the models of some modules as schema.ts")
    schema.add_argument("modules", nargs="+", metavar="MODULE", help="such as myapp.models")
    schema.add_argument("--out", type=Path, help="the file; standard output without it")
    schema.add_argument("--check", action="store_true", help="write nothing, fail if the file of --out differs")
    schema.add_argument(
        "--rename", action="append", default=[], type=_renaming, metavar="OLD=NEW", help="give a table another name"
    )
    schema.set_defaults(run=_schema)
    functions = commands.add_parser("functions", help="copy the Convex functions into a Convex project")
    functions.add_argument("folder", type=Path, help="the project's folder of functions, usually convex")
    functions.set_defaults(run=_functions)
    arguments = parser.parse_args(argv)
    if arguments.run is _schema and arguments.check and arguments.out is None:
        schema.error("--check compares with the file that --out names")
    try:
        return int(arguments.run(arguments))
    except (ConvexORMError, ModuleNotFoundError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
