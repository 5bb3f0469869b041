import { compareValues, type Value } from "convex/values";
import { describe, expect, it } from "vitest";
import { hashOf } from "../../convex/orm/hash";

const bytes = (...numbers: number[]): ArrayBuffer => new Uint8Array(numbers).buffer;
const VALUES: (Value | undefined)[] = [
  ...[undefined, null, true, false, 0n, 1n, -1n, 2n ** 62n, 0, -0, 1, NaN, Infinity, 2 ** 53],
  ...["", "a", "ab", "a\u0000", "\u0000a", "é", "😀", "1"],
  ...[bytes(), bytes(0), bytes(0, 0), bytes(0, 0, 0, 0), bytes(1, 2, 3, 4, 5)],
  ...[[], [[]], [null], [1], [1, 2], [[1], 2], [[1, 2]], ["a", "b"], ["ab"]],
  ...[{}, { a: 1 }, { b: 1 }, { a: 1, b: 2 }, { a: 2, b: 1 }, { ab: {} }, { a: { b: {} } }, { a: {}, b: {} }, { "": 1 }],
];

describe("the hash of a value", () => {
  it("is 16 hexadecimal characters, the same for the same value", () => {
    for (const value of VALUES) {
      expect(hashOf(value)).toMatch(/^[0-9a-f]{16}$/);
      expect(hashOf(value)).toBe(hashOf(structuredClone(value)));
    }
    expect(hashOf({ a: 1, b: { d: [1], c: "x" }, e: undefined as never })).toBe(hashOf({ b: { c: "x", d: [1] }, a: 1 }));
  });

  it("tells values apart that are not the same", () => {
    for (const left of VALUES) {
      for (const right of VALUES) {
        expect(hashOf(left) === hashOf(right)).toBe(compareValues(left, right) === 0);
      }
    }
  });

  it("has no two alike among many that differ in a little, in either half", () => {
    const many = Array.from({ length: 100_000 }, (_, n) => hashOf({ n, text: `note ${n % 7}`, at: [n / 3, 0.5] }));
    expect(new Set(many).size).toBe(many.length);
    // Of so many 32-bit halves, one or two pairs are alike by chance.
    for (const half of [many.map((each) => each.slice(0, 8)), many.map((each) => each.slice(8))]) {
      expect(many.length - new Set(half).size).toBeLessThan(12);
    }
  });

  it("changes with each bit of a number and each character of a text", () => {
    const seen = new Set<string>();
    const view = new DataView(new ArrayBuffer(8));
    for (let bit = 0; bit < 64; bit++) {
      view.setFloat64(0, 1.5);
      view.setBigUint64(0, view.getBigUint64(0) ^ (1n << BigInt(bit)));
      seen.add(hashOf(view.getFloat64(0)));
    }
    const text = "some text of odd length";
    for (let place = 0; place < text.length; place++) seen.add(hashOf(`${text.slice(0, place)}#${text.slice(place + 1)}`));
    expect(seen.size).toBe(64 + text.length);
  });
});
