/**
 * Counting the documents of a table anew, exactly, while others write: in steps, each of which is a commit.
 *
 * A row of the counters' table says how far a recount is. New rows are made beside those that are read, under names of their own: first the
 * documents that are there are added, in the order of their creation, then the new rows take the place of the old ones, key by key. Every
 * writer reads how far it is, in its own transaction, and adds to the new rows as well what it does to documents that they count already:
 * those behind which the walk is, and those that have come to be since it began. So Convex's serializability makes it exact, and whoever
 * asks for a step goes on where the last one ended.
 */
import { getDocumentSize } from "convex/values";
import * as limits from "./limits";
import type { Counter, Document } from "./protocol";
import { scan } from "./range";
import { add, BY_COUNTER, COUNTERS, keyIn, nameOf, shareOf, SHARDS, Totals } from "./totals";
import { fieldsOf, type Transaction } from "./transaction";

/** How far it is: `clear` and `end` delete new rows that are of no use (any more), `count` and `move` are as said above. */
interface Recount {
  phase: "clear" | "count" | "move" | "end";
  /** What it counts. */
  counters: Counter[];
  /** Whose new rows are deleted at the beginning. */
  names: string[];
  /** The documents up to the first of these creation times are counted, and are to be up to the second; none where there are none. */
  after?: number;
  until?: number;
  /** Behind which key of which counter new rows have taken the place of the old ones. */
  place: number;
  key?: string;
}

const KEY = "recount";
/** Rows of counters that one step moves or deletes. */
const ROWS = 500;
/** Values that one step counts by: each takes an index range. */
const KEYS = 1_000;

export const newName = (counter: string): string => `${counter}?`;

/** The recount of a table that is under way. */
export async function recountOf(transaction: Transaction, table: string): Promise<Recount | undefined> {
  const row = await rowOf(transaction, table);
  return row === null ? undefined : (JSON.parse(row["sum"] as string) as Recount);
}

const rowOf = (transaction: Transaction, table: string): Promise<Document | null> =>
  transaction.first(COUNTERS, { index: BY_COUNTER, key: [[table], [KEY], [0]] });

/** Whether the new rows count a document already that came to be at this time; undefined for one that comes to be now. */
export function countsAnew(recount: Recount | undefined, time: number | undefined): boolean {
  if (recount?.phase === "move") return true;
  if (recount?.phase !== "count") return false;
  return time === undefined || time <= (recount.after ?? -Infinity) || time > (recount.until ?? -Infinity);
}

/** One step of the recount of a table: how many documents it has counted, up to `limit`, and whether there is more to do. */
export async function step(transaction: Transaction, table: string, limit: number): Promise<[number, boolean]> {
  const row = await rowOf(transaction, table);
  const counters = [...transaction.counters.of(table)].sort((one, other) => (one.name < other.name ? -1 : 1));
  let recount = row === null ? undefined : (JSON.parse(row["sum"] as string) as Recount);
  if (recount === undefined || JSON.stringify(recount.counters) !== JSON.stringify(counters)) {
    const names = new Set([...(recount?.names ?? []), ...counters.map((each) => newName(nameOf(each)))]);
    recount = { phase: "clear", counters, names: [...names], place: 0 };
  }
  const counted = await advance(transaction, table, recount, limit);
  const fields = { counter: table, key: KEY, shard: 0, count: 0, sum: JSON.stringify(recount) };
  if (counted === undefined) {
    if (row !== null) await transaction.delete(COUNTERS, row);
    return [0, false];
  }
  if (row === null) await transaction.insert(0, COUNTERS, fields);
  else await transaction.replace(0, COUNTERS, row, fields);
  return [counted, true];
}

