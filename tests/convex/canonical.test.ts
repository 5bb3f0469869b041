import { compareValues, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { describe, expect, it } from "vitest";
import { canonical, canonicalHash, hex } from "../../convex/orm/canonical";
import vectors from "../canonical_vectors.json";

/** In Convex's order; one without a value is a missing field. */
const known = (vectors as { value?: JSONValue; canonical: string }[]).map((vector): [Value | undefined, string] => [
  vector.value === undefined ? undefined : jsonToConvex(vector.value),
  vector.canonical,
]);

describe("the canonical form", () => {
  it("is the one the Python side knows", () => {
    expect(known.map(([value]) => hex(canonical(value)))).toEqual(known.map(([, encoding]) => encoding));
  });

  it("compares as the values compare", () => {
    for (const [left, leftHex] of known) {
      for (const [right, rightHex] of known) {
        const byBytes = leftHex < rightHex ? -1 : leftHex > rightHex ? 1 : 0;
        expect(Math.sign(compareValues(left, right))).toBe(byBytes);
      }
    }
  });

  it("has the encodings of the wire", () => {
    expect(hex(canonical(-129n))).toBe("06ff7f");
    expect(hex(canonical(-0))).toBe("0d7fffffffffffffff");
    expect(hex(canonical("a\u0000"))).toBe("106100ff00");
    expect(hex(canonical({ b: [1n], a: "" }))).toBe("15" + "6100" + "1000" + "6200" + "12090100" + "00");
  });

  it("hashes to lower-case hex", async () => {
    expect(await canonicalHash(null)).toBe("084fed08b978af4d7d196a7446a86b58009e636b611db16211b65a9aadff29c5");
  });
});
