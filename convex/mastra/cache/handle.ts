/**
 * The function that answers every request of the npm package's cache client. It is internal: only a caller with the deployment's
 * admin key reaches it.
 */
import { internalMutationGeneric } from "convex/server";
import { writerOf } from "../../orm/database";
import { answerOf, refusal } from "../storage/errors";
import { textIn, type Request } from "../storage/request";
import { Entries } from "./entries";
import { OPERATIONS } from "./operations";

export const cacheFunction = () =>
  internalMutationGeneric({
    handler: async ({ db }, request: Request) => {
      const entries = new Entries(writerOf(db), Date.now());
      try {
        const op = textIn(request, "op");
        if (!Object.hasOwn(OPERATIONS, op)) throw refusal("Unsupported", `There is no operation "${op}".`, { op });
        return { ok: true, ...(await OPERATIONS[op]!(entries, request)) };
      } catch (error) {
        // A mutation that answers is kept. One that has written must throw, so that what it wrote is undone.
        const refused = entries.hasWritten ? null : answerOf(error);
        if (refused === null) throw error;
        return refused;
      }
    },
  });
