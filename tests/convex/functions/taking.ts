/** Mutations of a project that keeps unique indexes by itself. */
import { internalMutationGeneric } from "convex/server";
import { v } from "convex/values";
import { uniqueIn } from "../../../convex/orm/unique";
import schema from "./schema";

export const keepUnique = uniqueIn(schema, { tasks: ["by_text"], items: ["by_owner", "by_kind"] });

export const take = internalMutationGeneric({
  args: { text: v.string() },
  handler: async ({ db }, { text }) => {
    const id = await db.insert("tasks", { text });
    await keepUnique(db, "tasks", id);
    return id;
  },
});

export const put = internalMutationGeneric({
  args: { item: v.any(), id: v.optional(v.id("items")) },
  handler: async ({ db }, { item, id }) => {
    if (id !== undefined) await db.replace(id, item);
    const written = id ?? (await db.insert("items", item));
    await keepUnique(db, "items", written);
    return written;
  },
});
