/**
 * What the npm package's `ConvexNativeVector` calls: `mastra/nativeVector:query`, `read` and `write`, described in
 * `docs/functions.md`.
 */
import schema from "../schema";
import { vectorFunctions } from "./vectors/functions";

export const { query, read, write } = vectorFunctions(schema);
