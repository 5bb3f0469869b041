"""`Spec`: the functions of a project, from the function spec that Convex publishes (`npx convex function-spec`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from convexorm.errors import InvalidRequestError
from convexorm.exports.validators import validator_of
from convexorm.schema import AnyOf, AnyValue, Array, Object, Property, Record, Validator

__all__ = ["FunctionSpec", "RouteSpec", "Spec"]

Kind: TypeAlias = Literal["query", "mutation", "action"]

_KINDS: Mapping[str, Kind] = {"Query": "query", "Mutation": "mutation", "Action": "action"}
_HTTP = "HttpAction"
_IDENTIFIER = re.compile(r"(?P<module>[\w\-./]+?)(?:\.[cm]?[jt]sx?)?:(?P<name>\w+)", re.ASCII)


@attrs.frozen
class FunctionSpec:
    """One function. `module` is the path of its file without an ending, `arguments` None where it takes anything."""

    module: str
    name: str
    kind: Kind
    internal: bool
    arguments: Object | None
    returns: Validator

    @property
    def path(self) -> str:
        """What it is called by."""
        return f"{self.module}:{self.name}" if self.name != "default" else self.module


@attrs.frozen
class RouteSpec:
    """One HTTP action."""

    method: str
    path: str


@attrs.frozen
class Spec:
    """The functions, by module and name, and the HTTP actions."""

    functions: tuple[FunctionSpec, ...]
    routes: tuple[RouteSpec, ...] = ()

    @classmethod
    def told(cls, told: Any) -> Spec:
        """From its JSON: what the command prints, or the list of functions in it.

        Raises InvalidRequestError, which names the place, for what is not understood.
        """
        listed = told.get("functions") if isinstance(told, Mapping) else told
        if not isinstance(listed, list):
            raise InvalidRequestError(
                "this is no function spec: a list of functions, or an object with one as `functions`, as "
                "`npx convex function-spec` prints it"
            )
        functions: dict[str, FunctionSpec] = {}
        routes = []
        for number, one in enumerate(listed):
            where = f"functions[{number}]"
            if not isinstance(one, Mapping):
                raise InvalidRequestError(f"{where}: a function that is not understood")
            if one.get("functionType") == _HTTP:
                routes.append(RouteSpec(str(one.get("method")), str(one.get("path"))))
                continue
            function = _function(one, where)
            if functions.setdefault(function.path, function) is not function:
                raise InvalidRequestError(f"{where}: {function.path} is there twice")
        return cls(tuple(functions[path] for path in sorted(functions)), tuple(sorted(routes, key=attrs.astuple)))


def _function(told: Mapping[str, Any], where: str) -> FunctionSpec:
    identifier = told.get("identifier")
    found = _IDENTIFIER.fullmatch(identifier) if isinstance(identifier, str) else None
    if found is None:
        raise InvalidRequestError(f'{where}: an identifier such as "messages.js:list" is missing')
    where = f"{where} ({identifier})"
    kind = _KINDS.get(str(told.get("functionType")))
    if kind is None:
        raise InvalidRequestError(f"{where}: the function type is one of {', '.join(_KINDS)} and {_HTTP}")
    visibility = told.get("visibility")
    who = visibility.get("kind") if isinstance(visibility, Mapping) else None
    if who not in ("public", "internal"):
        raise InvalidRequestError(f"{where}: the visibility's kind is public or internal")
    arguments = _validator(told.get("args"), f"{where}.args")
    if not isinstance(arguments, Object | AnyValue):
        raise InvalidRequestError(f"{where}.args: arguments are an object, or any")
    return FunctionSpec(
        found["module"],
        found["name"],
        kind,
        who == "internal",
        arguments if isinstance(arguments, Object) else None,
        _validator(told.get("returns"), f"{where}.returns"),
    )


def _validator(told: Any, where: str) -> Validator:
    return AnyValue() if told is None else _in_order(validator_of(told, where))


def _in_order(validator: Validator) -> Validator:
    """With the fields of objects in the order in which a deployment tells them, so that a folder says the same."""
    match validator:
        case Array(items):
            return Array(_in_order(items))
        case Record(values):
            return Record(_in_order(values))
        case AnyOf(members):
            return AnyOf(tuple(map(_in_order, members)))
        case Object(fields):
            return Object(
                {name: Property(_in_order(prop.validator), prop.optional) for name, prop in sorted(fields.items())}
            )
    return validator
