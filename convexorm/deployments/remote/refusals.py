"""What a deployment's refusal means: from its status, its code and its data to one error of this library.

`_ERRORS` has the codes of `docs/wire.md`, which our own functions throw; they decide first. `_CODES` has those that Convex
itself answers with. English text decides last, and only where it is there: production hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from convexorm.errors import (
    AuthError,
    ConvexORMError,
    DeploymentError,
    FunctionFailed,
    FunctionNotFound,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    StaleDataError,
    ValidationError,
)
from convexorm.requests import DELETED_BY_RANGE, MAX_DELETED_BY_RANGE
from convexorm.wire import DEPLOY, VERSION, decoding

__all__ = ["MAX_ARGUMENTS", "passes", "refusal", "refused_by_functions"]

MAX_ARGUMENTS = 16 << 20
"""Bytes of the arguments of one call (Convex limit)."""


def passes(status: int, answer: Mapping[str, Any]) -> bool:
    """Whether the failure may be another one, or none, the next time."""
    return (
        status in (408, 425, 429)
        or (status >= 500 and status != 560)  # 560: the function itself failed
        or answer.get("code") == "OptimisticConcurrencyControlFailure"
    )


def refused_by_functions(answer: Mapping[str, Any]) -> bool:
    """Whether it is our functions that refuse."""
    data = answer.get("errorData")
    return isinstance(data, dict) and str(data.get("code")) in _ERRORS


def refusal(where: str, path: str, status: int, answer: Mapping[str, Any]) -> ConvexORMError:
    """The error that an answer stands for. It names the deployment (`where`) and the function (`path`)."""
    data, text, code = answer.get("errorData"), str(answer.get("errorMessage") or ""), str(answer.get("code") or "")
    if isinstance(data, dict) and str(data.get("code")) in _ERRORS:
        with decoding():
            return _ERRORS[str(data["code"])](data)
    if status in (401, 403) or code in _BAD_KEYS:
        return AuthError(f"{where} refused the admin key")
    if code == "FunctionPathNotFound" or any(sign in text for sign in _NO_FUNCTION):
        return FunctionNotFound(
            f"{where} has no function {path!r}. Copy the functions into your Convex project with "
            "`python -m convexorm functions convex`, then deploy them with `npx convex deploy`",
            function=path,
        )
    if any(sign in text for sign in _OVER_LIMIT):
        return LimitExceeded("bytes or documents of one call (Convex)", maximum=MAX_ARGUMENTS)
    summary = text.splitlines()[0][:200] if text else code[:200] or "no JSON answer"
    problem = f"{where}: {path} failed, HTTP {status}: {summary}"
    if not text:  # whoever answered is no function: a proxy, a login page, another server
        return DeploymentError(problem)
    return FunctionFailed(problem, function=path, text=text)


_BAD_KEYS = frozenset(("BadDeployKey", "BadAdminKey", "InvalidAdminKey", "InvalidHeaderFailure", "Unauthenticated"))
_NO_FUNCTION = ("Could not find public function", "Could not find function", "Couldn't find JavaScript module")
_OVER_LIMIT = ("Convex limit", "Too many bytes", "Too many reads", "too large", "limit:")

# what the codes of docs/wire.md mean here


def _version(data: Mapping[str, Any]) -> ConvexORMError:
    supported = data.get("supported")
    newer = isinstance(supported, int | float) and supported > VERSION
    mend = "update this library: `pip install --upgrade convexorm`" if newer else DEPLOY
    return DeploymentError(
        f"the deployment's functions speak wire version {supported}, this library version {VERSION}; {mend}"
    )


def _unknown_table(data: Mapping[str, Any]) -> ConvexORMError:
    return DeploymentError(
        f"the deployment has no table {data.get('table')!r}; write the schema with `python -m convexorm schema`, deploy it"
    )


def _unknown_index(data: Mapping[str, Any]) -> ConvexORMError:
    return IndexRangeError(
        "the deployment does not have it; write the schema with `python -m convexorm schema`, deploy it",
        table=str(data.get("table")),
        index=str(data.get("index")),
    )


def _other_index(data: Mapping[str, Any]) -> ConvexORMError:
    assumed, deployed = (", ".join(map(str, data.get(name) or ())) for name in ("assumed", "deployed"))
    return IndexRangeError(
        f"the model declares it on [{assumed}], deployed is [{deployed}]; nothing was read or written. "
        "Write the schema again with `python -m convexorm schema`, deploy it",
        table=str(data.get("table")),
        index=str(data.get("index")),
        fields=tuple(map(str, data.get("assumed") or ())),
    )


def _withdrawn(data: Mapping[str, Any]) -> ConvexORMError:
    return InvalidRequestError("this commit has been withdrawn; nothing of it is written")


def _index(data: Mapping[str, Any]) -> ConvexORMError:
    return IndexRangeError(str(data.get("message")), table=str(data.get("table")), index=str(data.get("index")))


def _invalid(data: Mapping[str, Any]) -> ConvexORMError:
    return ValidationError(str(data.get("message")), table=data.get("table"))


def _stale(data: Mapping[str, Any]) -> ConvexORMError:
    return StaleDataError(
        table=str(data.get("table")),
        reason=data.get("reason", "changed"),
        write=int(data["write"]) if "write" in data else None,
        fields=data.get("fields") or (),
    )


def _range_too_large(data: Mapping[str, Any]) -> ConvexORMError:
    return LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=data.get("table"))


def _limit(data: Mapping[str, Any]) -> ConvexORMError:
    actual = data.get("actual")
    limit = str(data.get("limit"))
    return LimitExceeded(
        "bytes of a document" if limit == "documentBytes" else limit,
        maximum=int(data.get("maximum") or 0),
        actual=None if actual is None else int(actual),
        table=data.get("table"),
    )


_ERRORS: dict[str, Callable[[Mapping[str, Any]], ConvexORMError]] = {
    "Version": _version,
    "Invalid": _invalid,
    "UnknownTable": _unknown_table,
    "UnknownIndex": _unknown_index,
    "OtherIndex": _other_index,
    "BadRange": _index,
    "Stale": _stale,
    "Withdrawn": _withdrawn,
    "RangeTooLarge": _range_too_large,
    "Limit": _limit,
    "BadDocument": _invalid,
}
