/**
 * What a session calls: `orm:read`, `orm:commit` and `orm:search`, with `orm:describe`, described in `docs/wire.md`.
 *
 * To add them to a Convex project, copy this file and the folder `orm` next to the project's `schema.ts`. Under another name, tell
 * `ormFunctions` the path, such as "lib/store", and `connect` the same as `functions`.
 */
import { ormFunctions } from "./orm/functions";
import schema from "./schema";

export const { read, commit, search, sweep, file, store, describe } = ormFunctions(schema);
