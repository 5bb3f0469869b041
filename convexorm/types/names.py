"""The names in annotations: where a text is looked up, and what the type variables of a generic class stand for.

Annotations may be texts (`from __future__ import annotations`), hold forward references, or speak of names that are not
there yet. `Names` looks them up where the class body would have; `hints` gives the annotations of any class so.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any
from weakref import WeakSet

import attrs
import typing_extensions

from convexorm.errors import ValidationError

__all__ = ["Bound", "Names", "annotations_of", "bindings", "called", "hints", "is_class_variable", "register"]

_REGISTERED: dict[str, WeakSet[type]] = {}


def register(owner: type) -> None:
    """Let a class be found by its name from anywhere; one declared before in the same place is forgotten."""
    same = _REGISTERED.setdefault(owner.__name__, WeakSet())
    for other in list(same):
        if (other.__module__, other.__qualname__) == (owner.__module__, owner.__qualname__):
            same.discard(other)
    same.add(owner)


def called(name: str, names: Names | None) -> type | None:
    """The registered class of this name, that of the same module before others; None where there is none yet.

    ValidationError where there are several.
    """
    if names is not None and names.declaring:
        return None  # the class that is meant may come later in the same module
    found = list(_REGISTERED.get(name, ()))
    here = [one for one in found if names is not None and one.__module__ == names.module]
    if len(found) > 1 and len(here) == 1:
        return here[0]
    if len(found) > 1:
        raise ValidationError(f"there are {len(found)} models called {name!r}; give the class in place of its name")
    return found[0] if found else None


class Names(Mapping[str, Any]):
    """The names that a class body can see: its function's, its module's, and, if those have none, its own.

    `frame` is the one that declares the class: names that its function defines later are found too, until it has returned.
    Its globals are the module's, also where another module has the name that the class gives, or none: what is executed as
    text says that it is `builtins`.
    """

    def __init__(self, owner: type, frame: FrameType | None = None, outer: Names | None = None) -> None:
        self._owner = owner
        self._frame = frame if frame is not None and frame.f_locals is not frame.f_globals else None
        self._globals: Mapping[str, Any] | None = None
        if frame is not None and frame.f_globals.get("__name__", "builtins") == owner.__module__:
            self._globals = frame.f_globals
        self._outer = outer
        self._found: dict[str, Any] = {}
        self._declared = frame is None

    def __getitem__(self, name: str) -> Any:
        owner = self._owner
        for parameter in getattr(owner, "__type_params__", ()):
            if parameter.__name__ == name:
                return parameter
        if name in self._found:
            return self._found[name]
        if self._frame is not None and name in self._frame.f_locals:
            self._found[name] = self._frame.f_locals[name]
            return self._found[name]
        if name == owner.__name__:
            return owner
        if self._outer is not None and "<locals>" in owner.__qualname__ and name in self._outer:
            return self._outer[name]
        here = self._module_names()
        if name in here:
            return here[name]
        if self._outer is not None and name in self._outer:
            return self._outer[name]
        inner = vars(owner).get(name)
        if isinstance(inner, type) or typing.get_origin(inner) is not None:
            return inner
        raise KeyError(name)

    def _module_names(self) -> Mapping[str, Any]:
        """What the module of the class defines."""
        if self._globals is not None:
            return self._globals
        if self._outer is not None and self._outer.module == self.module:
            return self._outer._module_names()
        module = sys.modules.get(self.module)
        return {} if module is None else vars(module)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True

    @property
    def declaring(self) -> bool:
        """Whether the class is being declared: what is not there may come later."""
        return not self._declared if self._outer is None else self._outer.declaring

    def declared(self) -> None:
        """The class is declared."""
        self._declared = True

    @property
    def module(self) -> str:
        """The module of the class."""
        return self._owner.__module__

    def settle(self) -> None:
        """Let go of the function: all names that are needed have been looked up."""
        self._frame = None

    def of(self, owner: type) -> Names:
        """The names that another class can see, which is used here."""
        return Names(owner, None, self)

    def resolve(self, text: str) -> Any:
        """What an annotation written as a text says. NameError for a name that is not there (yet)."""
        known: dict[str, Any] = {}
        try:
            while True:
                try:
                    return eval(text, known, self)
                except NameError as error:
                    name = error.name or ""
                    model = None if name in known else called(name, self)
                    if model is None:
                        raise
                    known[name] = model
        except (NameError, ValidationError):
            raise
        except AttributeError as error:  # `module.Later`
            raise NameError(str(error), name=error.name) from None
        except Exception as error:
            raise ValidationError(f"the annotation cannot be read: {error}") from error


def annotations_of(owner: type) -> dict[str, Any]:
    """The annotations of a class's own body, as far as they can be evaluated: a later name is a forward reference."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF))
    return dict(inspect.get_annotations(owner))


_CLASS_VARIABLE = re.compile(r"(\w+\.)*ClassVar\b")


def is_class_variable(annotation: Any) -> bool:
    """Whether an annotation says ClassVar, be it as text."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return _CLASS_VARIABLE.match(annotation) is not None
    return typing.ClassVar in (annotation, typing.get_origin(annotation))


# -- generics ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Bound:
    """An annotation with the names and type variables of the place where it is written."""

    annotation: Any
    names: Names | None
    variables: Mapping[Any, Any]


def bindings(kind: type, variables: Mapping[Any, Any], names: Names | None = None) -> dict[type, Mapping[Any, Any]]:
    """For each class that `kind` is made of, what its type variables stand for."""
    found: dict[type, Mapping[Any, Any]] = {}

    def visit(one: type, bound: Mapping[Any, Any]) -> None:
        found.setdefault(one, bound)
        for base in one.__dict__.get("__orig_bases__", one.__bases__):
            origin = typing.get_origin(base) or base
            if not isinstance(origin, type) or origin in (object, typing.Generic):
                continue
            arguments = typing.get_args(base)
            parameters = getattr(origin, "__parameters__", ())
            visit(origin, dict(zip(parameters, (Bound(argument, names, bound) for argument in arguments), strict=False)))

    visit(kind, variables)
    return found


def hints(kind: type, variables: Mapping[Any, Any], names: Names) -> dict[str, Bound]:
    """The annotations of a class and its bases by name, the base's first, each with what its names and variables mean."""
    bound = bindings(kind, variables, names)
    found: dict[str, Bound] = {}
    for base in reversed(_made_of(kind, bound)):
        if vars(builtins).get(base.__name__) is base:
            continue
        for name, annotation in annotations_of(base).items():
            if name not in found or found[name].annotation is not annotation:
                found[name] = Bound(annotation, names.of(base), bound.get(base, variables))
    return found


def _made_of(kind: type, bound: Mapping[type, Any]) -> Sequence[type]:
    """The classes that a class takes its annotations from; a TypedDict has none of those as its base."""
    if typing.is_typeddict(kind) or typing_extensions.is_typeddict(kind):
        return [base for base in bound if typing.is_typeddict(base) or typing_extensions.is_typeddict(base)]
    return kind.__mro__
