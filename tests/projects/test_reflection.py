"""Schemas of TypeScript as modules of models, and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convexorm import InvalidRequestError
from convexorm.__main__ import main
from convexorm.exports import Export, ExportedTable
from convexorm.projects.layout import Project
from convexorm.projects.names import attribute_name, class_name, singular
from convexorm.projects.node import exported_schema
from convexorm.projects.reflection import module_of, ordered
from tests.conftest import ROOT

HEAD = """import { defineSchema, defineTable } from "convex/server";
import { Infer, v } from "convex/values";
"""

ODD = (
    HEAD
    + """import { shared } from "./shared";

export default defineSchema({
  events: defineTable(v.union(
    v.object({ type: v.literal("click"), x: v.number(), class: v.string() }),
    v.object({ type: v.literal("key"), code: v.optional(v.string()) }),
  )).index("by_type", ["type"]),
  "odd_names": defineTable({
    class: v.string(),
    "foo-bar": v.number(),
    fooBar: v.number(),
    foo_bar: v.number(),
    query: v.boolean(),
    _hidden: v.optional(v.string()),
    convexId: v.id("events"),
    email: v.string(),
  }).index("email", ["email"]).index("by-class", ["class", "fooBar"]),
  values: defineTable({
    ...shared,
    big: v.int64(),
    data: v.bytes(),
    any: v.any(),
    maybe: v.optional(v.any()),
    nothing: v.null(),
    both: v.optional(v.union(v.string(), v.null())),
    nullable: v.union(v.null(), v.number()),
    either: v.union(v.string(), v.number()),
    exact: v.union(v.literal(1), v.literal("one"), v.literal(true)),
    matrix: v.array(v.array(v.number())),
    nested: v.object({ a: v.optional(v.object({ "b-c": v.string() })), d: v.array(v.union(v.string(), v.null())) }),
    empty: v.object({}),
    ids: v.optional(v.union(v.id("events"), v.id("odd_names"))),
    id_or_text: v.union(v.id("events"), v.string()),
    inside: v.object({ kind: v.string(), at: v.number() }),
    untold: v.union(v.object({ a: v.string() }), v.object({ a: v.string(), b: v.string() })),
    record: v.record(v.string(), v.object({ n: v.number() })),
    five: v.optional(v.literal(-5n)),
    by_event: v.array(v.record(v.id("events"), v.object({ n: v.literal(9007199254740993n) }))),
    embedding: v.array(v.float64()),
  })
    .vectorIndex("by_embedding", { vectorField: "embedding", dimensions: 4, filterFields: ["either"] })
    .searchIndex("by_text", { searchField: "both" })
    .index("by_inside", ["kind", "inside.kind", "inside.at"]),
  names: defineTable({
    str: v.string(), list: v.array(v.string()), field: v.number(), self: v.string(), constructor: v.string(),
    inner: v.object({ dict: v.string(), int: v.number() }),
  }).index("lambda", ["self"]).index("by_constructor", ["constructor", "str"]),
  anything: defineTable(v.any()).index("by_x", ["x"]),
}, { schemaValidation: false });
"""
)


def project(folder: Path, schema: str, **files: str) -> Project:
    """A Convex project with this schema."""
    functions = folder / "convex"
    functions.mkdir()
    (folder / "package.json").write_text('{"type": "commonjs"}')  # as npm makes it, whatever is in the files
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    (functions / "schema.ts").write_text(schema)
    for name, text in files.items():
        (functions / f"{name}.ts").write_text(text)
    return Project.at(folder)


def test_an_app_becomes_a_module_as_if_by_hand() -> None:
    found = exported_schema(Project.at(ROOT / "examples" / "app"))
    source = module_of(Export.told(found), "The tables of the chat.")
    assert source == (Path(__file__).parent / "chat_models.txt").read_text()


def test_odd_schemas_keep_what_they_say(tmp_path: Path) -> None:
    shared = """import { v } from "convex/values";
