import { cacheFunction } from "../../../../../convex/mastra/cache/handle";

export const handle = cacheFunction();
