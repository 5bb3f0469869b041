/** A deployment in memory for one test, and short ways to say requests. */
import { convexTest } from "convex-test";
import { makeFunctionReference } from "convex/server";
import { ConvexError, type Value } from "convex/values";
import { expect } from "vitest";
import type { Applied, Bound, Document, Read, Result, Write } from "../../convex/orm/protocol";
import { countTransactions, metrics, resetMetrics } from "./counting";
import { assumptionsOf } from "./assumptions";
import schema from "./functions/schema";

countTransactions();

const modules = {
  "./orm.ts": () => import("./functions/orm"),
  "./_generated/api.js": () => Promise.resolve({}),
};

const readFunction = makeFunctionReference<"query">("orm:read");

export const is = (value: Value): Bound => [value];
export const missing: Bound = [];

export const assuming = assumptionsOf(schema);

let commits = 0;

export function deployment() {
  const backend = convexTest({ schema, modules, transactionLimits: true });
  const read = async (...reads: Read[]): Promise<Result[]> =>
    (await backend.query(readFunction, { version: 4, reads: reads.map(assuming) })).results as Result[];
  const commitAs = async (commitId: string, ...writes: Write[]): Promise<Applied[]> => {
    const request = { version: 4, commitId, writes: [writes.map(assuming)] };
    return (await backend.mutation(makeFunctionReference<"mutation">("orm:commit"), request)).results[0] as Applied[];
  };
  return {
    backend,
    read,
    commitAs,
    commit: (...writes: Write[]) => commitAs(`commit ${commits++}`, ...writes),
    mutate: (request: Record<string, unknown>) =>
      backend.mutation(makeFunctionReference<"mutation">("orm:commit"), request),
    query: (request: Record<string, unknown>) => backend.query(readFunction, request),
    search: (request: Record<string, unknown>) =>
      backend.action(makeFunctionReference<"action">("orm:search"), { version: 4, ...request }),
    /** All documents of a table as they were inserted, without Convex's fields. */
    all: async (table: string) => {
      const [result] = await read({ table, index: "by_creation_time" });
      return result!.docs.map(plain);
    },
    one: async (table: string): Promise<Document> => (await read({ table, index: "by_creation_time" }))[0]!.docs[0]!,
    insert: (table: string, ...docs: Record<string, Value>[]) =>
      commitAs(`commit ${commits++}`, ...docs.map((doc): Write => ({ op: "insert", table, doc }))),
  };
}

export type Deployment = ReturnType<typeof deployment>;

export const plain = ({ _id, _creationTime, ...fields }: Document): Record<string, Value> => fields;

/** What a refused request throws. */
export async function refusal(request: Promise<unknown>): Promise<Record<string, Value>> {
  const error = await request.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ConvexError);
  return (error as ConvexError<Record<string, Value>>).data;
}

/** The documents a request reads and writes. */
export async function cost(request: () => Promise<unknown>): Promise<{ read: number; written: number }> {
  resetMetrics();
  await request();
  const { documentsRead, documentsWritten } = metrics();
  return { read: documentsRead, written: documentsWritten };
}
