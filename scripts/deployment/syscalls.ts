/**
 * The system calls of the backend, which the server half of the npm package makes: JSON text in, JSON text out.
 *
 * Whose call it is, is known by the asynchronous context that the function was started in, so what a function leaves behind cannot
 * reach another's transaction.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { convexToJson, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { getConvexSize } from "convex/values";
import type { Backend, FunctionAddress } from "./backend";
import type { UserClock } from "./clock";
import { tableOf } from "./ids";
import { pageOf, type FilterJSON, type PageRequest, type QueryJSON } from "./queries";
import type { Transaction } from "./transaction";
import { nearest } from "./vectors";

/** A function that is being run. An action has no transaction. */
export interface Execution {
  name: string;
  backend: Backend;
  transaction: Transaction | undefined;
  clock: UserClock | undefined;
  isOver: boolean;
}

/** The first argument of every system call, whose fields depend on the call. */
type Arguments = Record<string, JSONValue>;

export const executions = new AsyncLocalStorage<Execution>();

const json = (value: unknown): string => JSON.stringify(value ?? null);

function transactionOf({ transaction }: Execution): Transaction {
  if (transaction === undefined) throw new Error("Only queries and mutations reach the database");
  return transaction;
}

const SYNCHRONOUS: Record<string, (execution: Execution, args: Arguments) => string> = {
  "1.0/queryStream": (execution, { query }) =>
    json({ queryId: transactionOf(execution).openScan(query as unknown as QueryJSON) }),
  "1.0/queryCleanup": (execution, { queryId }) => {
    transactionOf(execution).closeScan(queryId as number);
    return "{}";
  },
  "1.0/db/normalizeId": ({ backend }, { table, idString }) => {
    const isTheirs = backend.tables.numbered(tableOf(idString as string))?.name === table;
    return json({ id: isTheirs ? idString : null });
  },
  "1.0/getSnapshotTs": ({ backend }) => json(convexToJson(BigInt(backend.log.time))),
};

const IMMEDIATE: Record<string, (execution: Execution, args: Arguments) => string> = {
  "1.0/get": (execution, { id, table }) => transactionOf(execution).get(id as string, named(table))?.json ?? "null",
  "1.0/queryStreamNext": (execution, { queryId }) => {
    const found = transactionOf(execution).next(queryId as number);
    return found === undefined ? '{"value":null,"done":true}' : `{"value":${found.json},"done":false}`;
  },
  "1.0/queryPage": (execution, args) => json(pageOf(transactionOf(execution), args as unknown as PageRequest)),
  "1.0/insert": (execution, { table, value }) =>
    json({ _id: transactionOf(execution).insert(table as string, fieldsIn(value)) }),
  "1.0/shallowMerge": (execution, { id, value, table }) => {
    transactionOf(execution).merge(id as string, fieldsIn(value), named(table));
    return "{}";
  },
  "1.0/replace": (execution, { id, value, table }) => {
    transactionOf(execution).replace(id as string, fieldsIn(value), named(table));
    return "{}";
  },
  "1.0/remove": (execution, { id, table }) => {
    transactionOf(execution).remove(id as string, named(table));
    return "{}";
  },
  "1.0/schedule": (execution, args) => {
    const transaction = transactionOf(execution);
    const { meter } = transaction;
    const name = execution.backend.requireFunction(addressIn(args));
    meter.add("functionsScheduled", 1);
    meter.add("scheduledFunctionArgsBytes", getConvexSize(jsonToConvex(args["args"]!)));
    return json(execution.backend.jobs.add(transaction, name, args["args"]!, (args["ts"] as number) * 1_000));
  },
  "1.0/cancel_job": (execution, { id }) => {
    execution.backend.jobs.cancel(transactionOf(execution), id as string);
    return "{}";
  },
  "1.0/actions/schedule": ({ backend }, args) => {
    const name = backend.requireFunction(addressIn(args));
    const at = (args["ts"] as number) * 1_000;
    return json(backend.transact((transaction) => backend.jobs.add(transaction, name, args["args"]!, at)));
  },
  "1.0/actions/cancel_job": ({ backend }, { id }) => {
    backend.transact((transaction) => backend.jobs.cancel(transaction, id as string));
    return "{}";
  },
  "1.0/actions/vectorSearch": ({ backend }, { query }) =>
    json({ results: nearest(backend, query as unknown as { indexName: string; vector: number[]; limit: number; expressions: FilterJSON | null }) }),
  "1.0/storageGenerateUploadUrl": ({ backend }) => json(backend.files.uploadUrl()),
  "1.0/storageGetUrl": (execution, { storageId }) =>
    json(within(execution, (transaction) => execution.backend.files.url(transaction, storageId as string))),
  "1.0/storageGetMetadata": (execution, { storageId }) =>
    json(within(execution, (transaction) => execution.backend.files.metadata(transaction, storageId as string))),
  "1.0/storageDelete": (execution, { storageId }) => {
    within(execution, (transaction) => execution.backend.files.delete(transaction, storageId as string));
    return "{}";
  },
  "1.0/getTransactionMetrics": (execution) => json(transactionOf(execution).meter.report()),
  "1.0/getFunctionMetadata": ({ name }) => json({ name, componentPath: "" }),
  "1.0/getDeploymentMetadata": () => json({ name: "local", region: null, class: "s16" }),
  "1.0/getRequestMetadata": () =>
    json({ ip: null, userAgent: null, requestId: "", scheduledFunctionId: null, authToken: null }),
  "1.0/getUserIdentity": () => "null",
};

