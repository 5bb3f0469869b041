/** A schema for the tests: a loose table, a strict one, one of vectors, one with a log of its changes, and the ledger. */
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  items: defineTable(v.any())
    .index("by_rank", ["rank"])
    .index("by_owner", ["owner", "rank"])
    .index("by_kind", ["meta.kind"]),
  tasks: defineTable({
    text: v.string(),
    done: v.optional(v.boolean()),
    tags: v.optional(v.array(v.string())),
    size: v.optional(v.union(v.literal("small"), v.float64())),
    by: v.optional(v.object({ name: v.string() })),
    item: v.optional(v.id("items")),
  }).index("by_text", ["text"]),
  points: defineTable({ name: v.string(), at: v.array(v.float64()) }).vectorIndex("by_at", {
    vectorField: "at",
    dimensions: 2,
    filterFields: ["name"],
  }),
  notes: defineTable({ owner: v.optional(v.string()), text: v.string() })
    .index("by_owner_text", ["owner", "text"])
    .index("by_owner", ["owner"]),
  notes_changes: defineTable({ owner: v.optional(v.string()), ids: v.array(v.string()) }).index("by_key", ["owner"]),
  convexorm_commits: defineTable({ commitId: v.string(), answer: v.string() }).index("by_commit", ["commitId"]),
});
