/** The functions of `running.test.ts`. */
import { actionGeneric, makeFunctionReference, mutationGeneric, queryGeneric } from "convex/server";

const noteReference = makeFunctionReference("jobs:note");

export const noted = queryGeneric({ handler: ({ db }) => db.query("notes").collect() });
export const jobs = queryGeneric({ handler: ({ db }) => db.system.query("_scheduled_functions").collect() });

export const note = mutationGeneric({
  handler: async ({ db }, { text }) => {
    await db.insert("notes", { text });
    if (text === "bad") throw new Error("bad");
  },
});

export const later = mutationGeneric({
  handler: async ({ scheduler }, { text, delay, fail }) => {
    const id = await scheduler.runAfter(delay, noteReference, { text });
    if (fail) throw new Error("no");
    return id;
  },
});

/** What it schedules in a mutation of its own that fails is undone. */
export const nested = mutationGeneric({
  handler: async (ctx) => {
    try {
      await ctx.runMutation(makeFunctionReference("jobs:later"), { text: "undone", delay: 0, fail: true });
    } catch {}
  },
});

export const cancel = mutationGeneric({ handler: ({ scheduler }, { id }) => scheduler.cancel(id) });
/** Cancels all that is pending, itself among it. */
export const cancelAll = mutationGeneric({
  handler: async ({ db, scheduler }) => {
    for (const { _id, state } of await db.system.query("_scheduled_functions").collect()) {
      if (state.kind === "pending") await scheduler.cancel(_id);
    }
    await db.insert("notes", { text: "cancelled" });
  },
});
export const soon = mutationGeneric({
  handler: ({ scheduler }, { delay }) => scheduler.runAfter(delay, makeFunctionReference("jobs:cancelAll"), {}),
});
export const write = mutationGeneric({ handler: ({ db }) => db.insert("_storage", { size: 1 }) });

export const slow = actionGeneric({ handler: () => new Promise(() => {}) });
export const slowly = mutationGeneric({
  handler: ({ scheduler }) => scheduler.runAfter(0, makeFunctionReference("jobs:slow"), {}),
});

export const files = actionGeneric({
  handler: async (ctx) => {
    const id = await ctx.storage.store(new Blob(["hello"], { type: "text/x" }));
    const blob = await ctx.storage.get(id);
    const wrong = await ctx.storage.store(new Blob(["x"]), { sha256: "00" }).catch(() => "refused");
    const { size, contentType } = await ctx.storage.getMetadata(id);
    await ctx.storage.delete(id);
    return { text: await blob.text(), type: blob.type, wrong, size, contentType, gone: await ctx.storage.get(id) };
  },
});