/** Calls of other functions, which are not the caller's own time. */
const NESTED: Record<string, (execution: Execution, args: Arguments) => Promise<Value>> = {
  "1.0/runUdf": ({ backend, ...execution }, args) =>
    backend.runNested(args["udfType"] as string, addressIn(args), args["args"]!, { backend, ...execution }),
  "1.0/actions/query": ({ backend }, args) => backend.call("query", backend.requireFunction(addressIn(args)), args["args"]!),
  "1.0/actions/mutation": ({ backend }, args) =>
    backend.call("mutation", backend.requireFunction(addressIn(args)), args["args"]!),
  "1.0/actions/action": ({ backend }, args) =>
    backend.call("action", backend.requireFunction(addressIn(args)), args["args"]!),
};

/** Does something in the transaction of a function, or of an action in one of its own. */
const within = <T>({ backend, transaction }: Execution, run: (transaction: Transaction) => T): T =>
  transaction === undefined ? backend.transact(run) : run(transaction);

const named = (table: JSONValue | undefined): string | undefined => (typeof table === "string" ? table : undefined);

const fieldsIn = (value: JSONValue | undefined): Record<string, JSONValue> => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("A document is an object");
  return value as Record<string, JSONValue>;
};

const addressIn = ({ name, reference, functionHandle }: Arguments): FunctionAddress => ({
  name: named(name),
  reference: named(reference),
  functionHandle: named(functionHandle),
});

function current(): Execution {
  const execution = executions.getStore();
  if (execution === undefined) throw new Error("There is no function that could make this call");
  if (execution.isOver) throw new Error(`${execution.name} has ended; it cannot make calls any more`);
  return execution;
}

/** What the npm package finds as `globalThis.Convex`. */
export const Convex = {
  syscall(operation: string, args: string): string {
    const execution = current();
    const call = SYNCHRONOUS[operation];
    if (call === undefined) throw new Error(`Unknown operation ${operation}`);
    return timed(execution, () => call(execution, JSON.parse(args) as Arguments));
  },

  async asyncSyscall(operation: string, args: string): Promise<string> {
    const execution = current();
    const immediate = IMMEDIATE[operation];
    if (immediate !== undefined) return timed(execution, () => immediate(execution, JSON.parse(args) as Arguments));
    const nested = NESTED[operation];
    if (nested === undefined) throw new Error(`Unknown async operation ${operation}`);
    return json(convexToJson(await nested(execution, JSON.parse(args) as Arguments)));
  },

  async jsSyscall(operation: string, args: Record<string, unknown>): Promise<unknown> {
    const { backend } = current();
    const { storageId, blob, options } = args as { storageId: string; blob: Blob; options?: { sha256?: string } };
    switch (operation) {
      case "storage/storeBlob": {
        const bytes = Buffer.from(await blob.arrayBuffer());
        return backend.files.store(bytes, blob.type || undefined, options?.sha256);
      }
      case "storage/getBlob": {
        const found = backend.files.get(storageId);
        return found === undefined ? null : new Blob([new Uint8Array(found.bytes)], { type: found.type ?? "" });
      }
    }
    throw new Error(`Unknown operation ${operation}`);
  },
};

const timed = <T>({ clock }: Execution, run: () => T): T => (clock === undefined ? run() : clock.call(run));
