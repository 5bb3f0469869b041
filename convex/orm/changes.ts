/**
 * Change logs: which documents of a table have changed, so that who kept them reads only those again.
 *
 * A table `T_changes` of a schema is the log of the table `T`, if it has an index `by_key` and a field `ids`: for each commit that changes
 * documents of `T`, and each value that these have in the fields of `by_key`, it gets one row with their ids. Writers only add rows, so
 * they do not conflict. The order of the rows is that of their creation, which may be another than that in which they come to be seen: of
 * two commits that overlap either may be seen first. So a reader looks again at what was added a while before the last row it knows.
 */
import { canonical, hex } from "./canonical";
import type { Catalog } from "./catalog";
import type { Reader } from "./database";
import { digestOf, type Digest } from "./digest";
import { hashOf } from "./hash";
import * as limits from "./limits";
import type { ReadMeter } from "./meter";
import type { Bound, Document, Fields, Read, Result } from "./protocol";
import { keyOf, scan, type Range } from "./range";

export const LOG_INDEX = "by_key";

/** A table's log: its name, and the fields of the documents that it tells apart. */
export interface Log {
  table: string;
  by: readonly string[];
}

/** What the writes of one commit change, for the log of each table. */
export class Changes {
  readonly #ids = new Map<string, { log: Log; key: Bound[]; ids: Set<string> }>();

  constructor(readonly catalog: Catalog) {}

  /** A document is there, is there no more, or was there before it became another. */
  note(table: string, id: string, document: Fields): void {
    const log = this.catalog.changeLog(table);
    if (log === undefined) return;
    const key = keyOf(document, log.by);
    const at = `${log.table} ${nameOf(key)}`;
    const noted = this.#ids.get(at) ?? { log, key, ids: new Set() };
    this.#ids.set(at, noted);
    noted.ids.add(id);
  }

  /** The rows to be added. */
  *rows(): Generator<{ table: string; row: Fields }> {
    for (const { log, key, ids } of this.#ids.values()) {
      const about = Object.fromEntries(log.by.flatMap((field, place) => key[place]!.map((value) => [field, value])));
      const all = [...ids];
      for (let start = 0; start < all.length; start += limits.LOG_IDS) {
        yield { table: log.table, row: { ...about, ids: all.slice(start, start + limits.LOG_IDS) } };
      }
    }
  }
}

/** Where a reader of a log is: its last row and hashes of the ids of those added a while before, and the newest document. */
interface Version {
  last: string;
  time: number;
  seen: string[];
  newest: number;
}

/** Answers the digest of a whole range from the log of its table, or what has changed since; undefined where that cannot be told. */
export async function changesOf(db: Reader, catalog: Catalog, meter: ReadMeter, read: Read): Promise<Result | undefined> {
  const log = catalog.changeLog(read.table);
  if (log === undefined || !isWhole(read, log, catalog)) return undefined;
  const reader = new LogReader(db, catalog, meter, read, log);
  if (read.digest === "all") {
    const version = await reader.version();
    return version && { ...NOTHING, version: textOf(version) };
  }
  const since = read.since === undefined ? undefined : versionIn(read.since);
  return since && (await reader.since(since));
}

const NOTHING = { docs: [], count: 0, skipped: 0, more: false, next: null };

/** Whether a read is of all documents with the same key of the log. */
function isWhole({ table, index, digest, eq = [], ...read }: Read, log: Log, catalog: Catalog): boolean {
  const fields = catalog.fields(table, index).slice(0, log.by.length);
  const isLogged = digest !== undefined && eq.length === log.by.length && log.by.every((field, place) => field === fields[place]);
  const { lower, upper, ranges, after, filter, limit } = read;
  return isLogged && [lower, upper, ranges, after, filter, limit].every((each) => each === undefined) && !read.skip;
}

class LogReader {
  constructor(
    readonly db: Reader,
    readonly catalog: Catalog,
    readonly meter: ReadMeter,
    readonly read: Read,
    readonly log: Log,
  ) {}

