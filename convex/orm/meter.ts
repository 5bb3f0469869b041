/**
 * What one call has read and written so far, counted as Convex counts it, so that a call ends where the wire says and not where
 * Convex would stop it.
 */
import { getDocumentSize, type Value } from "convex/values";
import { overLimit } from "./errors";
import * as limits from "./limits";
import type { Document } from "./protocol";

export class ReadMeter {
  documents = 0;
  bytes = 0;
  work = 0;
  ranges = 0;

  /** `share` is in how many parts the budget is cut, of which this call may use one. */
  constructor(readonly share = 1) {}

  read(document: Document): void {
    this.documents += 1;
    this.bytes += getDocumentSize(document);
    this.work += workOf(document);
  }

  /** Whether the budget of a call of `read` is used up. */
  get isSpent(): boolean {
    const { share } = this;
    return (
      this.documents * share >= limits.READ_DOCUMENTS ||
      this.bytes * share >= limits.READ_BYTES ||
      this.work * share >= limits.READ_WORK ||
      this.ranges >= limits.READ_INDEX_RANGES
    );
  }
}

/** What a value takes to be read and answered: one for each value in it, more for those that hold others. */
function workOf(value: Value | undefined): number {
  if (typeof value !== "object" || value === null || value instanceof ArrayBuffer) return 1;
  if (Array.isArray(value)) {
    let work = limits.ARRAY_WORK;
    for (const each of value) work += typeof each === "object" ? workOf(each) : 1;
    return work;
  }
  let work = limits.OBJECT_WORK;
  for (const name in value) work += workOf((value as Record<string, Value>)[name]);
  return work;
}

const MAXIMUM = {
  indexRanges: limits.TRANSACTION_INDEX_RANGES,
  documentsRead: limits.TRANSACTION_DOCUMENTS_READ,
  bytesRead: limits.TRANSACTION_BYTES_READ,
  documentsWritten: limits.TRANSACTION_DOCUMENTS_WRITTEN,
  bytesWritten: limits.TRANSACTION_BYTES_WRITTEN,
};

type Usage = Record<keyof typeof MAXIMUM, number>;

export class CommitMeter {
  readonly #used: Usage = { indexRanges: 0, documentsRead: 0, bytesRead: 0, documentsWritten: 0, bytesWritten: 0 };

  /** Adds to what is used; throws `Limit` when that is more than Convex allows one mutation. */
  charge(usage: Partial<Usage>): void {
    for (const limit of Object.keys(usage) as (keyof Usage)[]) {
      this.#used[limit] += usage[limit] ?? 0;
      if (this.#used[limit] > MAXIMUM[limit]) throw overLimit(limit, MAXIMUM[limit], this.#used[limit]);
    }
  }

  /** What is to be thrown where Convex refuses to read one document more. */
  overRead(): Error {
    const limit = this.#used.documentsRead < MAXIMUM.documentsRead ? "bytesRead" : "documentsRead";
    return overLimit(limit, MAXIMUM[limit], Math.max(this.#used[limit], MAXIMUM[limit]) + 1);
  }

  /** Whether this much more would still be allowed. */
  hasRoom(usage: Partial<Usage>): boolean {
    return (Object.keys(usage) as (keyof Usage)[]).every(
      (limit) => this.#used[limit] + (usage[limit] ?? 0) <= MAXIMUM[limit],
    );
  }
}
