import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  convexorm_commits: defineTable({ commitId: v.string(), answer: v.string() }).index("by_commit", ["commitId"]),
});
