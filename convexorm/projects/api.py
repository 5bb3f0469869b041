"""From a project's function spec to a module with a method for each function, on both faces."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from convexorm.exports.spec import FunctionSpec, RouteSpec, Spec
from convexorm.projects.annotations import Annotations, without_null
from convexorm.projects.modules import head_of
from convexorm.projects.names import attribute_name, class_name, unused
from convexorm.projects.reflection import can_be_said, ordered
from convexorm.schema import AnyOf, AnyValue, Array, Id, Int64, Object, Property, Record, Table, Validator

__all__ = ["KnownModel", "api_of"]

_NAMES = frozenset(dir(builtins)) | {
    *("Any", "Api", "AsyncApi", "AsyncFunctions", "AsyncIterator", "AsyncSession", "Deployment", "Functions", "Id"),
    *(
        "Int64",
        "Iterator",
        "Literal",
        "NoReturn",
        "NotRequired",
        "Session",
        "TypedDict",
        "UNSET",
        "attrs",
        "builtins",
        "typed",
    ),
}
"""Names that a module of functions has for other things."""
_OURS = frozenset({"_functions", "_session"})
_HIDEABLE = ("bool", "bytes", "dict", "float", "int", "list", "str")
"""Names of Python in annotations, which a method of the same name would hide."""
_SYSTEM = frozenset({"_id", "_creationTime"})
_PAGES, _PAGE_SIZE = "paginationOpts", "page_size"
_WIDTH = 100


@attrs.frozen
class KnownModel:
    """A model that stands for the documents of a table: the module it is imported from, and its name there."""

    module: str
    name: str
    table: Table


def api_of(spec: Spec, title: str, models: Mapping[str, KnownModel]) -> str:
    """The source of a module with `Api` and `AsyncApi`.

    `models` are models by the names of their tables, by which ids and documents of these are said. `title` is the
    docstring's first line.
    """
    words = _Words(models)
    functions = list(_theirs(spec))
    public = _Space.of([one for one in functions if not one.internal])
    internal = _Space.of([one for one in functions if one.internal])
    classes: list[str] = []
    for prefix in ("", "Async"):
        face = _Face(words, prefix)
        root = face.root(public, internal, spec.routes)
        classes += [*face.classes, root]
    words.use("convexorm", "Deployment")
    parts = [*words.classes, *classes]
    return "\n\n\n".join(["\n".join(head_of(title, words.imports, future=True)), *parts]) + "\n"


def _theirs(spec: Spec) -> Iterator[FunctionSpec]:
    """The functions but for those of this library, which sessions call."""
    ours = any(one.path == "orm:describe" for one in spec.functions)
    for one in spec.functions:
        if not (ours and one.module.partition("/")[0] == "orm"):
            yield one


class _Words:
    """The annotations of the module: of arguments, which are plain values, and of results."""

    def __init__(self, models: Mapping[str, KnownModel]) -> None:
        self.taken = {*_NAMES, *(model.name for model in models.values())}
        self._models = models
        self._arguments = Annotations(self._reference, self.taken, plain=True)
        self._results = Annotations(self._reference, self.taken, self._known)

    @property
    def classes(self) -> list[str]:
        return [*self._arguments.classes.values(), *self._results.classes.values()]

    @property
    def imports(self) -> set[tuple[str, str]]:
        return self._arguments.imports | self._results.imports

    def use(self, module: str, name: str) -> str:
        return self._arguments.use(module, name)

    def argument(self, validator: Validator, *place: str) -> str:
        return self._arguments.of(validator, *place)

    def result(self, validator: Validator, *place: str) -> str:
        """The annotation of what is answered; `Any` where none would say it."""
        if not can_be_said(validator, *place):
            return self.use("typing", "Any")
        return self._results.of(validator, *place)

    def _reference(self, validator: Id) -> str:
        model = self._models.get(validator.table)
        if model is not None:
            return f"{self.use('convexorm', 'Id')}[{self.use(model.module, model.name)}]"
        if validator.table.startswith("_"):
            return f'{self.use("convexorm", "Id")}[{self.use("typing", "Literal")}["{validator.table}"]]'
        return "str"

    def _known(self, shape: Object) -> str | None:
        told = shape.fields.get("_id")
        model = self._models.get(told.validator.table) if told and isinstance(told.validator, Id) else None
        if model is None:
            return None
        own = Object({field: prop for field, prop in shape.fields.items() if field not in _SYSTEM})
        same = ordered(own) == ordered(Object(dict(model.table.fields)))
        return self.use(model.module, model.name) if same else None


@attrs.define
class _Space:
    """The functions of a module, and what lies below it."""

    functions: dict[str, FunctionSpec] = attrs.field(factory=dict)
    below: dict[str, _Space] = attrs.field(factory=dict)

    @classmethod
    def of(cls, functions: Sequence[FunctionSpec]) -> _Space:
        root = cls()
        for one in functions:
            space = root
            for part in one.module.split("/"):
                space = space.below.setdefault(part, cls())
            space.functions[one.name] = one
        return root


class _Face:
    """Writes the classes of one face."""

    def __init__(self, words: _Words, prefix: str) -> None:
        self.classes: list[str] = []
        self._words = words
        self._prefix = prefix
        self._waits = "await " if prefix else ""
        self._functions = words.use("convexorm", f"{prefix}Functions")
        self._session = words.use("convexorm", f"{prefix}Session")

    def root(self, public: _Space, internal: _Space, routes: Sequence[RouteSpec]) -> str:
        lines, taken = self._below(public, (), "")
        if internal.below:
            attribute = attribute_name("internal", taken)
            lines.append(f"self.{attribute} = {self._class(internal, (), 'internal ')}(functions, session)")
        other = "`Api` is the same, blocking." if self._prefix else "`AsyncApi` is the same, awaited."
        says = [
            f"The project's functions{', awaited' if self._prefix else ''}. {other}",
            "",
            "`token` speaks as a user, `component` into a component; a `session` takes in the models that are answered.",
            *(["", "HTTP actions, for any client of HTTP:", ""] if routes else []),
            *(f"    {route.method} {route.path}" for route in routes),
        ]
        options = ["token: str | None = None", "component: str | None = None", f"session: {self._session} | None = None"]
        begin = [
            *_signature("__init__", ["self", "deployment: Deployment", "*", *options], "None"),
            f"        functions = {self._functions}(deployment, token=token, component=component)",
            *(f"        {line}" for line in lines),
        ]
        documentation = "\n".join(f"    {line}" if line else "" for line in says)
        return f'class {self._prefix}Api:\n    """{documentation.lstrip()}\n    """\n\n' + "\n".join(begin)

    def _below(self, space: _Space, place: tuple[str, ...], kind: str) -> tuple[list[str], set[str]]:
        """The lines that set the attributes for what lies below, and all attributes."""
        taken = {*map(_method_name, space.functions), *_OURS}
        lines = []
        for part, below in sorted(space.below.items()):
            attribute = attribute_name(part, taken)
            taken.add(attribute)
            lines.append(f"self.{attribute} = {self._class(below, (*place, part), kind)}(functions, session)")
        return lines, taken

    def _class(self, space: _Space, place: tuple[str, ...], kind: str) -> str:
        lines, _ = self._below(space, place, kind)
        name = unused(f"{self._prefix}{class_name(kind, *place)}", self._words.taken)
        self._words.taken.add(name)
        says = f"The {kind}functions{' of `' + '/'.join(place) + '`' if place else ''}."
        methods = [self._method(one, space) for _, one in sorted(space.functions.items())]
        keeps = ["self._functions = functions", "self._session = session"] if methods else []
        begin = [
            *_signature("__init__", ["self", f"functions: {self._functions}", f"session: {self._session} | None"], "None"),
            *(f"        {line}" for line in [*keeps, *lines]),
        ]
        self.classes.append(f"class {name}:\n" + "\n\n".join([f'    """{says}"""', "\n".join(begin), *methods]))
        return name

    def _method(self, one: FunctionSpec, space: _Space) -> str:
        place = (*one.module.split("/"), one.name)
        hides = {_method_name(name) for name in space.functions}
        fields = {} if one.arguments is None else dict(one.arguments.fields)
        paged = one.kind == "query" and fields.pop(_PAGES, None) is not None
        result = self._words.result(_item_of(one.returns) if paged else one.returns, *place, *(["item"] if paged else []))
        shown = self._seen(result, hides)
        if one.arguments is None:
            parameters, entries = [f"**arguments: {self._words.use('typing', 'Any')}"], "arguments"
        else:
            parameters, sent = self._arguments(fields, place, hides, {"self", _PAGE_SIZE} if paged else {"self"})
            parameters += [f"{_PAGE_SIZE}: {self._seen('int', hides)} = 100"] if paged else []
            parameters = ["*", *parameters] if parameters else []
            entries = f"{{{', '.join(sent)}}}"
        if paged:
            shown = f"{self._words.use('collections.abc', f'{self._prefix}Iterator')}[{shown}]"
        kind = f"internal {one.kind}" if one.internal else one.kind
        call = [f'"{one.path}"', entries, f"returns={result}", "session=self._session"]
        head = _signature(_method_name(one.name), ["self", *parameters], shown, waits=bool(self._prefix) and not paged)
        head.append(f'        """{kind.capitalize()} `{one.path}`{", an item after the other" if paged else ""}."""')
        if paged:
            body = _call("return self._functions.paginate", [*call, f"page_size={_PAGE_SIZE}"])
        elif result == "None":
            body = _call(f"{self._waits}self._functions.{one.kind}", call)
        else:
            body = _call(f"answer: {result} = {self._waits}self._functions.{one.kind}", call)
            body.append("        return answer")
        return "\n".join([*head, *body])

    def _arguments(
        self, fields: Mapping[str, Property], place: tuple[str, ...], hides: set[str], taken: set[str]
    ) -> tuple[list[str], list[str]]:
        """The parameters, those that must be given first, and the entries of what is sent."""
        needed, others, entries = [], [], []
        for field, prop in fields.items():
            name = attribute_name(field, taken)
            taken.add(name)
            told = self._words.argument(prop.validator, *place, field)
            annotation, entry = self._seen(told, hides), name
            if _holds_int64(prop.validator) and can_be_said(prop.validator, *place, field):
                entry = f"{self._words.use('convexorm', 'typed')}({told}, {name})"
            if not prop.optional:
                needed.append(f"{name}: {annotation}")
            elif without_null(prop.validator)[1] or isinstance(prop.validator, AnyValue):
                others.append(f"{name}: {annotation} = {self._words.use('convexorm', 'UNSET')}")
            else:
                others.append(f"{name}: {annotation} | None = None")
                entry = f"{self._words.use('convexorm', 'UNSET')} if {name} is None else {entry}"
            entries.append(f'"{field}": {entry}')
        return [*needed, *others], entries

    def _seen(self, annotation: str, hides: set[str]) -> str:
        """An annotation as it is written in a class whose methods hide names of Python."""
        hidden = [name for name in _HIDEABLE if name in hides]
        if not hidden:
            return annotation
        parts = re.split(r'("(?:[^"\\]|\\.)*")', annotation)  # every other one is a text
        parts[::2] = [re.sub(rf"\b({'|'.join(hidden)})\b", r"builtins.\1", part) for part in parts[::2]]
        found = "".join(parts)
        if found != annotation:
            self._words.use("", "builtins")
        return found


def _holds_int64(validator: Validator) -> bool:
    """Whether there may be an int64 in it, which no plain value of Python's is."""
    match validator:
        case Int64():
            return True
        case Array(items):
            return _holds_int64(items)
        case Record(values):
            return _holds_int64(values)
        case Object(fields):
            return any(_holds_int64(prop.validator) for prop in fields.values())
        case AnyOf(members):
            return any(map(_holds_int64, members))
    return False


def _method_name(name: str) -> str:
    return attribute_name(name, _OURS)


def _item_of(returns: Validator) -> Validator:
    """What the pages hold that a function answers."""
    if (
        isinstance(returns, Object)
        and (page := returns.fields.get("page")) is not None
        and isinstance(page.validator, Array)
    ):
        return page.validator.items
    return AnyValue()


# -- lines -------------------------------------------------------------------------------------------------------------


def _signature(name: str, parameters: Sequence[str], returns: str, *, waits: bool = False) -> list[str]:
    head = f"    {'async ' if waits else ''}def {name}("
    whole = f"{head}{', '.join(parameters)}) -> {returns}:"
    if len(whole) <= _WIDTH:
        return [whole]
    return [head, *(f"        {one}," for one in parameters), f"    ) -> {returns}:"]


def _call(head: str, arguments: Sequence[str]) -> list[str]:
    whole = f"        {head}({', '.join(arguments)})"
    if len(whole) <= _WIDTH:
        return [whole]
    return [f"        {head}(", *(f"            {one}," for one in arguments), "        )"]
