/**
 * Text search: the documents that a search index of Convex's finds, best first.
 *
 * Such a search has no place to go on behind, so all of it is answered in one call: one that finds too little of the budget left is
 * answered as not begun.
 */
import type { Catalog } from "./catalog";
import type { Reader } from "./database";
import { otherIndex, overLimit } from "./errors";
import * as limits from "./limits";
import type { ReadMeter } from "./meter";
import type { Bound, Document, Read, TextSearch } from "./protocol";

/** What was found, in place of a walk through an index. */
export class Found {
  #isCut = false;

  constructor(
    readonly db: Reader,
    readonly catalog: Catalog,
    readonly meter: ReadMeter,
    readonly read: Read & { search: TextSearch },
  ) {
    requireAssumed(catalog, read.table, read.search);
  }

  /** Null if the search is answered; [] if it has to be asked for again. */
  get next(): Bound[] | null {
    return this.#isCut ? [] : null;
  }

  async *documents(): AsyncGenerator<Document> {
    const { meter, read } = this;
    const isFirst = meter.documents === 0 && meter.ranges === 0;
    if (!isFirst && meter.isSpent) {
      this.#isCut = true;
      return;
    }
    meter.ranges += 1;
    const before = meter.documents;
    for await (const document of found(this.db, read.table, read.search)) {
      meter.read(document);
      if (meter.bytes > limits.TEXT_BYTES) throw overLimit("bytesRead", limits.TEXT_BYTES, meter.bytes, { table: read.table });
      yield document;
      if (!isFirst && meter.isSpent) {
        this.#isCut = true;
        return;
      }
      if (meter.documents - before === limits.TEXT_RESULTS) return;
    }
  }
}

function found(db: Reader, table: string, { index, field, text, filter = [] }: TextSearch): AsyncIterable<Document> {
  return db.query(table).withSearchIndex(index, (builder) =>
    filter.reduce((built, each) => built.eq(each.field, each.value[0]), builder.search(field, text)),
  );
}

/** Throws unless the index is on the field, and with the filter fields that the request takes it to have. */
function requireAssumed(catalog: Catalog, table: string, { index, field, filter = [] }: TextSearch): void {
  const { searchField, filterFields } = catalog.searchIndex(table, index);
  const filtered = [...new Set(filter.map((each) => each.field))];
  if (searchField === field && filtered.every((each) => filterFields.includes(each))) return;
  const words = (on: string, names: string[]) => [on, ...names.map((each) => `filter ${each}`)];
  throw otherIndex(table, index, words(field, filtered), words(searchField, filterFields));
}
