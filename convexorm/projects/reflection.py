"""From a project's schema to a module of models, as somebody would have written it, and the same in every run."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from convexorm import schema
from convexorm.errors import ConvexORMError
from convexorm.exports import Export, ExportedTable
from convexorm.mapping.model import Model
from convexorm.projects.annotations import WORDS, Annotations, constant, discriminator_of, without_null
from convexorm.projects.modules import head_of
from convexorm.projects.names import attribute_name, class_name, singular, unused
from convexorm.schema import (
    AnyOf,
    AnyValue,
    Array,
    Id,
    IndexDef,
    Literal,
    Null,
    Object,
    Property,
    Record,
    SearchIndexDef,
    String,
    Table,
    Validator,
    VectorIndexDef,
)
from convexorm.types import column_type

__all__ = ["can_be_said", "module_of", "ordered"]

_NAMES = frozenset(dir(builtins)) | {
    *("Any", "AnyType", "Id", "Index", "Int64", "Literal", "Mapped", "Model", "NoReturn", "NotRequired"),
    *("SearchIndex", "TypedDict", "VectorIndex", "attrs", "field", "schema"),
}
"""Names that a module of models has for other things."""
_WRITABLE = re.compile(r"[^\"\\\n\r]+")
_AnyIndex: TypeAlias = IndexDef | SearchIndexDef | VectorIndexDef
_RESERVED = frozenset(dir(Model)) | WORDS | {"primary_key", "self"}


def module_of(export: Export, title: str) -> str:
    """The source of a module of models of these tables. `title` is its docstring's first line."""
    tables = [table for table in export.tables if table.name not in (schema.LEDGER.name, schema.COUNTERS.name)]
    names: dict[str, str] = {}
    for table in tables:
        names[table.name] = unused(class_name(singular(table.name)), {*names.values(), *_NAMES})

    def reference(validator: Id) -> str:
        if validator.table in names:
            writer.use("convexorm", "Id")
            return f'Id["{names[validator.table]}"]'
        if not validator.table.startswith("_"):
            return "str"  # of a table that is left out
        writer.use("convexorm", "Id")
        return f'Id[{writer.use("typing", "Literal")}["{validator.table}"]]'

    writer = Annotations(reference, {*names.values(), *_NAMES})
    models = [_Model(table, names[table.name], writer, names).source() for table in tables]
    parts = [*writer.classes.values(), *models]
    head = head_of(title, writer.imports)
    if not export.validated:
        head += ["", "# schemaValidation: false: documents may hold other things than what is said here."]
    return "\n\n\n".join(["\n".join(head), *parts]) + "\n"


