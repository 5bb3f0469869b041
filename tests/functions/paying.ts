/** A mutation of a project that keeps counters by itself. */
import { internalMutationGeneric, type DataModelFromSchemaDefinition, type GenericDatabaseWriter } from "convex/server";
import { v } from "convex/values";
import { countersIn } from "../../convex/orm/counting";
import schema from "./schema";

export const keepCounters = countersIn(schema, {
  payments: {
    total: { by: ["ownerId"] },
    all_of_them: {},
    paid_or_not: { by: ["ownerId", "paid"] },
    sum_of_owner: { by: ["ownerId"], of: "amount" },
  },
});

type Db = GenericDatabaseWriter<DataModelFromSchemaDefinition<typeof schema>>;

/** A payment becomes another, or comes to be; without an owner it is deleted. */
export const pay = internalMutationGeneric({
  args: { id: v.string(), owner: v.optional(v.string()), amount: v.optional(v.number()) },
  handler: async (ctx, { id, owner, amount }) => {
    const db = ctx.db as unknown as Db;
    const before = await db
      .query("payments")
      .withIndex("by_payment_id", (range) => range.eq("id", id))
      .first();
    if (owner === undefined) {
      if (before !== null) await db.delete(before._id);
      await keepCounters(db, "payments", before, null);
      return;
    }
    const fields = { id, ownerId: owner, paid: true, ...(amount === undefined ? {} : { amount }) };
    const written = before?._id ?? (await db.insert("payments", fields));
    if (before !== null) await db.replace(before._id, fields);
    await keepCounters(db, "payments", before, await db.get(written));
  },
});
