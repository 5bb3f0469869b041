/**
 * Counts and sums that are kept with every write, in a table of their own.
 *
 * What the writes of a commit add is gathered, and written at its end: to one of several rows, which the commit's id chooses, so that
 * commits that run at once seldom write the same row. A reader adds the rows up.
 */
import type { Value } from "convex/values";
import { canonical, hex } from "./canonical";
import { bitsOf, LEAST, shortened } from "./fold";
import type { Counter, Fields } from "./protocol";
import type { Transaction } from "./transaction";

/** The table and its index, as a schema has to declare them. */
const TABLE = "convexorm_counters";
const INDEX = "by_counter";
/** Rows for each value that is counted by. */
const SHARDS = 16;

type Total = { n: number; bits: bigint; int64: bigint; odd: number };

export class Counters {
  readonly #counters = new Map<string, Counter[]>();
  readonly #changes = new Map<string, { counter: string; key: string; total: Total }>();

  constructor(counters: readonly Counter[]) {
    for (const each of counters) this.#counters.set(each.table, [...(this.#counters.get(each.table) ?? []), each]);
  }

  /** A document is there that was not (sign 1), or is there no more (-1). */
  note(table: string, document: Fields, sign: 1 | -1): void {
    for (const { name, by, of } of this.#counters.get(table) ?? []) {
      const counter = `${table}.${name}`;
      const key = by.map((field) => hex(canonical(fieldOf(document, field)))).join("");
      const at = `${counter} ${key}`;
      const change = this.#changes.get(at) ?? { counter, key, total: { n: 0, bits: 0n, int64: 0n, odd: 0 } };
      this.#changes.set(at, change);
      add(change.total, of === undefined ? null : fieldOf(document, of), sign);
    }
  }

  /** Writes what has changed. */
  async settle(transaction: Transaction, commitId: string): Promise<void> {
    const shard = hashOf(commitId) % SHARDS;
    for (const { counter, key, total } of this.#changes.values()) {
      if (isNothing(total)) continue;
      const row = await transaction.first(TABLE, { index: INDEX, key: [[counter], [key], [shard]] });
      if (row !== null) join(total, row["sum"] as string);
      const fields = { counter, key, shard, count: total.n, sum: textOf(total) };
      if (row !== null && isNothing(total)) await transaction.delete(TABLE, row);
      else if (row === null) await transaction.insert(0, TABLE, fields);
      else await transaction.replace(0, TABLE, row, fields);
    }
  }
}

const isNothing = ({ n, bits, int64, odd }: Total): boolean => n === 0 && bits === 0n && int64 === 0n && odd === 0;

const fieldOf = (document: Fields, field: string): Value | undefined =>
  Object.hasOwn(document, field) ? document[field] : undefined;

/** Adds a value to a sum, if it is a number; null is a document that is only counted. */
function add(total: Total, value: Value | undefined, sign: 1 | -1): void {
  if (typeof value === "bigint") total.int64 += BigInt(sign) * value;
  else if (typeof value === "number" && Number.isFinite(value)) total.bits += BigInt(sign) * bitsOf(value);
  else if (typeof value === "number") total.odd += sign * value;
  else if (value !== null) return;
  total.n += sign;
}

function textOf({ n, bits, int64, odd }: Total): string {
  const exact = bits === 0n ? ["0", LEAST] : shortened(bits);
  return JSON.stringify({ n, exact, int64: int64.toString(), odd: String(odd) });
}

function join(total: Total, text: string): void {
  const held = JSON.parse(text) as { n: number; exact: [string, number]; int64: string; odd: string };
  const [digits, exponent] = held.exact;
  const size = BigInt(`0x${digits.replace("-", "")}`) << BigInt(exponent - LEAST);
  total.n += held.n;
  total.bits += digits.startsWith("-") ? -size : size;
  total.int64 += BigInt(held.int64);
  total.odd += Number(held.odd);
}

function hashOf(text: string): number {
  let hash = 0;
  for (const character of text) hash = (Math.imul(hash, 31) + character.codePointAt(0)!) >>> 0;
  return hash;
}
