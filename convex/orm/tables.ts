/** The tables that `orm.ts` keeps for itself: spread them into the schema, as `...ormTables`. */
import { defineTable } from "convex/server";
import { v } from "convex/values";

export const ormTables = {
  convexorm_commits: defineTable({
    commitId: v.string(),
    answer: v.string(),
  })
    .index("by_commit", ["commitId"]),
};
