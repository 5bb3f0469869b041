/**
 * The function that answers every request of the npm client: finds the operation, runs it in one mutation, and says what came of it.
 *
 * It is internal: only a caller with the deployment's admin key reaches it.
 */
import { internalMutationGeneric, makeFunctionReference, type GenericSchema, type SchemaDefinition } from "convex/server";
import { Catalog } from "../../orm/catalog";
import { writerOf } from "../../orm/database";
import * as limits from "../../orm/limits";
import { anyTable, meant } from "./anyTable";
import { answerOf, refusal } from "./errors";
import { resources, threads } from "./memory";
import { observations } from "./observations";
import type { Answer, Operations } from "./operation";
import { placeOf } from "./places";
import { Records } from "./records";
import { textIn, type Request } from "./request";
import { schedules, triggers } from "./schedules";
import { workflows } from "./workflows";

const OPERATIONS: Operations = {
  ...anyTable,
  ...threads,
  ...resources,
  ...workflows,
  ...schedules,
  ...triggers,
  ...observations,
};

// Rows that stay too long do no harm, so a deployment without it fails no operation.
const SWEEP = makeFunctionReference<"mutation", Record<string, never>>("orm:sweep");

export function storageFunction(schema: SchemaDefinition<GenericSchema, boolean>) {
  const catalog = new Catalog(schema);
  return internalMutationGeneric({
    handler: async ({ db, scheduler }, request: Request) => {
      const records = new Records(writerOf(db), catalog);
      try {
        const answer = await run(records, request);
        if ((await records.log()) && Math.random() * limits.SWEEP_EVERY < 1) await scheduler.runAfter(0, SWEEP, {}).catch(() => null);
        return { ok: true, ...answer };
      } catch (error) {
        // A mutation that answers is kept. One that has written must throw, so that what it wrote is undone.
        const refused = records.hasWritten ? null : answerOf(error);
        if (refused === null) throw error;
        return refused;
      }
    },
  });
}

async function run(records: Records, request: Request): Promise<Answer> {
  const op = textIn(request, "op");
  if (!Object.hasOwn(OPERATIONS, op)) throw refusal("Unsupported", `There is no operation "${op}".`, { op });
  const place = placeOf(records.catalog, textIn(request, "tableName"));
  return await OPERATIONS[op]!({ records, place: await meant(records, place, request) }, request);
}
