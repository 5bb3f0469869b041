/** What an operation of `handle` is: one handler over the records of a place. */
import type { Value } from "convex/values";
import { refusal } from "./errors";
import type { Place } from "./places";
import type { Records } from "./records";
import type { Request } from "./request";

export interface Context {
  records: Records;
  /** Where the records of the request's table are. */
  place: Place;
}

export interface Answer {
  result?: Value;
  /** The client is to send the request again. */
  hasMore?: boolean;
  /** Where the next page begins. */
  continuationCursor?: string | null;
}

export type Operation = (context: Context, request: Request) => Promise<Answer>;
export type Operations = Record<string, Operation>;

/** The operations for one table alone. */
export function only(table: string, operations: Operations): Operations {
  const guarded = Object.entries(operations).map(([op, run]): [string, Operation] => [
    op,
    async (context, request) => {
      if (context.place.table !== table) throw refusal("Unsupported", `${op} is only for ${table}.`, { table });
      return await run(context, request);
    },
  ]);
  return Object.fromEntries(guarded);
}