  async version(): Promise<Version | undefined> {
    const last = await this.#first(this.#rows({ eq: this.#key }, "desc"));
    if (last === undefined) return undefined;
    const seen: string[] = [];
    for await (const row of this.#rows(this.#from(last._creationTime), "desc")) {
      if (seen.push(hashOf(row._id)) === limits.LOG_SEEN || this.meter.isSpent) break;
    }
    const newest = await this.#first(this.#documents());
    return { last: last._id, time: last._creationTime, seen, newest: newest?._creationTime ?? 0 };
  }

  /** The digests of the documents that have changed since, and the ids of those that are not in the range any more. */
  async since(version: Version): Promise<Result | undefined> {
    const seen = new Set(version.seen);
    const changed = new Set<string>();
    let isKnown = false;
    for await (const row of this.#rows(this.#from(version.time), "asc")) {
      isKnown ||= row._id === version.last;
      if (!seen.has(hashOf(row._id))) for (const id of row["ids"] as string[]) changed.add(id);
      if (changed.size > limits.LOG_CHANGES || this.meter.isSpent) return undefined;
    }
    // Rows are swept from the oldest on: where the last one that was known has gone, others may have.
    if (!isKnown) return undefined;
    const newest = await this.#first(this.#documents());
    if (newest && newest._creationTime > version.newest && !changed.has(newest._id)) return undefined; // written past the log
    const digests: Digest[] = [];
    const gone: string[] = [];
    for (const document of await this.#inOrder(changed, gone)) digests.push(digestOf(document));
    return this.meter.isSpent ? undefined : { ...NOTHING, digests, gone };
  }

  /** The documents of the range with these ids, in the order in which they were created; the ids of the others are added to `gone`. */
  async #inOrder(ids: Iterable<string>, gone: string[]): Promise<Document[]> {
    const found: Document[] = [];
    const key = nameOf(this.#key);
    for (const id of ids) {
      this.meter.ranges += 1;
      const document = await this.db.get(this.read.table, id);
      if (document !== null) this.meter.read(document);
      if (this.meter.isSpent) break;
      if (document === null || nameOf(keyOf(document, this.log.by)) !== key) gone.push(id);
      else found.push(document);
    }
    return found.sort((one, other) => one._creationTime - other._creationTime || (one._id < other._id ? -1 : 1));
  }

  get #key(): Bound[] {
    return this.read.eq ?? [];
  }

  #from(time: number): Range {
    return { eq: this.#key, lower: { value: [time - limits.LOG_OVERLAP_MILLISECONDS], inclusive: true } };
  }

  #rows(range: Range, order: "asc" | "desc"): AsyncIterable<Document> {
    return this.#scan(this.log.table, LOG_INDEX, range, order);
  }

  /** The newest first. */
  #documents(): AsyncIterable<Document> {
    return this.#scan(this.read.table, this.#byCreation, { eq: this.#key }, "desc");
  }

  /** The index in which the documents of the range come in the order of their creation. */
  get #byCreation(): string {
    for (const [name, fields] of this.catalog.indexes(this.read.table)) {
      if (fields.length === this.log.by.length + 2 && this.log.by.every((field, place) => field === fields[place])) return name;
    }
    return this.read.index;
  }

  async *#scan(table: string, index: string, range: Range, order: "asc" | "desc"): AsyncGenerator<Document> {
    this.meter.ranges += 1;
    for await (const document of scan(this.db, table, index, this.catalog.fields(table, index), range, order)) {
      this.meter.read(document);
      yield document;
    }
  }

  async #first(documents: AsyncIterable<Document>): Promise<Document | undefined> {
    for await (const document of documents) return document;
    return undefined;
  }
}

const nameOf = (key: readonly Bound[]): string => key.map(([value]) => hex(canonical(value))).join(" ");

const textOf = ({ last, time, seen, newest }: Version): string => JSON.stringify([last, time, newest, ...seen]);

function versionIn(text: string): Version | undefined {
  try {
    const [last, time, newest, ...seen] = JSON.parse(text) as [string, number, number, ...string[]];
    return typeof last === "string" && Number.isFinite(time) && Number.isFinite(newest) ? { last, time, newest, seen } : undefined;
  } catch {
    return undefined;
  }
}
