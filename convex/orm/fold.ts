/**
 * Aggregates of the documents of a read, for each of their groups. A call answers what its documents come to, in a form that can be
 * added to what others come to without losing anything.
 */
import { compareValues, type Value } from "convex/values";
import { canonical, hex } from "./canonical";
import type { Bound, Document, Fold, Partial, Sum, Term } from "./protocol";

export class Folding {
  readonly #groups = new Map<string, { key: Bound[]; gathering: Gathering[] }>();

  constructor(readonly fold: Fold) {}

  take(document: Document): void {
    const key = this.fold.by.map((field) => fieldOf(document, field));
    const name = key.map(([value]) => nameOf(value)).join();
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = { key, gathering: this.fold.of.map(gatheringOf) };
      this.#groups.set(name, group);
    }
    for (const each of group.gathering) each.take(document);
  }

  get groups(): [Bound[], Partial[]][] {
    return [...this.#groups.values()].map(({ key, gathering }) => [key, gathering.map(({ partial }) => partial)]);
  }
}

export const fieldOf = (document: Document, field: string): Bound =>
  Object.hasOwn(document, field) ? [document[field]!] : [];

const nameOf = (value: Value | undefined): string => (typeof value === "string" ? `"${JSON.stringify(value)}` : hex(canonical(value)));

interface Gathering {
  take(document: Document): void;
  readonly partial: Partial;
}

function gatheringOf({ op, field = "_id" }: Term): Gathering {
  switch (op) {
    case "count":
      return new Counted();
    case "sum":
      return new Summed(field);
    default:
      return new Outermost(field, op === "min" ? -1 : 1);
  }
}

class Counted implements Gathering {
  partial = 0;

  take(): void {
    this.partial += 1;
  }
}

/** The least (side -1) or greatest (1) of the values of a field that are there and not null. */
class Outermost implements Gathering {
  partial: Bound = [];

  constructor(
    readonly field: string,
    readonly side: 1 | -1,
  ) {}

  take(document: Document): void {
    const [value] = fieldOf(document, this.field);
    if (value === undefined || value === null) return;
    if (this.partial.length === 0 || compareValues(value, this.partial[0]) * this.side > 0) this.partial = [value];
  }
}

/** The exponent of the least bit of a float64. */
export const LEAST = -1074;

/** The sum of the numbers of a field, exactly: floats as a whole number of the least bits of all floats. */
class Summed implements Gathering {
  #n = 0;
  /** Whole numbers, as long as their sum is exact. */
  #small = 0;
  #bits = 0n;
  #int64 = 0n;
  #odd = 0;

  constructor(readonly field: string) {}

  take(document: Document): void {
    const [value] = fieldOf(document, this.field);
    if (typeof value === "bigint") this.#int64 += value;
    else if (typeof value !== "number") return;
    else if (!Number.isFinite(value)) this.#odd += value;
    else if (Number.isSafeInteger(value) && Number.isSafeInteger(this.#small + value)) this.#small += value;
    else this.#bits += bitsOf(value);
    this.#n += 1;
  }

  get partial(): Sum {
    const bits = this.#bits + (BigInt(this.#small) << BigInt(-LEAST));
    return {
      n: this.#n,
      ...(bits === 0n ? {} : { exact: shortened(bits) }),
      ...(this.#int64 === 0n ? {} : { int64: this.#int64.toString() }),
      ...(this.#odd === 0 ? {} : { odd: this.#odd }),
    };
  }
}

const view = new DataView(new ArrayBuffer(8));

/** A finite float as a number of least bits. */
export function bitsOf(value: number): bigint {
  view.setFloat64(0, value);
  const word = view.getBigUint64(0);
  const exponent = (word >> 52n) & 0x7ffn;
  const fraction = word & 0xfffffffffffffn;
  const bits = exponent === 0n ? fraction : (fraction | 0x10000000000000n) << (exponent - 1n);
  return value < 0 ? -bits : bits;
}

/** The number as digits and an exponent of 2, without the zeros at its end. */
export function shortened(bits: bigint): [string, number] {
  const size = bits < 0n ? -bits : bits;
  const digits = size.toString(2);
  const zeros = digits.length - digits.lastIndexOf("1") - 1;
  return [(bits >> BigInt(zeros)).toString(16), LEAST + zeros];
}