export const shared = { kind: v.literal("a") };
"""
    export = Export.told(exported_schema(project(tmp_path, ODD, shared=shared)))
    source = module_of(export, "Odd.")
    assert "# schemaValidation: false" in source
    assert "class Event(Model" in source
    assert 'class Event(Model, table="events", discriminator_field="type", abstract=True):' in source
    assert 'class EventClick(Event, discriminator="click"):\n    x: Mapped[float]' in source
    assert 'class_: Mapped[str] = field(name="class")' in source
    assert 'foo_bar_: Mapped[float] = field(name="foo_bar")' in source
    assert 'query_: Mapped[bool] = field(name="query")' in source
    assert 'email_ = Index("email", name="email")' in source
    assert '# of a name that no column has: "constructor": v.string()' in source
    assert '# of a name that no column has: "_hidden": v.optional(v.string())' in source
    assert '# that no class can say: index("by_constructor", ["constructor", "str"])' in source
    assert 'lambda_ = Index("self_", name="lambda")' in source
    assert "    # v.optional(v.literal(-5n))\n    five: Mapped[Int64 | None]" in source
    record = 'v.record(v.id("events"), v.object({ "n": v.literal(9007199254740993n) }))'
    assert f"    # v.array({record})\n    by_event: Mapped[list[dict[str, ValueByEvent]]]" in source
    (tmp_path / "odd.py").write_text(source)
    checked = [sys.executable, "-m", "mypy", "--strict", "odd.py"]
    for program in ([sys.executable, "-c", "import odd"], [*checked, "--cache-dir", str(ROOT / ".mypy_cache")]):
        ran = subprocess.run(
            program, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT)}
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


LEGAL = (
    ODD.replace('    "foo-bar": v.number(),\n', "")
    .replace("    _hidden: v.optional(v.string()),\n", "")
    .replace('"b-c"', "bc")
    .replace('"by-class"', '"by_class"')
    .replace(
        'dimensions: 4, filterFields: ["either"] })',
        'dimensions: 4, filterFields: ["either"] })\n    .vectorIndex("later", '
        '{ vectorField: "embedding", dimensions: 4, staged: true })'
        '.searchIndex("by_words", { searchField: "both", filterFields: ["either", "any"], staged: true })',
    )
)
"""The tables of `ODD` without names that Convex does not take, and with indexes that are staged."""


def test_an_odd_schema_is_written_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = 'import { v } from "convex/values"; export const shared = { kind: v.literal("a") };'
    monkeypatch.syspath_prepend(tmp_path)
    before = Export.told(exported_schema(project(tmp_path, LEGAL, shared=shared)))
    (tmp_path / "reflected_odd.py").write_text(module_of(before, "Odd."))
    assert main(["schema", "reflected_odd", "--out", str(tmp_path / "again.ts")]) == 0
    (tmp_path / "again").mkdir()
    again = exported_schema(project(tmp_path / "again", (tmp_path / "again.ts").read_text()))
    written = {table.name: table for table in Export.told(again).tables}
    for table in before.tables:
        if table.name in ("events", "values", "odd_names"):  # the others hold what models say in comments alone
            assert ordered(written[table.name].documents) == ordered(table.documents)
            assert written[table.name].indexes == table.indexes
            assert written[table.name].vector_indexes == table.vector_indexes
            assert written[table.name].search_indexes == table.search_indexes
            assert written[table.name].staged == table.staged


def test_a_schema_that_was_reflected_is_written_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["reflect", "--convex", str(ROOT / "examples" / "app"), "--out", "reflected_chat.py"]) == 0
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "reflected_chat.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    assert checked.returncode == 0, checked.stdout
    assert main(["schema", "reflected_chat", "--out", "again.ts"]) == 0
    functions = tmp_path / "convex"
    functions.mkdir()
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    Path("again.ts").rename(functions / "schema.ts")
    again, before = (
        {table.name: table for table in Export.told(exported_schema(Project.at(folder))).tables}
        for folder in (tmp_path, ROOT / "examples" / "app")
    )
    assert again.keys() - before.keys() == {"convexorm_commits"}
    for name, table in before.items():
        assert ordered(again[name].documents) == ordered(table.documents)
        assert again[name].indexes == table.indexes
        assert again[name].vector_indexes == table.vector_indexes


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("ownerId", "owner_id"),
        ("HTTPServer", "http_server"),
        ("class", "class_"),
        ("x2", "x2"),
        ("2fast", "field_2_fast"),
        ("-", "field"),
        ("already_snake", "already_snake"),
    ],
)
def test_attributes_are_in_snake_case_and_no_keywords(name: str, attribute: str) -> None:
    assert attribute_name(name, ()) == attribute
    assert attribute_name(name, (attribute,)) == f"{attribute}_"


def test_classes_are_named_by_one_of_what_tables_hold() -> None:
    names = {
        "users": "User",
        "categories": "Category",
        "news": "News",
        "status": "Status",
        "boxes": "Box",
        "mastra_threads": "MastraThread",
    }
    assert {table: class_name(singular(table)) for table in names} == names


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("export default 5;", "no default export made with defineSchema"),
        ("import x from './nowhere'; export default x;", "nowhere"),
        ("this is no TypeScript", "cannot be evaluated"),
        (HEAD + "throw new Error('out of order');", "out of order"),
    ],
)
def test_a_schema_that_cannot_be_read_is_told_with_its_own_words(tmp_path: Path, schema: str, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        exported_schema(project(tmp_path, schema))


def test_kinds_that_are_not_known_are_named_by_their_place() -> None:
    told = {
        "tables": [
            {"tableName": "t", "documentType": {"type": "object", "value": {"a": {"fieldType": {"type": "decimal"}}}}}
        ]
    }
    with pytest.raises(InvalidRequestError, match=r"t\.a: a validator of the unknown kind 'decimal'"):
        Export.told(told)
    with pytest.raises(InvalidRequestError, match="not understood"):
        Export.told({"tables": 5})
    with pytest.raises(InvalidRequestError, match="the schema has no table 'x'"):
        Export((ExportedTable("t", ...),)).named(frozenset(("x",)))  # type: ignore[arg-type]
