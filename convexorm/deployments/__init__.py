"""Where requests are answered: `connect` opens a deployment by its URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from convexorm.deployments.base import ATTEMPTS, Deployment, Port
from convexorm.deployments.embedded import EmbeddedDeployment
from convexorm.errors import DeploymentError, InvalidRequestError

if TYPE_CHECKING:
    from convexorm.deployments.remote import RemoteDeployment

__all__ = ["Deployment", "EmbeddedDeployment", "Port", "RemoteDeployment", "connect"]


def connect(
    url: str | None = None,
    admin_key: str | None = None,
    *,
    module: str = "orm",
    functions: Mapping[str, Callable[..., Any]] | None = None,
    timeout: float = 30.0,
    retry: int = ATTEMPTS,
    echo: bool = False,
    check_schema: bool = False,
) -> Deployment:
    """A deployment by its URL.

    `https://…` and `http://…` are Convex and need the deployment's `admin_key`; `sqlite:///relative/path` and
    `sqlite:////absolute/path` are a SQLite file (`?mode=ro` only reads it, `?synchronous=full` holds a commit against a
    power cut; a `?` of the path is `%3F`), `memory:` is a deployment that ends with the object. Without a URL, the
    environment's `CONVEX_URL` is used, with `CONVEX_ADMIN_KEY` or `CONVEX_DEPLOY_KEY`, or else `CONVEX_SELF_HOSTED_URL`
    with `CONVEX_SELF_HOSTED_ADMIN_KEY`.

    `module` is that of `read`, `commit` and `search` in the Convex project. `functions` are Python functions, by path, that
    stand for the project's own on an embedded deployment, for `convexorm.Functions`. `timeout` is the seconds one call may
    take, all attempts at it included, and `retry` how often it is sent at most, 1 being once; one that the deployment was
    only too busy for is not counted. With `echo` each request is a line on standard error. With `check_schema` the first
    request about a table on Convex asks for the deployed schema, and raises DeploymentError where that is not as the model
    says (`convexorm.compare`). Nothing is contacted or created before the first request, but a SQLite file.

    Raises DeploymentError for a URL of another kind, and AuthError for a Convex URL without a key.
    """
    for name, flag in (("echo", echo), ("check_schema", check_schema)):
        if not isinstance(flag, bool):
            raise InvalidRequestError(f"{name} is True or False, got {type(flag).__name__}")
    deployment = _opened(url, admin_key, module, functions, timeout, retry, check_schema)
    if echo:
        deployment.on_request(lambda request: sys.stderr.write(f"{request}\n"))
    return deployment


def _opened(
    url: str | None,
    admin_key: str | None,
    module: str,
    functions: Mapping[str, Callable[..., Any]] | None,
    timeout: float,
    retry: int,
    check_schema: bool,
) -> Deployment:
    if url is None:
        for name, keys in _ENVIRONMENT.items():
            if url := os.environ.get(name):
                admin_key = admin_key or _first(keys)
                break
        else:
            raise DeploymentError(f"no URL: pass one to connect(), or set {' or '.join(_ENVIRONMENT)}")
    if not isinstance(url, str):
        raise DeploymentError(f"a URL is a string, got {type(url).__name__}")
    if "\0" in url or "%00" in url:
        raise DeploymentError("a URL holds no NUL")
    if url in ("memory:", "sqlite://", "sqlite:///:memory:"):
        return EmbeddedDeployment(functions=functions)
    if url.lower().startswith(("http://", "https://")):
        if functions is not None:
            raise InvalidRequestError(
                "a deployment on Convex runs its own functions; Python functions stand for them on embedded ones"
            )
        from convexorm.deployments.remote import RemoteDeployment  # what speaks HTTP and TLS takes long to import

        return RemoteDeployment(url, admin_key, module=module, timeout=timeout, retry=retry, check_schema=check_schema)
    parts = _parts(url)
    if parts.scheme == "sqlite" and url[6:].startswith(":///") and len(parts.path) > 1:
        return EmbeddedDeployment.at(url, functions=functions)
    raise DeploymentError(_WRONG)


def environment_key() -> str | None:
    """The first key that the environment has, whichever URL it stands beside."""
    return _first([name for names in _ENVIRONMENT.values() for name in names])


def _first(names: Sequence[str]) -> str | None:
    return next(filter(None, map(os.environ.get, names)), None)


_ENVIRONMENT = {
    "CONVEX_URL": ("CONVEX_ADMIN_KEY", "CONVEX_DEPLOY_KEY"),
    "CONVEX_SELF_HOSTED_URL": ("CONVEX_SELF_HOSTED_ADMIN_KEY",),
}
"""Variables that name a deployment, the first first, and those that may hold its key."""
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
