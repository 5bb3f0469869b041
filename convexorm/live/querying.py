"""Watching queries: statements become the reads that a deployment keeps answering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convexorm.deployments.base import Deployment
from convexorm.errors import InvalidRequestError, LimitExceeded
from convexorm.live.states import QueryStates, States
from convexorm.live.watch import Watch
from convexorm.querying.statements import Statement
from convexorm.requests import MAX_READS, check_reads

__all__ = ["watch"]


def watch(
    deployment: Deployment,
    statements: Sequence[Statement[Any]],
    *,
    on_state: Callable[[bool], object] | None = None,
    tables: Mapping[str, str] | None = None,
    view: Callable[[States], States] | None = None,
) -> Watch[Any]:
    """`Deployment.watch`; `tables` renames tables, as it does for a session, and a `view` makes something of the states."""
    if not statements:
        raise InvalidRequestError("watch() takes a query, or what is asked of one")
    if len(statements) > MAX_READS:
        raise LimitExceeded("statements of one watch", maximum=MAX_READS, actual=len(statements))
    states = QueryStates(deployment, statements, tables)
    check_reads(states.reads)
    return Watch(view(states) if view else states, lambda mailbox: deployment.subscribe(states.reads, mailbox), on_state)
