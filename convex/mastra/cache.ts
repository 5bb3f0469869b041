/**
 * What the npm package's `ConvexServerCache` calls: `mastra/cache:handle`, described in `docs/functions.md`.
 */
import { cacheFunction } from "./cache/handle";

export const handle = cacheFunction();
