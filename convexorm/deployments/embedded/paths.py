"""Paths of files, as they are given: text that a file can be named by, made absolute."""

from __future__ import annotations

import os

from convexorm.errors import DeploymentError

__all__ = ["absolute", "path_of"]


def path_of(given: object) -> str:
    """A path as text. Raises DeploymentError for what names no file; it is not repeated."""
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise DeploymentError(f"the path of a file is a str or an os.PathLike of str, got {type(path).__name__}")
    if not path or "\0" in path:
        raise DeploymentError("the path of a file is not empty, and holds no NUL")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DeploymentError("the path of a file is text that UTF-8 can write") from None
    return path


def absolute(given: object) -> str:
    """A path that stays the same when the process changes its folder. Raises DeploymentError, as `path_of` does."""
    path = path_of(given)
    try:
        return os.path.abspath(path)
    except OSError:
        raise DeploymentError("the path of a file is relative to the working directory, which is not there") from None
