/**
 * The local host in Node alone, without a bundler: `node --experimental-transform-types serve.mjs …`, with the options of `main.ts`.
 *
 * Node runs TypeScript by itself. What bundlers add is that imports may leave out how a file's name ends. The package `convex`, and `ws`
 * that comes with it, are those of the project whose functions are served, whichever file imports them, so that there is one of each.
 */
import { registerHooks } from "node:module";
import { resolve as absolute } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const ENDINGS = [".ts", ".tsx", ".js", "/index.ts", "/index.js"];
const { values } = parseArgs({ options: { functions: { type: "string" } }, strict: false });
const project = pathToFileURL(absolute(String(values.functions), "functions.js")).href;
const here = import.meta.url.slice(0, import.meta.url.lastIndexOf("/") + 1);
let convex;

/** The first that resolves; the last error if none does. */
function first(attempts) {
  let failure;
  for (const attempt of attempts) {
    try {
      return attempt();
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

registerHooks({
  resolve(specifier, context, next) {
    const isPath = /^\.{0,2}\/|^file:/.test(specifier);
    if (isPath) {
      const bare = specifier.replace(/\.js$/, "");
      const generated = /(?:^|\/)_generated\/(server|api)$/.exec(bare)?.[1];
      return first([
        () => next(specifier, context),
        ...ENDINGS.map((ending) => () => next(bare + ending, context)),
        ...(generated === undefined ? [] : [() => next(`${here}generated/${generated}.mjs`, context)]),
      ]);
    }
    if (specifier.startsWith("node:")) return next(specifier, context);
    const at = (parentURL) => () => next(specifier, { ...context, parentURL });
    const isOurs = context.parentURL?.startsWith(here);
    const beside = () => next(specifier, { ...context, parentURL: (convex ??= next("convex/values", { ...context, parentURL: project }).url) });
    return first(isOurs ? [at(project), beside, () => next(specifier, context)] : [() => next(specifier, context), at(project)]);
  },
});

await import("./main.ts");
