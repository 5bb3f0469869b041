/**
 * Reads and writes the records of a place in one mutation, through indexes and within Convex's limits.
 */
import { getDocumentSize } from "convex/values";
import type { Catalog } from "../../orm/catalog";
import { flawOf } from "../../orm/documents";
import { CommitMeter, ReadMeter } from "../../orm/meter";
import type { Bound, Document, Fields, Filter, Key, Read } from "../../orm/protocol";
import { keyOf } from "../../orm/range";
import { answer } from "../../orm/reads";
import { Transaction } from "../../orm/transaction";
import type { Writer } from "../../orm/database";
import { mismatch } from "../../orm/validation";
import { refusal } from "./errors";
import type { Place } from "./places";

const MiB = 1 << 20;

// Convex lets a mutation read and answer 16 MiB; the last document read may have one of them.
const ANSWER_BYTES = 15 * MiB;
// Convex lets an array have 8,192 elements.
const ANSWER_RECORDS = 8_000;
// Convex lets a mutation read 32,000 documents.
const SCANNED_DOCUMENTS = 31_000;

// One call of an operation that a client repeats until nothing is left.
const BATCH_DELETES = 1_000;
const BATCH_BYTES = 6 * MiB;

/** A field of a record and what it must be. */
export interface Equality {
  field: string;
  value: Fields[string];
}

export interface Page {
  documents: Document[];
  /** Where the next page begins; null when there is none. */
  next: Bound[] | null;
}

export type Span = Pick<Read, "table" | "index" | "eq" | "lower" | "upper" | "order" | "filter" | "skip" | "limit">;

/** Lets a read go on to what one call can answer. */
class AnswerMeter extends ReadMeter {
  override get isSpent(): boolean {
    return this.documents >= SCANNED_DOCUMENTS || this.bytes >= ANSWER_BYTES;
  }
}

export class Records {
  readonly #transaction: Transaction;
  /** Whether anything has been written: an error from then on must undo it. */
  hasWritten = false;

  constructor(
    readonly db: Writer,
    readonly catalog: Catalog,
  ) {
    this.#transaction = new Transaction(db, catalog, new CommitMeter());
  }

  /** The document under a key; null if there is none. */
  async find(place: Place, key: Key): Promise<Document | null> {
    const found: Document[] = [];
    for await (const document of this.#transaction.scan({ table: place.table, index: key.index, eq: key.key })) {
      if (found.push(document) === 2) break;
    }
    if (found.length < 2) return found[0] ?? null;
    throw refusal(
      "Ambiguous",
      `Table "${place.table}" has several records with this id; it takes more to tell them apart.`,
      {
        table: place.table,
      },
    );
  }

  /** All documents of a span, which one call can answer. */
  async all(span: Span): Promise<Document[]> {
    const meter = new AnswerMeter();
    const limit = Math.min(span.limit ?? Infinity, ANSWER_RECORDS);
    const peek = limit === ANSWER_RECORDS && span.limit !== ANSWER_RECORDS;
    const { docs, more, next } = await answer(this.#transaction.db, this.catalog, meter, { ...span, limit, peek });
    if (next === null && !more) return docs;
    throw refusal(
      "TooLarge",
      `The records asked for in table "${span.table}" are more than Convex lets one call read or answer: ` +
        `${docs.length} of them have ${meter.bytes} bytes, and there are more. Narrow the filters, or read by pages.`,
      {
        table: span.table,
        records: docs.length,
        bytes: meter.bytes,
        maximumBytes: 16 * MiB,
        maximumRecords: ANSWER_RECORDS,
      },
    );
  }

  /** Documents of a span behind a key, up to `size` of them or as many as one call can answer. */
  async page(span: Span, size: number, after: Bound[]): Promise<Page> {
    const limit = Math.min(size, ANSWER_RECORDS);
    const read = { ...span, after, limit, peek: true };
    // A page leaves room for the answer to be encoded, as any read of the wire.
    const { docs, more, next } = await answer(this.#transaction.db, this.catalog, new ReadMeter(), read);
    const fields = this.catalog.fields(span.table, span.index);
    return { documents: docs, next: more && docs.length > 0 ? keyOf(docs[docs.length - 1]!, fields) : next };
  }

  /** The span of a place's records with these values, through the index that covers most of them. */
  spanOf(place: Place, equalities: Equality[]): Span {
    const { index, eq, covered } = place.range
      ? { ...place.range, covered: new Set<string>() }
      : this.#bestIndex(place.table, equalities);
    const rest = equalities.filter(({ field }) => !covered.has(field));
    const filter: Filter = { op: "and", args: rest.map((each) => equal(place, each)) };
    return { table: place.table, index, eq, ...(rest.length > 0 ? { filter } : {}) };
  }

  #bestIndex(table: string, equalities: Equality[]): { index: string; eq: Bound[]; covered: Set<string> } {
    // Null also stands for a field that is not there, which is another place in an index.
    const values = new Map(equalities.filter(({ value }) => value !== null).map(({ field, value }) => [field, value]));
    let best = { index: "by_creation_time", covered: [] as string[] };
    for (const [index, fields] of this.catalog.indexes(table)) {
      const end = fields.findIndex((field) => !values.has(field));
      const covered = fields.slice(0, end === -1 ? fields.length : end);
      if (covered.length > best.covered.length) best = { index, covered: [...covered] };
    }
    return { index: best.index, eq: best.covered.map((field) => [values.get(field)!]), covered: new Set(best.covered) };
  }

  async insert(table: string, fields: Fields): Promise<void> {
    this.require(table, fields);
    this.hasWritten = true;
    await this.#transaction.insert(0, table, fields);
  }

  async replace(table: string, old: Document, fields: Fields): Promise<void> {
    this.require(table, fields);
    this.hasWritten = true;
    await this.#transaction.replace(0, table, old, fields);
  }

  async delete(table: string, old: Document): Promise<void> {
    this.hasWritten = true;
    await this.#transaction.delete(table, old);
  }

  /** Adds to the logs of tables what was written, for the end of an operation; says whether it was anything. */
  async log(): Promise<boolean> {
    return await this.#transaction.log();
  }

  /** Stores a document in place of `old`, or as a new one. */
  async put(table: string, old: Document | null, fields: Fields): Promise<void> {
    await (old === null ? this.insert(table, fields) : this.replace(table, old, fields));
  }

  /** Deletes documents of a span as far as one call goes; says whether there are more. */
  async deleteSome(span: Span): Promise<boolean> {
    let [count, bytes] = [0, 0];
    for await (const document of this.#transaction.scan(span)) {
      if (count >= BATCH_DELETES || bytes >= BATCH_BYTES) return true;
      await this.delete(span.table, document);
      count += 1;
      bytes += getDocumentSize(document);
    }
    return false;
  }

  /** Throws if Convex or the schema would refuse a document, in words that repeat nothing of it. */
  require(table: string, fields: Fields): void {
    const validator = this.catalog.validator(table);
    const flaw = flawOf(fields) ?? (validator ? mismatch(validator, fields, (of, text) => this.#transaction.db.normalizeId(of, text) !== null) : null);
    if (flaw !== null)
      throw refusal("BadDocument", `A record of table "${table}" cannot be stored: ${flaw}.`, { table });
  }
}

/** A null asks for records without a value, whichever way they say so. */
function equal(place: Place, { field, value }: Equality): Filter {
  const at = place.at(field);
  return value === null ? { op: "in", ...at, values: [[null], []] } : { op: "eq", ...at, value: [value] };
}
