/** Functions for the tests of the local host. */
import { actionGeneric, mutationGeneric, queryGeneric } from "convex/server";
import { v } from "convex/values";

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
