/**
 * One commit while it is applied: reads and writes documents, counts what Convex will count, and turns what Convex refuses into the
 * errors of the wire.
 */
import { compareValues, getDocumentSize, type Value } from "convex/values";
import type { Catalog } from "./catalog";
import { Changes } from "./changes";
import { Counters } from "./counters";
import type { Writer } from "./database";
import { shapeFlawOf, vectorFlawOf } from "./documents";
import { badDocument, badRange, overLimit } from "./errors";
import * as limits from "./limits";
import type { CommitMeter } from "./meter";
import type { Document, Fields, Key, Target } from "./protocol";
import { partsOf, rangesOf, scan, type IndexRequest } from "./range";
import { mismatch } from "./validation";

/** The fields of a document without Convex's own. */
export function fieldsOf({ _id, _creationTime, ...fields }: Document): Fields {
  return fields;
}

export class Transaction {
  /** Documents whose own range, the one by id, is counted already. */
  readonly #rangedById = new Set<string>();
  readonly #changes: Changes;

  constructor(
    readonly db: Writer,
    readonly catalog: Catalog,
    readonly meter: CommitMeter,
    readonly counters: Counters = new Counters([]),
  ) {
    this.#changes = new Changes(catalog);
  }

  /** The document with this id, or the first one under this key; null if there is none. */
  async find(table: string, target: Target): Promise<Document | null> {
    return "id" in target ? await this.get(table, target.id) : await this.first(table, target);
  }

  /** The first document under a key, in index order. */
  async first(table: string, { index, key }: Key): Promise<Document | null> {
    if (key.length === 0) throw badRange(table, index, "a key needs one value or more");
    for await (const document of this.scan({ table, index, eq: key })) return document;
    return null;
  }

  /** The documents of a range, each read when it is asked for. */
  async *scan(request: IndexRequest): AsyncGenerator<Document> {
    const fields = this.catalog.fields(request.table, request.index);
    for (const range of partsOf(request, fields).flat()) {
      this.meter.charge({ indexRanges: 1 });
      const documents = scan(this.db, request.table, request.index, fields, range, "asc")[Symbol.asyncIterator]();
      const next = () => this.#reading(() => documents.next());
      try {
        for (let found = await next(); !found.done; found = await next()) {
          this.meter.charge({ documentsRead: 1, bytesRead: getDocumentSize(found.value) });
          yield found.value;
        }
      } finally {
        await documents.return?.();
      }
    }
  }

  /** Throws unless the index is there and the range fits it. */
  requireFits(request: IndexRequest): void {
    rangesOf(request, this.catalog.fields(request.table, request.index));
  }

  /** The document with this id; null if the table has none. */
  async get(table: string, id: string): Promise<Document | null> {
    this.catalog.requireTable(table);
    // Not an id of this table: no document of this table has it.
    if (this.db.normalizeId(table, id) === null) return null;
    this.#chargeById(id);
    const document = await this.#reading(() => this.db.get(table, id));
    if (document !== null) this.meter.charge({ documentsRead: 1, bytesRead: getDocumentSize(document) });
    return document;
  }

  async insert(write: number, table: string, fields: Fields): Promise<string> {
    this.catalog.requireTable(table);
    const bytesWritten = this.#checkedSize(write, table, fields);
    this.meter.charge({ documentsWritten: 1, bytesWritten });
    this.counters.note(table, fields, 1);
    const id = await this.#refusing(write, table, fields, () => this.db.insert(table, fields));
    this.#changes.note(table, id, fields);
    return id;
  }

  async replace(write: number, table: string, old: Document, fields: Fields): Promise<void> {
    await this.#change(write, table, old, fields, () => this.db.replace(table, old._id, fields));
  }

  /** Sets fields; those set to undefined are removed. */
  async patch(write: number, table: string, old: Document, changes: Record<string, Value | undefined>): Promise<void> {
    const changed = Object.entries({ ...fieldsOf(old), ...changes }).filter(([, value]) => value !== undefined);
    const fields = Object.fromEntries(changed) as Fields;
    await this.#change(write, table, old, fields, () => this.db.patch(table, old._id, changes));
  }

  async delete(table: string, old: Document): Promise<void> {
    this.#chargeChange(old, 0);
    this.counters.note(table, fieldsOf(old), -1, old._creationTime);
    this.#changes.note(table, old._id, old);
    await this.db.delete(table, old._id);
  }

  /** Adds to the logs what was written, for the end of a commit; says whether it was anything. */
  async log(): Promise<boolean> {
    const rows = [...this.#changes.rows()];
    for (const { table, row } of rows) {
      this.meter.charge({ documentsWritten: 1, bytesWritten: getDocumentSize(row) });
      await this.db.insert(table, row);
    }
    return rows.length > 0;
  }

  /** Runs what gives a document these fields. One that has them already is not written: nobody who watches it is told for nothing. */
  async #change(write: number, table: string, old: Document, fields: Fields, run: () => Promise<void>): Promise<void> {
    if (compareValues(fieldsOf(old), fields) === 0) return;
    this.#chargeChange(old, this.#checkedSize(write, table, fields));
    this.counters.note(table, fieldsOf(old), -1, old._creationTime);
    this.counters.note(table, fields, 1, old._creationTime);
    this.#changes.note(table, old._id, old);
    this.#changes.note(table, old._id, fields);
    await this.#refusing(write, table, fields, run);
  }

  /** The size of a document that Convex can hold; throws for any other. */
  #checkedSize(write: number, table: string, fields: Fields): number {
    const bytes = getDocumentSize(fields);
    if (bytes > limits.DOCUMENT_BYTES) throw overLimit("documentBytes", limits.DOCUMENT_BYTES, bytes, { table });
    const flaw = shapeFlawOf(fields) ?? vectorFlawOf(fields, this.catalog.vectorIndexes(table));
    if (flaw !== null) throw badDocument(write, table, flaw);
    return bytes;
  }

  #chargeById(id: string): void {
    if (this.#rangedById.has(id)) return;
    this.#rangedById.add(id);
    this.meter.charge({ indexRanges: 1 });
  }

  /** Reads a document. How large it is shows only then, so where there is no room for the largest, Convex may refuse to read it. */
  async #reading<T>(run: () => Promise<T>): Promise<T> {
    const hasRoom = this.meter.hasRoom({ documentsRead: 1, bytesRead: limits.DOCUMENT_BYTES });
    try {
      return await run();
    } catch (error) {
      if (hasRoom) throw error;
      throw this.meter.overRead();
    }
  }

  /** Convex reads a document it changes by its id, whether or not it was read before. */
  #chargeChange(old: Document, bytesWritten: number): void {
    this.#chargeById(old._id);
    this.meter.charge({ documentsRead: 1, bytesRead: getDocumentSize(old), documentsWritten: 1, bytesWritten });
  }

  /** Runs a write; what Convex then says against the document may repeat its contents, so it is said again without. */
  async #refusing<T>(write: number, table: string, fields: Fields, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch {
      const validator = this.catalog.validator(table);
      const why = validator && mismatch(validator, fields, (of, text) => this.db.normalizeId(of, text) !== null);
      throw badDocument(write, table, why ?? "the deployment's schema does not accept the document");
    }
  }
}
