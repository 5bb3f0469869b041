"""What stands between a program and its deployment, looked at in the order in which it would be met, a line each.

Each line says what was found, and what to do about it where that is not right. Nothing is written, and of a deployment on
Convex only the newest documents of each table are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from convexorm.deployments.base import Deployment, Port
from convexorm.errors import AuthError, ConvexORMError, DeploymentError, LimitExceeded, ValidationError
from convexorm.exports import differences
from convexorm.faces import finish
from convexorm.requests import Document, Range, Read
from convexorm.schema import Table
from convexorm.values import MAX_DOCUMENT_SIZE, document_size
from convexorm.wire import DEPLOY, VERSION

if TYPE_CHECKING:
    from convexorm.deployments.remote import RemotePort

__all__ = ["Finding", "diagnose"]

_SKEW = 30.0
"""Seconds by which two clocks may differ: times that a program stores would be out of order beyond that."""
_LOOKED_AT = 50
"""Newest documents of a table that are looked at."""
_CLOSE = 0.8
"""The part of Convex's limit on a document from which one is close to it."""
_WRITE_SCHEMA = "write the schema again with `python -m convexorm schema`, and deploy it"


@attrs.frozen
class Finding:
    """One line: what was looked at, whether it is right, and what was found or is to be done."""

    name: str
    right: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.right else 'FAIL'}  {self.name:<10} {self.text}"


def diagnose(deployment: Deployment, tables: Sequence[Table] = ()) -> Iterator[Finding]:
    """What is found, in order; ends where what follows could not be found out. `tables` are those of the models."""
    from convexorm.deployments.remote import RemoteDeployment  # what speaks HTTP takes long to import

    port = deployment.blocking
    looks: list[Iterator[Finding]]
    if isinstance(deployment, RemoteDeployment):
        looks = [_reached(deployment.blocking), _functions(deployment.blocking), _schema(deployment.blocking, tables)]
    else:
        looks = [_opened(port)]
    for look in [*looks, _indexes(port, tables), _documents(port, tables)]:
        right = True
        for finding in look:
            yield finding
            right &= finding.right or finding.name == _CLOCK
        if not right:
            return


_REACHABLE, _KEY, _CLOCK = "reachable", "key", "clock"


def _opened(port: Port) -> Iterator[Finding]:
    try:
        finish(port.read([Read(Range(Table("convexorm_doctor", {}), "by_creation_time"), limit=0)]))
    except ConvexORMError as error:
        yield Finding(_REACHABLE, False, str(error))
    else:
        yield Finding(_REACHABLE, True, "opens, and can be read")


def _reached(port: RemotePort) -> Iterator[Finding]:
    from convexorm.deployments.remote import OPERATIONS, operation

    asked = time.time()
    try:
        answer = finish(port.greet())
    except ConvexORMError as error:
        yield Finding(_REACHABLE, False, f"{error}: look at the URL, at the network, and at the proxy of the environment")
        return
    spent = time.time() - asked
    yield Finding(_REACHABLE, True, f"answers in {1_000 * spent:.0f} ms")
    try:
        access = finish(port.access())
    except AuthError as error:
        yield Finding(_KEY, False, f"{error}: make a deploy key in the settings of this very deployment")
        return
    except DeploymentError as error:
        yield Finding(_KEY, False, str(error))
        return
    if access is None:
        yield Finding(_KEY, True, "is taken; the deployment does not tell which operations it has")
    else:
        lacks = [operation(kind) for kind in OPERATIONS if not access.allows(kind)]
        if operation("query") in lacks:
            yield Finding(_KEY, False, f"can read nothing: it lacks {', '.join(lacks)}; add them to its actions")
        elif lacks:
            yield Finding(_KEY, True, f"reads, but lacks {', '.join(lacks)}, for commits and searches")
        else:
            yield Finding(_KEY, True, "has the operations for reading, committing and searching")
    if answer.date is not None:
        skew = answer.date.timestamp() - asked - spent / 2
        text = f"{abs(skew):.0f} seconds {'behind' if skew > 0 else 'ahead of'} the deployment's"
        right = abs(skew) < _SKEW
        yield Finding(_CLOCK, right, "agrees with the deployment's" if right else f"is {text}: set this machine's clock")


def _functions(port: RemotePort) -> Iterator[Finding]:
    for function, needed in (("read", True), ("commit", False), ("search", False)):
        try:
            version = finish(port.deployed(function))
        except AuthError as error:
            if needed:
                yield Finding(function, False, str(error))
            continue
        except ConvexORMError as error:
            yield Finding(function, False, str(error))
            continue
        if version == VERSION:
            yield Finding(function, True, f"is deployed, of wire version {version}")
        else:
            mend = "update this library: `pip install --upgrade convexorm`" if version > VERSION else DEPLOY
            yield Finding(function, False, f"is of wire version {version}, this library of {VERSION}: {mend}")


def _schema(port: RemotePort, tables: Sequence[Table]) -> Iterator[Finding]:
    """What the schema says. Functions that do not tell it are found to lack indexes all the same, by what follows."""
    if not tables:
        return
    try:
        deployed = finish(port.describe())
    except ConvexORMError as error:
        yield Finding("describe", False, str(error))
        return
    found = [one for table in tables for one in differences(table, deployed)]
    for one in found:
        yield Finding(
            "schema", False, f"{one}: {_WRITE_SCHEMA}, or write the models again with `python -m convexorm reflect`"
        )
    if not found:
        yield Finding("schema", True, f"has {len(tables)} table{'s' if len(tables) != 1 else ''} as the models say")


def _indexes(port: Port, tables: Sequence[Table]) -> Iterator[Finding]:
    """Reads of no documents: a deployment refuses them where it lacks the table, or an index is another."""
    for table in tables:
        names = [index.name for index in table.indexes]
        wrong = []
        for name in names or ["by_creation_time"]:
            try:
                finish(port.read([Read(Range(table, name), limit=0)]))
            except ConvexORMError as error:
                wrong.append(str(error))
        if wrong:
            for text in wrong:
                mend = "" if "schema" in text else f": {_WRITE_SCHEMA}"
                yield Finding("schema", False, f"{text.rstrip('.')}{mend}")
        else:
            yield Finding("schema", True, f"table {table.name!r} is there, with {len(names)} indexes as the model says")


def _documents(port: Port, tables: Sequence[Table]) -> Iterator[Finding]:
    for table in tables:
        (result,) = finish(port.read([Read(Range(table, "by_creation_time"), order="desc", limit=_LOOKED_AT)]))
        other, large = None, 0
        for document in result.docs:
            fields = {name: value for name, value in document.items() if name not in ("_id", "_creationTime")}
            large = max(large, document_size(fields))
            other = other or _flaw(table, fields)
        name = "documents"
        if other is not None:
            yield Finding(name, False, f"the newest of table {table.name!r} are not as the model says: {other}")
        elif large > _CLOSE * MAX_DOCUMENT_SIZE:
            yield Finding(
                name,
                False,
                f"of table {table.name!r} one has {large:,} bytes, and Convex takes {MAX_DOCUMENT_SIZE:,}: keep large "
                "fields in documents of their own",
            )
        else:
            yield Finding(
                name,
                True,
                f"the newest {len(result.docs)} of table {table.name!r} are as the model says, at most {large:,} bytes",
            )


def _flaw(table: Table, fields: Document) -> str | None:
    try:
        table.check(fields)
    except (ValidationError, LimitExceeded) as error:
        return str(error)
    return None
