/**
 * What documents come to in counters: how many there are, or the sum of numbers, exactly, so that what was added can be taken away; and the
 * rows that hold it.
 */
import type { Value } from "convex/values";
import { canonical, hex } from "./canonical";
import { bitsOf, LEAST, shortened } from "./fold";
import type { Counter, Fields } from "./protocol";
import type { Transaction } from "./transaction";

/** The table and its index, as a schema has to declare them. */
export const COUNTERS = "convexorm_counters";
export const BY_COUNTER = "by_counter";
/** Rows for each value that is counted by. */
export const SHARDS = 16;

/**
 * Of so many `documents` the sum of `n` numbers: `bits` are least bits of float64, `int64` integers of 64 bits, `odd` how often infinity, its
 * negative and what is no number were added.
 */
type Total = { documents: number; n: number; bits: bigint; int64: bigint; odd: [number, number, number] };

const nothing = (): Total => ({ documents: 0, n: 0, bits: 0n, int64: 0n, odd: [0, 0, 0] });

const isNothing = ({ documents, n, bits, int64, odd }: Total): boolean =>
  documents === 0 && n === 0 && bits === 0n && int64 === 0n && odd.every((each) => each === 0);

/** Adds a document to a total, or takes it away (sign -1), and its value, if that is a number; null where documents are only counted. */
export function add(total: Total, value: Value | undefined, sign: 1 | -1): void {
  total.documents += sign;
  if (typeof value === "bigint") total.int64 += BigInt(sign) * value;
  else if (typeof value === "number" && Number.isFinite(value)) total.bits += BigInt(sign) * bitsOf(value);
  else if (typeof value === "number") total.odd[placeOf(value)] += sign;
  else if (value !== null) return;
  total.n += sign;
}

const placeOf = (odd: number): 0 | 1 | 2 => (odd === Infinity ? 0 : odd === -Infinity ? 1 : 2);

/** The total as JSON text. */
function textOf({ n, bits, int64, odd }: Total): string {
  const exact = bits === 0n ? ["0", LEAST] : shortened(bits);
  return JSON.stringify({ n, exact, int64: int64.toString(), odd });
}

/** Adds the total of so many documents, as a text. */
function join(total: Total, documents: number, text: string): void {
  total.documents += documents;
  const held = JSON.parse(text) as { n: number; exact: [string, number]; int64: string; odd: [number, number, number] };
  const [digits, exponent] = held.exact;
  const size = BigInt(`0x${digits.replace("-", "")}`) << BigInt(exponent - LEAST);
  total.n += held.n;
  total.bits += digits.startsWith("-") ? -size : size;
  total.int64 += BigInt(held.int64);
  held.odd.forEach((each, place) => (total.odd[place as 0 | 1 | 2] += each));
}

/** What is to be added to the rows of counters. */
export class Totals {
  readonly #changes = new Map<string, { counter: string; key: string; total: Total }>();

  get size(): number {
    return this.#changes.size;
  }

  of(counter: string, key: string): Total {
    const at = `${counter} ${key}`;
    const change = this.#changes.get(at) ?? { counter, key, total: nothing() };
    this.#changes.set(at, change);
    return change.total;
  }

  async write(transaction: Transaction, shard: number): Promise<void> {
    for (const { counter, key, total } of this.#changes.values()) {
      if (isNothing(total)) continue;
      const row = await transaction.first(COUNTERS, { index: BY_COUNTER, key: [[counter], [key], [shard]] });
      if (row !== null) join(total, row["count"] as number, row["sum"] as string);
      const fields = { counter, key, shard, count: total.documents, sum: textOf(total) };
      if (row !== null && isNothing(total)) await transaction.delete(COUNTERS, row);
      else if (row === null) await transaction.insert(0, COUNTERS, fields);
      else await transaction.replace(0, COUNTERS, row, fields);
    }
  }
}

export const nameOf = ({ table, name }: Counter): string => `${table}.${name}`;

/** What the rows for a document are called: the canonical form of what it is counted by. */
export const keyIn = ({ by }: Counter, document: Fields): string =>
  by.map((field) => hex(canonical(fieldOf(document, field)))).join("");

/** What a document adds: the number in a field, or null where documents are only counted. */
export const shareOf = ({ of }: Counter, document: Fields): Value | undefined =>
  of === undefined ? null : fieldOf(document, of);

const fieldOf = (document: Fields, field: string): Value | undefined =>
  Object.hasOwn(document, field) ? document[field] : undefined;