class _Model:
    """One table's model."""

    def __init__(self, table: ExportedTable, name: str, annotations: Annotations, tables: Mapping[str, str]) -> None:
        self._table = table
        self._tables = tables
        self._name = name
        self._annotations = annotations
        self._attributes: dict[str, str] = {}

    def source(self) -> str:
        self._annotations.use("convexorm", "Model")
        kinds = _kinds(self._table.documents)
        return self._one() if kinds is None else self._family(*kinds)

    def _one(self) -> str:
        notes: list[str] = []
        fields, variants = _fields(self._table.documents)
        if fields is None:
            notes.append(f"    # documents: {self._table.documents.typescript()}")
            fields = {}
        elif variants:
            notes.append("    # documents of several shapes, whose fields are all here:")
            notes += [f"    #   {variant.typescript()}" for variant in variants]
        fields, unsaid = _named(fields)
        taken: set[str] = set(_RESERVED)
        for field in fields:
            attribute = attribute_name(field, taken)
            taken.add(attribute)
            self._attributes[field] = attribute
        columns = self._columns(self._name, fields)
        left, here = _split(self._table, set(fields))
        lines = [*columns, *self._indexes(here, fields, taken)] or ["    pass"]
        body = "\n".join([*notes, *unsaid, *lines, *_others(left)])
        return f'class {self._name}(Model, table="{self._table.name}"):\n{body}'

    def _family(self, field: str, kinds: Mapping[str, Mapping[str, Property]]) -> str:
        """A class for what all documents have, and below it one for each kind that the field tells apart."""
        taken: set[str] = {*_RESERVED, field}
        said = {kind: _named(shape) for kind, shape in kinds.items()}
        kinds = {kind: shape for kind, (shape, _) in said.items()}
        shapes = list(kinds.values())
        for name in dict.fromkeys(name for shape in shapes for name in shape):
            self._attributes[name] = attribute_name(name, taken)
            taken.add(self._attributes[name])
        common = {name: prop for name, prop in shapes[0].items() if all(shape.get(name) == prop for shape in shapes)}
        table, here = _split(self._table, {*common, field})
        options = f'table="{self._table.name}", discriminator_field="{field}", abstract=True'
        told = {**common, field: Property(String())}
        lines = [*self._columns(self._name, common), *self._indexes(here, told, taken)] or ["    pass"]
        classes = ["\n".join([f"class {self._name}(Model, {options}):", *lines])]
        for kind, shape in kinds.items():
            name = unused(class_name(self._name, kind), self._annotations.taken)
            self._annotations.taken.add(name)
            own = {one: prop for one, prop in shape.items() if one not in common}
            table, here = _split(table, {*shape, field})
            lines = [*self._columns(name, own), *self._indexes(here, {**told, **shape}, taken)] or ["    pass"]
            lines = [*said[kind][1], *lines]
            classes.append("\n".join([f'class {name}({self._name}, discriminator="{kind}"):', *lines]))
        classes[0] = "\n".join([classes[0], *_others(table)])
        return "\n\n\n".join(classes)

    # -- columns ---------------------------------------------------------------------------------------------------

    def _columns(self, owner: str, fields: Mapping[str, Property]) -> list[str]:
        return [line for field, prop in fields.items() for line in self._column(owner, field, prop)]

    def _column(self, owner: str, field: str, prop: Property) -> list[str]:
        use = self._annotations.use
        use("convexorm", "Mapped")
        attribute = self._attributes[field]
        options = {} if attribute == field else {"name": f'"{field}"'}
        inner, nullable = without_null(prop.validator)
        if not can_be_said(inner, owner, field):
            return self._exact(field, prop, options)
        annotation = self._annotations.of(inner, owner, field)
        may_be_none = (nullable or prop.optional) and not isinstance(inner, AnyValue)
        if isinstance(inner, AnyValue | Null) and prop.optional:
            options |= {"default": "None", "optional": "True"}
        elif prop.optional:
            options |= {"default": "None"} | ({"none": '"either"'} if nullable else {})
        elif nullable and may_be_none:
            options |= {"none": '"null"'}
        if may_be_none and annotation != "None":
            annotation += " | None"
        line = _line(attribute, annotation, options, use)
        said = self._table.lost.get(field) or (prop.typescript() if self._leads_out(prop.validator) else None)
        return [line] if said is None else [f"    # {said}", line]

    def _leads_out(self, validator: Validator) -> bool:
        """Whether it holds ids of a table that is left out."""
        tables = Table("t", {"f": Property(validator)}).referred
        return not tables <= self._tables.keys()

    def _exact(self, field: str, prop: Property, options: dict[str, str]) -> list[str]:
        """A column of what no annotation says, held to its validator."""
        use = self._annotations.use
        use("convexorm", "schema")
        kind = f"{use('convexorm.types', 'AnyType')}({_expression(prop.validator)})"
        options = options | {"type": kind} | ({"default": "None", "optional": "True"} if prop.optional else {})
        line = _line(self._attributes[field], use("typing", "Any"), options, use)
        return [f"    # {prop.typescript()}", line]

    # -- indexes ---------------------------------------------------------------------------------------------------

    def _indexes(self, table: ExportedTable, fields: Mapping[str, Property], taken: set[str]) -> Iterable[str]:
        use = self._annotations.use
        for index in table.indexes:
            paths = [f'"{self._path(field)}"' for field in index.fields]
            yield self._index(index.name, use("convexorm", "Index"), paths, taken)
        for search in table.search_indexes:
            told = fields.keys() >= {search.field, *search.filter_fields}
            if told and schema.holds_text(fields[search.field].validator):
                options = [f'"{self._path(search.field)}"', *self._filters(search.filter_fields)]
                yield self._index(search.name, use("convexorm", "SearchIndex"), options, taken)
            else:
                yield f"    # of no text column, and nothing that models say: {search.typescript().removeprefix('.')}"
        for vector in table.vector_indexes:
            options = [
                f'"{self._path(vector.field)}"',
                f"dimensions={vector.dimensions}",
                *self._filters(vector.filter_fields),
            ]
            yield self._index(vector.name, use("convexorm", "VectorIndex"), options, taken)

    def _index(self, name: str, kind: str, options: list[str], taken: set[str]) -> str:
        as_is = name.isidentifier() and not keyword.iskeyword(name) and name not in taken
        attribute = name if as_is else attribute_name(name, taken)
        taken.add(attribute)
        if attribute != name:
            options = [*options, f'name="{name}"']
        if name in self._table.staged:
            options = [*options, "staged=True"]
        return f"    {attribute} = {kind}({', '.join(options)})"

    def _filters(self, fields: tuple[str, ...]) -> list[str]:
        if not fields:
            return []
        inner = ", ".join(f'"{self._path(field)}"' for field in fields)
        return [f"filter_fields=({inner}{',' if len(fields) == 1 else ''})"]

    def _path(self, field: str) -> str:
        """A field of an index by its attribute; a path into one begins with the attribute."""
        first, dot, rest = field.partition(".")
        return f"{self._attributes.get(first, first)}{dot}{rest}"


