/** The project's schema, and a table with a native vector index as its users declare them. */
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
import schema from "../../../../convex/schema";

export default defineSchema({
  ...schema.tables,
  native_vectors: defineTable({
    id: v.string(),
    embedding: v.array(v.float64()),
    metadata: v.optional(v.any()),
    category: v.optional(v.union(v.string(), v.float64(), v.boolean(), v.null())),
  })
    .index("by_record_id", ["id"])
    .vectorIndex("by_embedding", { vectorField: "embedding", dimensions: 3, filterFields: ["category"] }),
});
