/**
 * Counts and sums that are kept with every write, in a table of their own.
 *
 * What the writes of a commit add is gathered, and written at its end: to one of several rows, which the commit's id chooses, so that
 * commits that run at once seldom write the same row. A reader adds the rows up. While a table is counted anew, what is written goes to the
 * new rows as well, where these count the document already (see `recount`).
 */
import type { Value } from "convex/values";
import type { Counter, Fields } from "./protocol";
import { countsAnew, newName, recountOf } from "./recount";
import { add, keyIn, nameOf, shareOf, SHARDS, Totals } from "./totals";
import type { Transaction } from "./transaction";

/** What a write adds to a counter: for which value of it, and when its document came to be; undefined for a new one. */
interface Note {
  counter: string;
  key: string;
  value: Value | undefined;
  sign: 1 | -1;
  time: number | undefined;
}

export class Counters {
  readonly #counters = new Map<string, Counter[]>();
  readonly #notes = new Map<string, Note[]>();

  constructor(counters: readonly Counter[]) {
    for (const each of counters) this.#counters.set(each.table, [...this.of(each.table), each]);
  }

  /** The counters of a table. */
  of(table: string): readonly Counter[] {
    return this.#counters.get(table) ?? [];
  }

  /** A document is there that was not (sign 1), or is there no more (-1); `time` is its creation time, if it was there before. */
  note(table: string, document: Fields, sign: 1 | -1, time?: number): void {
    const counters = this.of(table);
    if (counters.length === 0) return;
    const notes = this.#notes.get(table) ?? [];
    this.#notes.set(table, notes);
    for (const each of counters) notes.push({ counter: nameOf(each), key: keyIn(each, document), value: shareOf(each, document), sign, time });
  }

  /** Writes what has changed; `seed` chooses the rows. */
  async settle(transaction: Transaction, seed: string): Promise<void> {
    const shard = hashOf(seed) % SHARDS;
    for (const [table, notes] of this.#notes) {
      const totals = new Totals();
      const recount = await recountOf(transaction, table);
      for (const { counter, key, value, sign, time } of notes) {
        add(totals.of(counter, key), value, sign);
        if (countsAnew(recount, time)) add(totals.of(newName(counter), key), value, sign);
      }
      await totals.write(transaction, shard);
    }
  }
}

function hashOf(text: string): number {
  let hash = 0;
  for (const character of text) hash = (Math.imul(hash, 31) + character.codePointAt(0)!) >>> 0;
  return hash;
}
