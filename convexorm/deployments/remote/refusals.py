"""What a deployment's refusal means: from its status, its code and its data to one error of this library.

The codes of `docs/wire.md`, which our own functions throw, decide first (`_ERRORS`), then Convex's own (`_CODES`) and the
status (`_STATUSES`). English text decides last (`_TEXTS`), and only where it is there: production hides it.
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
    meaning = _CODES.get(code) or _STATUSES.get(status) or next((one for sign, one in _TEXTS if sign in text), None)
    if meaning is not None:
        return meaning(where, path)
    summary = text.splitlines()[0][:200] if text else code[:200] or "no JSON answer"
    problem = f"{where}: {path} failed, HTTP {status}: {summary}"
    if not text:  # whoever answered is no function: a proxy, a login page, another server
        return DeploymentError(problem)
    return FunctionFailed(problem, function=path, text=text)


# what Convex itself means


def _bad_key(where: str, path: str) -> ConvexORMError:
    return AuthError(f"{where} refused the admin key")


def _no_function(where: str, path: str) -> ConvexORMError:
    return FunctionNotFound(f"{where} has no function {path!r}; {DEPLOY}", function=path)


def _over_limit(where: str, path: str) -> ConvexORMError:
    return LimitExceeded("bytes or documents of one call (Convex)", maximum=MAX_ARGUMENTS)


Meaning = Callable[[str, str], ConvexORMError]

_CODES: dict[str, Meaning] = {
    "BadDeployKey": _bad_key,
    "BadAdminKey": _bad_key,
    "InvalidAdminKey": _bad_key,
    "InvalidHeaderFailure": _bad_key,
    "Unauthenticated": _bad_key,
    "FunctionPathNotFound": _no_function,
}
_STATUSES: dict[int, Meaning] = {401: _bad_key, 403: _bad_key}
_TEXTS: list[tuple[str, Meaning]] = [
    ("Could not find public function", _no_function),
    ("Could not find function", _no_function),
    ("Couldn't find JavaScript module", _no_function),
    ("Convex limit", _over_limit),
    ("Too many bytes", _over_limit),
    ("Too many reads", _over_limit),
    ("too large", _over_limit),
    ("limit:", _over_limit),
]

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