/** Does a part of what is to be done, and notes it in `recount`; how many documents were counted, undefined if all is done. */
async function advance(transaction: Transaction, table: string, recount: Recount, limit: number): Promise<number | undefined> {
  switch (recount.phase) {
    case "clear":
      if (!(await cleared(transaction, recount.names))) return 0;
      recount.names = recount.counters.map((each) => newName(nameOf(each)));
      recount.until = await lastTime(transaction, table);
      recount.phase = recount.until === undefined ? "move" : "count";
      return 0;
    case "count":
      return await count(transaction, table, recount, limit);
    case "move":
      await move(transaction, recount);
      return 0;
    case "end":
      return (await cleared(transaction, recount.names)) ? undefined : 0;
  }
}

/** When the newest document of a table came to be. */
async function lastTime({ db, catalog, meter }: Transaction, table: string): Promise<number | undefined> {
  meter.charge({ indexRanges: 1 });
  const fields = catalog.fields(table, "by_creation_time");
  for await (const document of scan(db, table, "by_creation_time", fields, { eq: [] }, "desc")) {
    meter.charge({ documentsRead: 1, bytesRead: getDocumentSize(document) });
    return document._creationTime;
  }
  return undefined;
}

async function count(transaction: Transaction, table: string, recount: Recount, limit: number): Promise<number> {
  const lower = recount.after === undefined ? undefined : { value: [recount.after] as [number], inclusive: false };
  const upper = { value: [recount.until!] as [number], inclusive: true };
  const totals = new Totals();
  let [documents, bytes] = [0, 0];
  let isDone = true;
  for await (const document of transaction.scan({ table, index: "by_creation_time", lower, upper })) {
    const isFull = documents >= limit || bytes >= limits.RANGE_BYTES || totals.size >= KEYS;
    if (isFull && document._creationTime !== recount.after) {
      isDone = false;
      break;
    }
    for (const each of recount.counters) {
      add(totals.of(newName(nameOf(each)), keyIn(each, fieldsOf(document))), shareOf(each, fieldsOf(document)), 1);
    }
    documents += 1;
    bytes += getDocumentSize(document);
    recount.after = document._creationTime;
  }
  // Rows of its own, which no writer adds to.
  await totals.write(transaction, SHARDS);
  if (isDone) recount.phase = "move";
  return documents;
}

/** New rows of some keys take the place of the old ones. */
async function move(transaction: Transaction, recount: Recount): Promise<void> {
  const counter = recount.counters[recount.place];
  if (counter === undefined) {
    recount.phase = "end";
    return;
  }
  const name = nameOf(counter);
  const [old, renewed] = [await rowsBehind(transaction, name, recount.key), await rowsBehind(transaction, newName(name), recount.key)];
  const last = [old.last, renewed.last].filter((key) => key !== undefined).sort()[0];
  const isIn = (row: Document) => last === undefined || (row["key"] as string) <= last;
  for (const row of old.rows.filter(isIn)) await transaction.delete(COUNTERS, row);
  for (const row of renewed.rows.filter(isIn)) await transaction.patch(0, COUNTERS, row, { counter: name });
  if (last !== undefined) {
    recount.key = last;
  } else {
    recount.place += 1;
    delete recount.key;
  }
}

/** The rows of a counter behind a key, up to a number of them but all of each key; `last` is their last key if there are more. */
async function rowsBehind(transaction: Transaction, counter: string, key: string | undefined) {
  const lower = key === undefined ? undefined : { value: [key] as [string], inclusive: false };
  const rows: Document[] = [];
  for await (const row of transaction.scan({ table: COUNTERS, index: BY_COUNTER, eq: [[counter]], lower })) {
    const last = rows.at(-1)?.["key"] as string | undefined;
    if (rows.length >= ROWS && row["key"] !== last) return { rows, last };
    rows.push(row);
  }
  return { rows, last: undefined };
}

/** Deletes rows of counters, and says whether none is left. */
async function cleared(transaction: Transaction, names: readonly string[]): Promise<boolean> {
  let deleted = 0;
  for (const name of names) {
    for await (const row of transaction.scan({ table: COUNTERS, index: BY_COUNTER, eq: [[name]] })) {
      if (deleted === 2 * ROWS) return false;
      await transaction.delete(COUNTERS, row);
      deleted += 1;
    }
  }
  return true;
}
