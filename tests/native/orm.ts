import { ormFunctions } from "../../convex/orm/functions";
import schema from "./schema";

export const { read, commit, search, sweep, file, store, describe } = ormFunctions(schema);
