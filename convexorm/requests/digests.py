"""Digests of all that a read answers, and what it means to find one again."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

__all__ = ["version_digest", "version_of", "vouches", "whole_digest"]


def whole_digest(digests: Mapping[str, str]) -> str:
    """The digest of documents whose own digests, in order, are these: how many there are, and a SHA-256."""
    each = " ".join(f"{id_} {digest}" for id_, digest in digests.items())
    return f"{len(digests)} {sha256(each.encode()).hexdigest()}"


def version_digest(version: str) -> str:
    """The digest of everything a table holds at a version that it never has again."""
    return f"{_VERSIONED}{version}"


def version_of(digest: str) -> str | None:
    """The version that a digest of everything stands for; None for one of contents."""
    return digest.removeprefix(_VERSIONED) if digest.startswith(_VERSIONED) else None


def vouches(digest: str, digests: Mapping[str, str]) -> bool:
    """Whether documents that have these digests may be kept under a digest of all that was asked for before they were read:
    to find it again later then means that they are as they were.

    A version never comes back, so anything read after it may. A content does, where a change is undone; it must be theirs.
    """
    if digest.startswith(_VERSIONED):
        return True
    calls = digest.split()
    each = list(digests.items())
    for count, whole in zip(calls[::2], calls[1::2], strict=True):
        of_call, each = each[: int(count)], each[int(count) :]
        if whole_digest(dict(of_call)) != f"{count} {whole}":
            return False
    return not each


_VERSIONED = "version "
