"""What a deployment's refusal means: from its status, its code and its data to one error of this library.

The codes of `docs/wire.md`, which our own functions throw, decide first (`_ERRORS`), then Convex's own (`_CODES`) and the
status (`_STATUSES`). A failure that carries none of them is a `FunctionFailed`, with the text that it came with. In
production that text says nothing, so nothing is decided by it alone: who called a function of ours looks whether it is
there at all, and then the failure is one of those that `ran` and `absent` tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from convexorm.deployments.remote.access import Access, Kind, operation
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

__all__ = [
    "CONFLICT",
    "MAX_ARGUMENTS",
    "absent",
    "busy",
    "code_of",
    "passes",
    "ran",
    "refusal",
    "refused_by_functions",
    "rolled_back",
    "told",
]

MAX_ARGUMENTS = 16 << 20
"""Bytes of the arguments of one call (Convex limit)."""
CONFLICT = "OptimisticConcurrencyControlFailure"
"""What Convex says when it has run a mutation several times, and others have written what it read each time."""
_BUSY = frozenset((CONFLICT, "TooManyConcurrentRequests", "CommitterFullError", "WorkerOverloaded", "ExpiredInQueue"))
_ROLLED_BACK = _BUSY | {"TooManyWrites"}
"""Codes that Convex says of what it has not begun, or has taken back."""


def passes(status: int, answer: Mapping[str, Any]) -> bool:
    """Whether the failure may be another one, or none, the next time."""
    return (
        status in (408, 425, 429)
        or (status >= 500 and status != 560)  # 560: the function itself failed
        or code_of(answer) == CONFLICT
    )


def busy(status: int, answer: Mapping[str, Any]) -> bool:
    """Whether it is only that too much is asked at once: the same call will be answered, later."""
    return status == 429 or (status == 503 and code_of(answer) in _BUSY)


def rolled_back(answer: Mapping[str, Any]) -> bool:
    """Whether Convex itself says so of a call that it has not begun or has taken back. A proxy says the like of others."""
    return code_of(answer) in _ROLLED_BACK


def code_of(answer: Mapping[str, Any]) -> str:
    """What an error over HTTP is called, "" if it is called nothing."""
    return _legible(answer.get("code"))


def told(answer: Mapping[str, Any]) -> str:
    """The code and the message of an error over HTTP, "" if it has neither."""
    return ": ".join(part for part in (code_of(answer)[:200], _first_line(_legible(answer.get("message")))) if part)


def refused_by_functions(answer: Mapping[str, Any]) -> bool:
    """Whether it is our functions that refuse."""
    data = answer.get("errorData")
    return isinstance(data, dict) and str(data.get("code")) in _ERRORS


def refusal(where: str, kind: Kind, path: str, status: int, answer: Mapping[str, Any]) -> ConvexORMError:
    """The error that an answer stands for. It names the deployment (`where`) and the function (`path`)."""
    data, text = answer.get("errorData"), _legible(answer.get("errorMessage"))
    if isinstance(data, dict) and str(data.get("code")) in _ERRORS:
        with decoding():
            return _ERRORS[str(data["code"])](data)
    said = told(answer)
    meaning = _CODES.get(code_of(answer)) or _STATUSES.get(status)
    if meaning is not None:
        return meaning(where, kind, path, said)
    if answer.get("status") == "error" and text:
        if any(sign in text for sign in _NO_FUNCTION):
            return _no_function(where, kind, path, "")
        return FunctionFailed(f"{where}: {path} failed, HTTP {status}: {_first_line(text)}", function=path, text=text)
    return DeploymentError(f"{where}: {path} failed, HTTP {status}: {said or 'no JSON answer'}")  # a proxy, another server


def ran(failure: FunctionFailed) -> ConvexORMError:
    """What it means that a function of ours, which is there, failed with none of our codes."""
    if any(sign in failure.text for sign in _LIMITS):
        return LimitExceeded("bytes, documents, time or memory of one call (Convex)", maximum=MAX_ARGUMENTS)
    hidden = _BARE.fullmatch(failure.text) is not None
    why = "; production hides why, the deployment's log has it under this id" if hidden else ""
    more = "; a call may take one second and 64 MiB, so less at a time may do"
    failed = FunctionFailed(f"{failure}{why}{more}", function=failure.function, text=failure.text)
    failed.too_much = True
    return failed


def absent(where: str, kind: Kind, failure: FunctionFailed | FunctionNotFound, access: Access | None) -> ConvexORMError:
    """What it means that a function of ours failed, and that nothing of ours answers there.

    `access` is what the key may do, None where the deployment does not tell.
    """
    path = failure.function
    if access is not None and not access.allows(kind):
        return _lacks(where, kind, path, "")
    text = failure.text if isinstance(failure, FunctionFailed) else ""
    for signs, state in _STATES:
        if any(sign in text for sign in signs):
            return DeploymentError(f"{where} runs no functions: the deployment is {state}")
    if isinstance(failure, FunctionNotFound):
        return failure
    said = "" if _BARE.fullmatch(text) else f" ({_first_line(text)})"
    return FunctionNotFound(
        f"{where} does not run {path!r} of this library{said}: it is not deployed there, or the deployment is paused or "
        f"disabled, or the key lacks {operation(kind)}; {DEPLOY}",
        function=path,
    )


def _legible(text: object) -> str:
    """Text that can be printed: JSON can hold halves of characters, on which printing or logging an error would fail."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else ""