def _line(attribute: str, annotation: str, options: Mapping[str, str], use: Any) -> str:
    if not options:
        return f"    {attribute}: Mapped[{annotation}]"
    use("convexorm", "field")
    told = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"    {attribute}: Mapped[{annotation}] = field({told})"


def _kinds(documents: Validator) -> tuple[str, Mapping[str, Mapping[str, Property]]] | None:
    """The field that tells the kinds of a union's documents apart, and what else each has; None where none does."""
    members = documents.members if isinstance(documents, AnyOf) else ()
    objects = [one for one in members if isinstance(one, Object)]
    field = discriminator_of(objects) if len(objects) > 1 and len(objects) == len(members) else None
    if field is None or not field.isidentifier() or field.startswith("_"):
        return None
    kinds: dict[str, Mapping[str, Property]] = {}
    for one in objects:
        told = one.fields[field].validator
        if not isinstance(told, Literal) or not isinstance(told.value, str) or _WRITABLE.fullmatch(told.value) is None:
            return None
        kinds[told.value] = {name: prop for name, prop in one.fields.items() if name != field}
    return field, kinds


def _named(fields: Mapping[str, Property]) -> tuple[Mapping[str, Property], list[str]]:
    """The fields that a column may be of, and comments on the others."""
    named = {name: prop for name, prop in fields.items() if schema.names_field(name)}
    others = [f'"{name}": {prop.typescript()}' for name, prop in fields.items() if name not in named]
    return named, [f"    # of a name that no column has: {one}" for one in others]


def _others(table: ExportedTable) -> list[str]:
    """Comments on the indexes that a table has besides."""
    left: list[_AnyIndex] = [*table.indexes, *table.search_indexes, *table.vector_indexes]
    return [f"    # that no class can say: {index.typescript().removeprefix('.')}" for index in left]


def _split(table: ExportedTable, fields: set[str]) -> tuple[ExportedTable, ExportedTable]:
    """The table without the indexes that are over these fields alone, and with only those."""

    def fits(index: _AnyIndex) -> bool:
        over = index.fields if isinstance(index, IndexDef) else (index.field, *index.filter_fields)
        named = schema.names_index(index.name)
        return named and all(name.partition(".")[0] in {*fields, "_creationTime"} for name in over)

    def those(wanted: bool) -> ExportedTable:
        return attrs.evolve(
            table,
            indexes=tuple(one for one in table.indexes if fits(one) is wanted),
            search_indexes=tuple(one for one in table.search_indexes if fits(one) is wanted),
            vector_indexes=tuple(one for one in table.vector_indexes if fits(one) is wanted),
        )

    return those(False), those(True)


