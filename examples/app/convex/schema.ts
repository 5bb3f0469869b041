import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  users: defineTable({
    email: v.string(),
    name: v.string(),
    role: v.union(v.literal("admin"), v.literal("member")),
    avatar: v.optional(v.id("_storage")),
  }).index("by_email", ["email"]),

  channels: defineTable({
    name: v.string(),
    topic: v.union(v.string(), v.null()),
    members: v.array(v.id("users")),
  }).index("by_name", ["name"]),

  messages: defineTable({
    channel: v.id("channels"),
    author: v.id("users"),
    body: v.union(
      v.object({ kind: v.literal("text"), text: v.string() }),
      v.object({ kind: v.literal("file"), file: v.id("_storage"), size: v.number() }),
    ),
    text: v.string(),
    reactions: v.optional(v.record(v.string(), v.number())),
  })
    .index("by_channel", ["channel"])
    .searchIndex("by_text", { searchField: "text", filterFields: ["channel"] }),
});
