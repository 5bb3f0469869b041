/**
 * What the npm package's `ConvexStore` and `ConvexVector` call: `mastra/storage:handle`, described in `docs/functions.md`.
 *
 * To add it to a Convex project, copy the folders `orm` and `mastra` next to the project's `schema.ts`.
 */
import schema from "../schema";
import { storageFunction } from "./storage/handle";

export const handle = storageFunction(schema);