def _fields(documents: Validator) -> tuple[Mapping[str, Property] | None, list[Object]]:
    """The fields of a table's documents, and the shapes where there are several; None where any documents are taken."""
    if isinstance(documents, Object):
        return documents.fields, []
    if not isinstance(documents, AnyOf) or not all(isinstance(one, Object) for one in documents.members):
        return None, []
    shapes = [one for one in documents.members if isinstance(one, Object)]
    fields: dict[str, Property] = {}
    for shape in shapes:
        for name, prop in shape.fields.items():
            known = fields.get(name)
            validator = prop.validator if known is None else AnyOf.of(known.validator, prop.validator)
            fields[name] = Property(validator, prop.optional or (known is not None and known.optional))
    for name, prop in fields.items():
        if not all(name in shape.fields for shape in shapes):
            fields[name] = Property(prop.validator, optional=True)
    return fields, shapes


# -- what annotations can say --------------------------------------------------------------------------------------


def can_be_said(validator: Validator, *place: str) -> bool:
    """Whether an annotation means exactly this validator."""
    plain = _plain(validator)
    annotations = Annotations(lambda id_: f'Id[Literal["{id_.table}"]]', set())
    annotations.imports |= {("convexorm", "Id"), ("typing", "Literal")}
    try:
        annotation = annotations.of(plain, *place)
        names: dict[str, Any] = {"__name__": __name__}  # which classes take for their module
        source = "\n\n".join([*head_of("", annotations.imports)[1:], *annotations.classes.values()])
        exec(compile(source, "<reflected>", "exec", dont_inherit=True), names)
        said = column_type(eval(annotation, names)).validator
    except (ConvexORMError, SyntaxError, NameError, TypeError, ValueError):
        return False
    return ordered(said) == ordered(plain)


def _plain(validator: Validator) -> Validator:
    """The validator with ids of tables of Convex's own in place of others, which no model is needed for."""
    match validator:
        case Id():
            return Id("_storage")
        case AnyOf(members) if len({one.table for one in members if isinstance(one, Id)}) > 1:
            return AnyOf((Id("_storage"), Id("_scheduled_functions")))
        case Array(items):
            return Array(_plain(items))
        case Record(values):
            return Record(_plain(values))
        case Object(fields):
            return Object({name: Property(_plain(prop.validator), prop.optional) for name, prop in fields.items()})
        case AnyOf(members):
            return AnyOf.of(*map(_plain, members)) if members else validator
    return validator


def ordered(validator: Validator) -> str:
    """The validator as text that is the same for the same meaning, in whatever order it is written."""
    match validator:
        case Array(items):
            return f"array({ordered(items)})"
        case Record(values):
            return f"record({ordered(values)})"
        case Object(fields):
            return f"object({sorted((name, prop.optional, ordered(prop.validator)) for name, prop in fields.items())})"
        case AnyOf(members):
            return f"union({sorted(map(ordered, members))})"
    return validator.typescript()


def _expression(validator: Validator) -> str:
    """The validator in Python's words."""
    match validator:
        case Array(items):
            return f"schema.Array({_expression(items)})"
        case Record(values):
            return f"schema.Record({_expression(values)})"
        case Object(fields):
            inner = ", ".join(f"{constant(name)}: {_property(prop)}" for name, prop in fields.items())
            return f"schema.Object({{{inner}}})"
        case AnyOf(members):
            return f"schema.AnyOf(({', '.join(map(_expression, members))},))" if members else "schema.AnyOf(())"
        case Id(table):
            return f"schema.Id({constant(table)})"
        case Literal(value):
            return f"schema.Literal({constant(value)})"
    return f"schema.{type(validator).__name__}()"


def _property(prop: Property) -> str:
    return f"schema.Property({_expression(prop.validator)}{', optional=True' if prop.optional else ''})"
