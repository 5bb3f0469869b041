/** Functions for the tests of the local host. */
import { actionGeneric, mutationGeneric, paginationOptsValidator, queryGeneric } from "convex/server";
import { ConvexError, v } from "convex/values";

export const echo = queryGeneric({ args: { value: v.any() }, handler: (_ctx, { value }) => Promise.resolve(value) });

export const list = queryGeneric({
  args: { length: v.number() },
  handler: (_ctx, { length }) => Promise.resolve(Array.from({ length }, () => null)),
});

export const text = queryGeneric({
  args: { length: v.number() },
  handler: (_ctx, { length }) => Promise.resolve("x".repeat(length)),
});

export const fail = mutationGeneric({
  args: {},
  handler: async ({ db }) => {
    await db.insert("items", { rank: 1 });
    throw new Error("on purpose");
  },
});

export const twice = actionGeneric({ args: { n: v.number() }, handler: (_ctx, { n }) => Promise.resolve(2 * n) });

export const notAFunction = () => "a plain export";

export const forget = actionGeneric({
  args: {},
  handler: () => {
    void Promise.reject(new Error("forgotten"));
    return Promise.resolve(null);
  },
});

export const throwLater = actionGeneric({
  args: {},
  handler: () => {
    setImmediate(() => {
      throw new Error("later");
    });
    return Promise.resolve(null);
  },
});

/** Writes, and keeps the processor busy for so many milliseconds of its own time. */
export const burn = mutationGeneric({
  args: { milliseconds: v.number() },
  handler: async ({ db }, { milliseconds }) => {
    await db.insert("items", { rank: 1 });
    const { user } = process.cpuUsage();
    while (process.cpuUsage().user - user < milliseconds * 1_000);
    return null;
  },
});

/** Reads all items and adds one; what the test has put there happens meanwhile. */
export const contended = mutationGeneric({
  args: {},
  handler: async ({ db }) => {
    const items = await db.query("items").collect();
    (globalThis as unknown as { meanwhile?: () => void }).meanwhile?.();
    await db.insert("items", { rank: items.length });
    return items.length;
  },
});

export const uploadUrl = mutationGeneric({ handler: async ({ storage }) => await storage.generateUploadUrl() });

export const file = queryGeneric({
  args: { storageId: v.string() },
  handler: async ({ storage }, { storageId }) => ({ url: await storage.getUrl(storageId) }),
});

export const insertItem = mutationGeneric({
  args: { owner: v.string(), rank: v.number() },
  handler: async ({ db }, item) => await db.insert("items", item),
});

export const countOf = queryGeneric({
  args: { owner: v.string() },
  handler: async ({ db }, { owner }) =>
    (await db.query("items").withIndex("by_owner", (range) => range.eq("owner", owner)).collect()).length,
});

export const page = queryGeneric({
  args: { owner: v.string(), paginationOpts: paginationOptsValidator },
  handler: async ({ db }, { owner, paginationOpts }) =>
    await db.query("items").withIndex("by_owner", (range) => range.eq("owner", owner)).paginate(paginationOpts),
});

/** The rank of an owner's item; throws while there is none. */
export const unlessRank = queryGeneric({
  args: { owner: v.string() },
  handler: async ({ db }, { owner }) => {
    const item = await db.query("items").withIndex("by_owner", (range) => range.eq("owner", owner)).first();
    if (item === null) throw new ConvexError({ owner });
    return item["rank"] as number;
  },
});
