"""Where requests are answered: `connect` opens a deployment by its URL."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from convexorm.deployments.base import ATTEMPTS, Deployment, Port
from convexorm.deployments.embedded import EmbeddedDeployment
from convexorm.errors import DeploymentError

if TYPE_CHECKING:
    from convexorm.deployments.remote import RemoteDeployment

__all__ = ["Deployment", "EmbeddedDeployment", "Port", "RemoteDeployment", "connect"]


def connect(
    url: str | None = None,
    admin_key: str | None = None,
    *,
    functions: str = "orm",
    timeout: float = 30.0,
    retry: int = ATTEMPTS,
) -> Deployment:
    """A deployment by its URL.

    `https://…` and `http://…` are Convex and need the deployment's `admin_key`; `sqlite:///relative/path` and
    `sqlite:////absolute/path` are a SQLite file (`?mode=ro` only reads it, `?synchronous=full` holds a commit against a
    power cut; a `?` of the path is `%3F`), `memory:` is a deployment that ends with the object. Without a URL,
    `CONVEX_URL` and `CONVEX_ADMIN_KEY` of the environment are used. `functions` is the module of `read`, `commit` and
    `search` in the Convex project; `timeout` is the seconds one call may take, all attempts at it included, and `retry` how
    often it is sent at most, 1 being once. Nothing is contacted or created before the first request, but a SQLite file.

    Raises DeploymentError for a URL of another kind, and AuthError for a Convex URL without a key.
    """
    if url is None:
        url = os.environ.get("CONVEX_URL")
        if not url:
            raise DeploymentError("no URL: pass one to connect(), or set CONVEX_URL")
        admin_key = admin_key or os.environ.get("CONVEX_ADMIN_KEY")
    if not isinstance(url, str):
        raise DeploymentError(f"a URL is a string, got {type(url).__name__}")
    if "\0" in url or "%00" in url:
        raise DeploymentError("a URL holds no NUL")
    if url in ("memory:", "sqlite://", "sqlite:///:memory:"):
        return EmbeddedDeployment()
    if url.lower().startswith(("http://", "https://")):
        from convexorm.deployments.remote import RemoteDeployment  # what speaks HTTP and TLS takes long to import

        return RemoteDeployment(url, admin_key, functions=functions, timeout=timeout, retry=retry)
    parts = _parts(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return EmbeddedDeployment.at(url)
    raise DeploymentError(_WRONG)


_WRONG = "cannot connect to such a URL; https://, http://, sqlite:///path and memory: are right"
"""Nothing of it is repeated: what was given for a URL may be a key."""


def __getattr__(name: str) -> Any:
    """`RemoteDeployment`, imported when it is first asked for."""
    if name == "RemoteDeployment":
        from convexorm.deployments.remote import RemoteDeployment

        return RemoteDeployment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _parts(url: str) -> SplitResult:
    with suppress(ValueError):
        return urlsplit(url)
    raise DeploymentError(_WRONG)
