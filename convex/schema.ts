import { defineSchema } from "convex/server";
import { mastraTables } from "./mastra/tables";
import { ormTables } from "./orm/tables";

export default defineSchema({
  ...mastraTables,
  ...ormTables,
});
