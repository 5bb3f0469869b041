import { storageFunction } from "../../../../../convex/mastra/storage/handle";
import schema from "../schema";

export const handle = storageFunction(schema);
