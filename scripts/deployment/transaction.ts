/**
 * One query or mutation over a snapshot: it sees what it has written itself, and notes what it reads and writes.
 */
import { jsonToConvex, type JSONValue, type Value } from "convex/values";
import type { UserClock } from "./clock";
import { ReadSet } from "./conflicts";
import { flawOf, requireDocument } from "./documents";
import { newId, tableOf } from "./ids";
import { END, keyOf } from "./keys";
import { Meter } from "./meter";
import { Scan, type QueryJSON } from "./queries";
import { TextScan, type SearchJSON } from "./texts";
import { isSystemTable, Stored, Trees, type Change, type DocumentValue, type Snapshot, type SystemTable, type TableDefinition, type Tables } from "./store";

export interface TransactionOptions {
  tables: Tables;
  snapshot: Snapshot;
  clock: UserClock;
  /** The next creation time, in milliseconds, greater than all before. */
  tick: () => number;
  canWrite: boolean;
}

export class Transaction {
  readonly reads = new ReadSet();
  readonly meter = new Meter();
  readonly trees: Trees;
  /** Documents that are changed, by their ids, as they were and are. */
  #changes = new Map<string, Change>();
  readonly #scans = new Map<number, Scan | TextScan>();
  #nextScan = 0;
  paginated = false;
  /** Where the page of a query ended before, and where it ends now. */
  journal: string | null = null;

  constructor(readonly options: TransactionOptions) {
    this.trees = new Trees(options.snapshot);
  }

  get changes(): Change[] {
    return [...this.#changes.values()].filter(({ before, after }) => before !== null || after !== null);
  }

  // --- reading

  openScan(query: QueryJSON | SearchJSON): number {
    this.meter.add("databaseQueries", 1);
    const scan = isSearch(query) ? new TextScan(this, query) : new Scan(this, query);
    this.#scans.set(this.#nextScan, scan);
    return this.#nextScan++;
  }

  next(scan: number): Stored | undefined {
    const open = this.#scans.get(scan);
    if (open === undefined) throw new Error("Bad queryId");
    return open.next();
  }

  closeScan(scan: number): void {
    this.#scans.get(scan)?.close();
    this.#scans.delete(scan);
  }

  /** What has been read of scans that were left open. */
  closeScans(): void {
    for (const scan of [...this.#scans.keys()]) this.closeScan(scan);
  }

  /** The document with an id, counted; null if there is none. */
  get(id: string, tableName?: string): Stored | null {
    const table = this.#tableOf(id, tableName);
    this.meter.add("databaseQueries", 1);
    return this.#look(table, id);
  }

  #tableOf(id: string, expected?: string): TableDefinition {
    const table = this.options.tables.numbered(tableOf(id));
    if (table === undefined) throw new Error("Invalid argument `id`: Unable to decode ID: Invalid ID");
    if (expected !== undefined && table.name !== expected) {
      throw new Error(`Invalid argument \`id\`: expected an ID of table "${expected}"`);
    }
    return table;
  }

  #look(table: TableDefinition, id: string): Stored | null {
    const key = keyOf([id]);
    this.reads.add(table.name, "by_id", key, key + END);
    const found = this.trees.get(table.name, "by_id").get(key) ?? null;
    if (found !== null) this.meter.read(found.size);
    return found;
  }

  // --- writing

  insert(tableName: string, fields: Record<string, JSONValue>): string {
    this.#requireWriting();
    requireOwn(tableName);
    const table = this.options.tables.get(tableName);
    const id = newId(table.number);
    this.#write(table, null, { ...fields, _creationTime: this.options.tick(), _id: id });
    return id;
  }

  /** Fields that are undefined are removed. */
  merge(id: string, changes: Record<string, JSONValue>, tableName?: string): void {
    const old = this.#old(id, "patch", tableName);
    const fields = JSON.parse(old.json) as Record<string, JSONValue>;
    for (const [name, value] of Object.entries(changes)) {
      if (isUndefined(value)) delete fields[name];
      else fields[name] = value;
    }
    this.#write(old.table, old, { ...fields, ...systemFields(old.value) });
  }

  replace(id: string, fields: Record<string, JSONValue>, tableName?: string): void {
    const old = this.#old(id, "replace", tableName);
    this.#write(old.table, old, { ...fields, ...systemFields(old.value) });
  }

  remove(id: string, tableName?: string): void {
    const old = this.#old(id, "delete", tableName);
    this.meter.wrote(0);
    this.#change(old, null);
  }

  #old(id: string, operation: string, tableName?: string): Stored {
    this.#requireWriting();
    const table = this.#tableOf(id, tableName);
    requireOwn(table.name);
    const old = this.#look(table, id);
    if (old === null) throw new Error(`${operation} on nonexistent document ID`);
    return old;
  }

