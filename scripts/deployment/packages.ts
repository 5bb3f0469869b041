/**
 * Lets functions in any directory import packages: what cannot be found from there is taken from this project.
 *
 * Node runs this in its loader (`module.register`). Modules that Node loads as CommonJS find the project's packages through NODE_PATH.
 */
import type { ResolveHook } from "node:module";

const BARE = /^(@[^/]+\/)?[a-z0-9][^:]*$/i;

export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (!BARE.test(specifier) || (error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    const here = { ...context, parentURL: import.meta.url };
    // If it is not here either, the first error names the module that asked.
    return await Promise.resolve(nextResolve(specifier, here)).catch(() => Promise.reject(error));
  }
};
