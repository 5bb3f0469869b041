"""Where requests are answered: `connect` opens a deployment by its URL."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from convexorm.deployments.base import Deployment, Port
from convexorm.deployments.embedded import EmbeddedDeployment
from convexorm.deployments.remote import RemoteDeployment
from convexorm.errors import DeploymentError

__all__ = ["Deployment", "EmbeddedDeployment", "Port", "RemoteDeployment", "connect"]


def connect(
    url: str | None = None, admin_key: str | None = None, *, functions: str = "orm", timeout: float = 30.0
) -> Deployment:
    """A deployment by its URL.

    `https://…` and `http://…` are Convex and need the deployment's `admin_key`; `sqlite:///relative/path` and
    `sqlite:////absolute/path` are a SQLite file (`?mode=ro` only reads it, `?synchronous=full` holds a commit against a
    power cut; a `?` of the path is `%3F`), `memory:` is a deployment that ends with the object. Without a URL,
    `CONVEX_URL` and `CONVEX_ADMIN_KEY` of the environment are used. `functions` is the module of `read`, `commit` and
    `search` in the Convex project, `timeout` the seconds one call may take. Nothing is contacted or created before the
    first request, but a SQLite file.

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
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises ValueError for one that is none)
    except ValueError as error:
        raise DeploymentError(f"not a URL: {error}") from None
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return EmbeddedDeployment.at(url)
    if parts.scheme in ("http", "https") and parts.netloc:
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise DeploymentError("the URL of a Convex deployment holds no user, no password, no ? and no #")
        return RemoteDeployment(url, admin_key, functions=functions, timeout=timeout)
    raise DeploymentError(
        f"cannot connect to a URL of scheme {parts.scheme!r}; https://, http://, sqlite:///path and memory: are right"
    )
