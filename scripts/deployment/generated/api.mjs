/** What Convex's command line generates as `_generated/api`, for a project that does not keep it. */
import { anyApi, componentsGeneric } from "convex/server";

export const api = anyApi;
export const internal = anyApi;
export const components = componentsGeneric();