  #requireWriting(): void {
    if (!this.options.canWrite) throw new Error("A query cannot write");
  }

  #write(table: TableDefinition, old: Stored | null, document: Record<string, JSONValue>): void {
    const value = jsonToConvex(document) as DocumentValue;
    requireDocument(value);
    const { tables } = this.options;
    const { _id, _creationTime, ...fields } = value;
    const flaw = table.documentType && tables.validated ? flawOf(tables, table.documentType, fields as Record<string, Value>) : null;
    if (flaw !== null) {
      throw new Error(
        `Failed to insert or update a document in table "${table.name}" because it does not match the schema: ${flaw}`,
      );
    }
    const stored = new Stored(table, JSON.stringify(document), value);
    this.meter.wrote(stored.written);
    this.#change(old, stored);
    stored.rest();
  }

  #change(before: Stored | null, after: Stored | null): void {
    const id = (before ?? after)!.value._id;
    this.trees.apply({ before, after });
    const first = this.#changes.get(id);
    this.#changes.set(id, { before: first ? first.before : before, after });
  }

  // --- Convex's own tables, which functions write only by what they ask of Convex

  /** Enters a document, which counts as no write. */
  enter(tableName: SystemTable, fields: Record<string, JSONValue>): string {
    this.#requireWriting();
    const table = this.options.tables.get(tableName);
    const id = newId(table.number);
    this.#put(table, null, { ...fields, _creationTime: this.options.tick(), _id: id });
    return id;
  }

  /** The document with an id; null if there is none. */
  entered(tableName: SystemTable, id: string): Stored | null {
    const table = this.options.tables.get(tableName);
    return tableOf(id) === table.number ? this.#look(table, id) : null;
  }

  /** Gives a document other fields, or removes it. */
  alter(old: Stored, fields: Record<string, JSONValue> | null): void {
    this.#requireWriting();
    if (fields === null) this.#change(old, null);
    else this.#put(old.table, old, { ...(JSON.parse(old.json) as Record<string, JSONValue>), ...fields });
  }

  #put(table: TableDefinition, old: Stored | null, document: Record<string, JSONValue>): void {
    this.#change(old, new Stored(table, JSON.stringify(document), jsonToConvex(document) as DocumentValue));
  }

  /** What undoes all that is written from here on; what is read stays read. */
  savepoint(): () => void {
    const undo = [this.trees.savepoint(), this.meter.savepoint()];
    const changes = new Map(this.#changes);
    return () => {
      for (const each of undo) each();
      this.#changes = changes;
    };
  }
}

const isSearch = (query: QueryJSON | SearchJSON): query is SearchJSON => query.source.type === "Search";

function requireOwn(tableName: string): void {
  if (isSystemTable(tableName)) throw new Error(`System table ${tableName} can only be read`);
}

const isUndefined = (value: JSONValue): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value) && "$undefined" in value;

const systemFields = ({ _creationTime, _id }: DocumentValue): Record<string, JSONValue> => ({ _creationTime, _id });
