/**
 * The documents of a read in scan order, as far as the budget of the call goes: range after range, ranges merged, or one document for
 * each value of some fields.
 */
import { compareValues, type Value } from "convex/values";
import type { Reader } from "./database";
import { overLimit } from "./errors";
import * as limits from "./limits";
import type { ReadMeter } from "./meter";
import type { Bound, Document, Read } from "./protocol";
import { keyOf, partsOf, scan, type Range } from "./range";

export class Walk {
  #last: Document | undefined;
  #isTaken = false;
  #isCut = false;

  constructor(
    readonly db: Reader,
    readonly meter: ReadMeter,
    readonly read: Read,
    readonly fields: readonly string[],
  ) {
    partsOf(read, fields);
  }

  /** Where to go on: null if all documents were walked through, [] if none was. */
  get next(): Bound[] | null {
    return this.#isCut ? this.place : null;
  }

  /** Behind which place the last document that was answered leaves the walk. */
  get place(): Bound[] {
    if (this.#last === undefined) return this.read.after ?? [];
    const key = keyOf(this.#last, this.fields);
    return this.#isTaken && this.read.distinct ? key.slice(0, this.read.distinct) : key;
  }

  /** The last document is part of the answer: of those that are distinct, it stands for all like it. */
  take(): void {
    this.#isTaken = true;
  }

  /** Ends the walk behind the last document. */
  cut(): void {
    this.#isCut = true;
  }

  async *documents(): AsyncGenerator<Document> {
    for await (const document of this.read.merge === undefined ? this.#following() : this.#merged()) {
      this.#last = document;
      this.#isTaken = false;
      yield document;
      if (this.meter.isSpent) {
        this.cut();
        return;
      }
    }
  }

  async *#following(): AsyncGenerator<Document> {
    let ranges = partsOf(this.read, this.fields).flat();
    for (let place = 0; place < ranges.length; place++) {
      if (this.meter.isSpent) {
        this.cut();
        return;
      }
      for await (const document of this.#scanned([ranges[place]!])) {
        yield document;
        if (!this.#isTaken || !this.read.distinct) continue;
        ranges = partsOf({ ...this.read, after: this.place }, this.fields).flat();
        place = -1;
        break;
      }
    }
  }

  /** The documents of all ranges in the order of the fields behind their equalities. */
  async *#merged(): AsyncGenerator<Document> {
    const parts = partsOf(this.read, this.fields);
    const opened = parts.flat().length;
    if (this.meter.isSpent || (this.meter.ranges > 0 && this.meter.ranges + opened > limits.READ_INDEX_RANGES)) {
      this.cut();
      return;
    }
    const sources = parts.map((ranges) => this.#scanned(ranges));
    const heads: Head[] = [];
    for (const source of sources) {
      const { bytes } = this.meter;
      const most = limits.TRANSACTION_BYTES_READ - limits.DOCUMENT_BYTES;
      if (bytes > most) throw overLimit("bytesRead", most, bytes, { table: this.read.table });
      await this.#push(heads, source);
    }
    while (heads.length > 0) {
      const { document, source } = heads.pop()!;
      yield document;
      await this.#push(heads, source);
    }
  }

  /** Puts the next document of a source where it belongs among the heads, of which the last comes first. */
  async #push(heads: Head[], source: AsyncGenerator<Document>): Promise<void> {
    const { value: document, done } = await source.next();
    if (done) return;
    const key = keyOf(document, this.fields).slice(this.read.merge).map(([value]) => value);
    const head = { document, source, key };
    const sign = this.read.order === "desc" ? -1 : 1;
    let [low, high] = [0, heads.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareKeys(heads[middle]!.key, key) * sign > 0) low = middle + 1;
      else high = middle;
    }
    heads.splice(low, 0, head);
  }

  async *#scanned(ranges: readonly Range[]): AsyncGenerator<Document> {
    const { table, index, order = "asc" } = this.read;
    for (const range of ranges) {
      this.meter.ranges += 1;
      for await (const document of scan(this.db, table, index, this.fields, range, order)) {
        this.meter.read(document);
        yield document;
      }
    }
  }
}

interface Head {
  document: Document;
  source: AsyncGenerator<Document>;
  key: (Value | undefined)[];
}

function compareKeys(one: (Value | undefined)[], other: (Value | undefined)[]): number {
  for (const [place, value] of one.entries()) {
    const order = compareValues(value, other[place]);
    if (order !== 0) return order;
  }
  return 0;
}
