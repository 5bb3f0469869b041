import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import { action, internalMutation, mutation, query } from "./_generated/server";
import { internal } from "./_generated/api";
import { documents } from "./documents";

/** The latest messages of a channel, newest first. */
export const list = query({
  args: { channel: v.id("channels"), limit: v.optional(v.number()) },
  returns: v.array(documents.messages),
  handler: async (ctx, { channel, limit }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .order("desc")
      .take(limit ?? 50),
});

/** All messages of a channel, the oldest first, page by page. */
export const history = query({
  args: { channel: v.id("channels"), paginationOpts: paginationOptsValidator },
  returns: v.object({
    page: v.array(documents.messages),
    isDone: v.boolean(),
    continueCursor: v.string(),
    splitCursor: v.optional(v.union(v.string(), v.null())),
    pageStatus: v.optional(v.union(v.literal("SplitRecommended"), v.literal("SplitRequired"), v.null())),
  }),
  handler: async (ctx, { channel, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .paginate(paginationOpts),
});

/** Say something in a channel that one is a member of. */
export const send = mutation({
  args: { channel: v.id("channels"), author: v.id("users"), text: v.string() },
  returns: v.id("messages"),
  handler: async (ctx, { channel, author, text }) => {
    const found = await ctx.db.get(channel);
    if (found === null) throw new ConvexError({ code: "NoChannel", channel });
    if (!found.members.includes(author)) throw new ConvexError({ code: "NotAMember", channel: found.name });
    return await ctx.db.insert("messages", { channel, author, text, body: { kind: "text", text } });
  },
});

/** Remove what somebody wrote; for the server alone. */
export const purge = internalMutation({
  args: { channel: v.id("channels"), author: v.id("users") },
  returns: v.number(),
  handler: async (ctx, { channel, author }) => {
    const messages = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .collect();
    const theirs = messages.filter((message) => message.author === author);
    for (const message of theirs) await ctx.db.delete(message._id);
    return theirs.length;
  },
});

/** Say the same in several channels, one after the other. */
export const announce = action({
  args: { channels: v.array(v.id("channels")), author: v.id("users"), text: v.string() },
  returns: v.number(),
  handler: async (ctx, { channels, author, text }): Promise<number> => {
    for (const channel of channels) await ctx.runMutation(internal.messages.post, { channel, author, text });
    return channels.length;
  },
});

export const post = internalMutation({
  args: { channel: v.id("channels"), author: v.id("users"), text: v.string() },
  returns: v.null(),
  handler: async (ctx, { channel, author, text }) => {
    await ctx.db.insert("messages", { channel, author, text, body: { kind: "text", text } });
    return null;
  },
});

/** Say what came by mail; null for a channel or a member that there is not. */
export const mailed = internalMutation({
  args: { channel: v.string(), email: v.string(), text: v.string() },
  returns: v.union(v.id("messages"), v.null()),
  handler: async (ctx, { channel, email, text }) => {
    const found = await ctx.db
      .query("channels")
      .withIndex("by_name", (q) => q.eq("name", channel))
      .first();
    const author = await ctx.db
      .query("users")
      .withIndex("by_email", (q) => q.eq("email", email))
      .first();
    if (found === null || author === null || !found.members.includes(author._id)) return null;
    return await ctx.db.insert("messages", { channel: found._id, author: author._id, text, body: { kind: "text", text } });
  },
});

/** Forget messages of more than some days ago, with their files; what is left is for the next time. */
export const forget = internalMutation({
  args: { days: v.number() },
  returns: v.number(),
  handler: async (ctx, { days }) => {
    const old = await ctx.db
      .query("messages")
      .withIndex("by_creation_time", (q) => q.lt("_creationTime", Date.now() - days * 86_400_000))
      .take(100);
    for (const { _id, body } of old) {
      if (body.kind === "file") await ctx.storage.delete(body.file);
      await ctx.db.delete(_id);
    }
    return old.length;
  },
});
