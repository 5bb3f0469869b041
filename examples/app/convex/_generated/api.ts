/* What `npx convex codegen` writes: references to all functions. */
import { anyApi, type ApiFromModules, type FilterApi, type FunctionReference } from "convex/server";
import type * as channels from "../channels";
import type * as messages from "../messages";

type Modules = ApiFromModules<{ channels: typeof channels; messages: typeof messages }>;

export const api = anyApi as unknown as FilterApi<Modules, FunctionReference<any, "public">>;
export const internal = anyApi as unknown as FilterApi<Modules, FunctionReference<any, "internal">>;