def _first_line(text: str) -> str:
    """Of a text the first line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not _BARE.fullmatch(line)]
    return (told or lines or [""])[0][:200]


# what Convex itself means

_BARE = re.compile(r"(\[Request ID: [^\]]*\] )?Server Error\s*")
"""All that production says of a failure."""
_NO_FUNCTION = ("Could not find public function", "Could not find function", "Couldn't find JavaScript module")
_LIMITS = ("Convex limit", "Too many ", "too large", "limit:", "timed out", "out of memory", "too many ")
_STATES = [
    (("while this deployment is paused",), "paused; resume it in the dashboard's settings"),
    (("while this deployment is suspended",), "suspended; ask Convex"),
    (("exceeded the free plan limits",), "disabled, as its team is over the limits of the free plan"),
    (("exceeded your spending limits",), "disabled, as its team is over its spending limits"),
    (("exceeded a configured usage limit",), "disabled, as it is over a usage limit set in its settings"),
    (("no longer supported",), "of a version of Convex's npm package that is no longer supported; update it and deploy"),
]


def _bad_key(where: str, kind: Kind, path: str, said: str) -> ConvexORMError:
    return AuthError(f"{where} refused the admin key{f' ({said})' if said else ''}")


def _lacks(where: str, kind: Kind, path: str, said: str) -> ConvexORMError:
    return AuthError(
        f"{where} does not let this key run {path!r}: it lacks {operation(kind)}; add that to the deploy key's actions in "
        f"the dashboard, or make a key that has it{f' ({said})' if said else ''}"
    )


def _no_function(where: str, kind: Kind, path: str, said: str) -> ConvexORMError:
    return FunctionNotFound(f"{where} has no function {path!r}; {DEPLOY}", function=path)


def _over_limit(where: str, kind: Kind, path: str, said: str) -> ConvexORMError:
    return LimitExceeded(f"bytes or documents of one call (Convex{f', {said}' if said else ''})", maximum=MAX_ARGUMENTS)


def _stopped(where: str, kind: Kind, path: str, said: str) -> ConvexORMError:
    return DeploymentError(f"{where} runs no functions: the deployment is paused, disabled or suspended ({said})")


Meaning = Callable[[str, Kind, str, str], ConvexORMError]

_CODES: dict[str, Meaning] = {
    **dict.fromkeys(
        (
            "BadDeployKey",
            "BadAdminKey",
            "InvalidAdminKey",
            "HeaderParseFailure",
            "InvalidHeaderFailure",
            "Unauthenticated",
        ),
        _bad_key,
    ),
    **dict.fromkeys(
        ("TooManyReads", "TooManyDocumentsRead", "TooManyBytesRead", "TooManyWrites", "TooManyBytesWritten"), _over_limit
    ),
    "SystemTimeoutError": _over_limit,
    "IsolateOutOfMemory": _over_limit,
    "OperationNotPermitted": _lacks,
    "FunctionPathNotFound": _no_function,
    "BackendIsNotRunning": _stopped,
}
_STATUSES: dict[int, Meaning] = {401: _bad_key, 403: _bad_key}

# what the codes of docs/wire.md mean here


def _version(data: Mapping[str, Any]) -> ConvexORMError:
    supported = data.get("supported")
    newer = isinstance(supported, int | float) and supported > VERSION
    mend = "update this library: `pip install --upgrade convexorm`" if newer else DEPLOY
    return DeploymentError(
        f"the deployment's functions speak wire version {supported}, this library version {VERSION}; {mend}"
    )


def _unknown_table(data: Mapping[str, Any]) -> ConvexORMError:
    table = str(data.get("table"))
    if table.startswith("convexorm_"):  # ours, beside whatever tables the project has
        how = "add the lines that `python -m convexorm init` prints to its schema.ts, deploy it"
    else:
        how = "write the schema with `python -m convexorm schema`, or add it to your own, deploy it"
    return DeploymentError(f"the deployment has no table {table!r}; {how}")


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


def _no_such(data: Mapping[str, Any]) -> ConvexORMError:
    path = str(data.get("path"))
    problem = f"the deployment has no mutation or action {path!r} that could be scheduled; nothing was written"
    return FunctionNotFound(problem, function=path)


def _invalid(data: Mapping[str, Any]) -> ConvexORMError:
    field = data.get("field")
    return ValidationError(str(data.get("message" if field is None else "why")), table=data.get("table"), field=field)


def _stale(data: Mapping[str, Any]) -> ConvexORMError:
    return StaleDataError(
        table=str(data.get("table")),
        reason=data.get("reason", "changed"),
        write=int(data["write"]) if "write" in data else None,
        fields=data.get("fields") or (),
        relation=data.get("relation"),
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
    "NoFunction": _no_such,
}
