// Projects made by an older template have the types of ES2021; what Convex runs has more.
/// <reference lib="es2022" />
/**
 * The functions of the wire, over the schema they are deployed with, and the one that sweeps what is kept for a time.
 *
 * All are internal: only a caller with the deployment's admin key reaches them.
 */
import {
  internalActionGeneric,
  internalMutationGeneric,
  internalQueryGeneric,
  makeFunctionReference,
  type GenericSchema,
  type SchemaDefinition,
} from "convex/server";
import { Catalog } from "./catalog";
import { Counters } from "./counters";
import { readerOf, systemOf, writerOf, type Reader } from "./database";
import { Ledger } from "./ledger";
import { withdrawn } from "./errors";
import { VERSION } from "./limits";
import { CommitMeter, ReadMeter } from "./meter";
import {
  parseCommit,
  parseDescribe,
  parseFile,
  parseReads,
  parseSearch,
  parseStorage,
  type Applied,
  type Document,
  type Result,
} from "./protocol";
import { answer } from "./reads";
import { Schedule } from "./schedule";
import { hits, readAt } from "./search";
import { isSweeper, sweep as sweepOld } from "./sweeping";
import { Transaction } from "./transaction";
import { apply, Commit } from "./writes";

/** `module` is the path of the file that exports all of them: `search` calls `read` there, and `commit` schedules `sweep`. */
export function ormFunctions(schema: SchemaDefinition<GenericSchema, boolean>, module = "orm") {
  const catalog = new Catalog(schema);
  const readFunction = readAt(module);
  const sweepFunction = makeFunctionReference<"mutation", Record<string, never>>(`${module}:sweep`);

  const read = internalQueryGeneric({
    handler: async ({ db }, request: Record<string, unknown>) => {
      const { reads, share } = parseReads(request);
      const meter = new ReadMeter(share);
      const results: Result[] = [];
      for (const each of reads) catalog.requireAssumed(each.table, each.index, each.fields);
      for (const each of reads) results.push(await answer(readerOf(db), catalog, meter, each));
      return { version: VERSION, results };
    },
  });

  const commit = internalMutationGeneric({
    handler: async ({ db, scheduler }, request: Record<string, unknown>) => {
      const { commitId, writes, ties, counters } = parseCommit(request);
      const meter = new CommitMeter();
      const ledger = new Ledger(writerOf(db), catalog, meter);
      const before = await ledger.recall(commitId);
      if (writes === undefined) {
        if (before === undefined) await ledger.record(commitId, null);
        return before ? { version: VERSION, results: before } : { version: VERSION, withdrawn: true };
      }
      if (before === null) throw withdrawn();
      if (before !== undefined) return { version: VERSION, results: before };

      const transaction = new Transaction(writerOf(db), catalog, meter, new Counters(counters ?? []));
      const under = new Commit(transaction, ties, new Schedule(scheduler, systemOf(db)));
      const results: Applied[][] = [];
      let position = 0;
      for (const chunk of writes) {
        const applied: Applied[] = [];
        for (const write of chunk) applied.push(await apply(under, write, position++));
        results.push(applied);
      }
      await under.requireUnique();
      await under.ties.hold();
      await transaction.counters.settle(transaction, commitId);
      await transaction.log();
      await under.tellCreationTimes();
      await ledger.record(commitId, results);
      if (isSweeper(commitId)) {
        // Entries that stay too long do no harm, so a module that does not export `sweep` fails no commit.
        const missing = () => console.warn(`${module} has to export "sweep" beside "commit", for old entries to be removed.`);
        await scheduler.runAfter(0, sweepFunction, {}).catch(missing);
      }
      return { version: VERSION, results };
    },
  });

  const sweep = internalMutationGeneric({
    handler: async ({ db, scheduler }) => {
      if (await sweepOld(writerOf(db), catalog, Date.now())) await scheduler.runAfter(0, sweepFunction, {});
    },
  });

  const search = internalActionGeneric({
    handler: async (ctx, request: Record<string, unknown>) => ({
      version: VERSION,
      hits: await hits(ctx, catalog, readFunction, parseSearch(request)),
    }),
  });

  const file = internalQueryGeneric({
    handler: async ({ db, storage }, request: Record<string, unknown>) => {
      const found = await storedAt(systemOf(db), parseFile(request));
      const url = found && (await storage.getUrl(found._id));
      return { version: VERSION, file: found && url !== null ? { ...found, url } : null };
    },
  });

  const store = internalMutationGeneric({
    handler: async ({ db, storage }, request: Record<string, unknown>) => {
      const asked = parseStorage(request);
      if (asked.op === "upload") return { version: VERSION, url: await storage.generateUploadUrl() };
      const found = await storedAt(systemOf(db), asked.id);
      if (found !== null) await storage.delete(found._id);
      return { version: VERSION, deleted: found !== null };
    },
  });

  const describe = internalQueryGeneric({
    handler: (_, request: Record<string, unknown>) => {
      parseDescribe(request);
      // The types keep it to themselves; it is what the CLI deploys.
      return { version: VERSION, schema: (schema as unknown as { export(): string }).export() };
    },
  });

  return { read, commit, search, sweep, file, store, describe };
}

/** What Convex keeps of a file; null if there is none of this id. */
async function storedAt(system: Reader, id: string): Promise<Document | null> {
  return system.normalizeId("_storage", id) === null ? null : await system.get("_storage", id);
}
