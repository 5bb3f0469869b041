import { vectorFunctions } from "../../../../../convex/mastra/vectors/functions";
import schema from "../schema";

export const { query, read, write } = vectorFunctions(schema);
