"""Serving a Convex project on this machine: the local host, run by Node in the place of this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from convexorm.errors import InvalidRequestError
from convexorm.projects.layout import Project
from convexorm.projects.node import host_folder, node

__all__ = ["command_of", "serve"]


def serve(project: Project, *, port: int, admin_key: str | None, persist: Path | None) -> int:
    """Become the local host of a project, which says `ready URL` once it serves, and ends on SIGTERM and SIGINT.

    Raises InvalidRequestError as `command_of` does.
    """
    command = command_of(project, port=port, admin_key=admin_key, persist=persist)
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)  # so that a signal to this process is one to the host
    return subprocess.run(command, check=False).returncode


def command_of(project: Project, *, port: int, admin_key: str | None, persist: Path | None) -> list[str]:
    """What runs the host. Raises InvalidRequestError where there is no Node, or one that is too old, where this
    installation does not carry the host, and where the project lacks the package `convex`.
    """
    host = host_folder() / "serve.mjs"
    if not host.is_file():
        raise InvalidRequestError("this installation does not carry the local host; install the wheel, or use a checkout")
    functions = project.functions.resolve()
    if not any((place / "node_modules" / "convex" / "package.json").is_file() for place in functions.parents):
        raise InvalidRequestError(f"the package convex is not installed in {project.root}: `npm install` brings it")
    options = ["--functions", str(functions), "--port", str(port)]
    options += [] if admin_key is None else ["--admin-key", admin_key]
    options += [] if persist is None else ["--persist", str(persist.absolute())]
    return [node("serve"), "--no-warnings", "--experimental-transform-types", str(host), *options]
