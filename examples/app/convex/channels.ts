import { v } from "convex/values";
import { mutation, query } from "./_generated/server";
import { documents } from "./documents";

/** Open a channel with its first members. */
export const open = mutation({
  returns: v.object({ channel: v.id("channels"), members: v.array(v.id("users")) }),
  args: { name: v.string(), members: v.array(v.object({ email: v.string(), name: v.string() })) },
  handler: async (ctx, { name, members }) => {
    const ids = [];
    for (const { email, name: called } of members) {
      const known = await ctx.db
        .query("users")
        .withIndex("by_email", (q) => q.eq("email", email))
        .unique();
      ids.push(known?._id ?? (await ctx.db.insert("users", { email, name: called, role: "member" })));
    }
    return { channel: await ctx.db.insert("channels", { name, topic: null, members: ids }), members: ids };
  },
});

/** A channel with its members as they are now. */
export const show = query({
  args: { channel: v.id("channels") },
  returns: v.union(v.object({ channel: documents.channels, members: v.array(v.union(documents.users, v.null())) }), v.null()),
  handler: async (ctx, { channel }) => {
    const found = await ctx.db.get(channel);
    if (found === null) return null;
    return { channel: found, members: await Promise.all(found.members.map((member) => ctx.db.get(member))) };
  },
});
