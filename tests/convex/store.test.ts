/** What the local host keeps documents in: ordered keys, trees that snapshots share, and ids. */
import { compareValues, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { describe, expect, it } from "vitest";
import { newId, tableOf } from "../../scripts/deployment/ids";
import { END, keyOf } from "../../scripts/deployment/keys";
import { Tree } from "../../scripts/deployment/tree";
import vectors from "../canonical_vectors.json";

const known = (vectors as { value?: JSONValue; canonical: string }[]).map((vector): [Value | undefined, string] => [
  vector.value === undefined ? undefined : jsonToConvex(vector.value),
  vector.canonical,
]);

describe("a key", () => {
  it("is a code unit for each byte of Convex's encoding", () => {
    expect(known.map(([value]) => Buffer.from(keyOf([value]), "latin1").toString("hex"))).toEqual(
      known.map(([, encoding]) => encoding),
    );
  });

  it("of several values is ordered by the first that differ, and holds all that begins so before its end", () => {
    for (const [left] of known) {
      for (const [right] of known) {
        const order = compareValues(left, right);
        const [one, two] = [keyOf([1, left, "z"]), keyOf([1, right, "a"])];
        if (order !== 0) expect(one < two).toBe(order < 0);
        expect(keyOf([1, left]) <= one && one < keyOf([1, left]) + END).toBe(true);
        if (order < 0) expect(keyOf([1, left]) + END < two).toBe(true);
      }
    }
  });
});

function chances(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe("a tree", () => {
  it.each([1, 2, 3])("holds what a sorted list would, and its snapshots stay as they were (seed %d)", (seed) => {
    const chance = chances(seed);
    let tree = Tree.empty<number>();
    const reference = new Map<string, number>();
    const snapshots: [Tree<number>, [string, number][]][] = [];
    const sorted = () => [...reference].sort(([left], [right]) => (left < right ? -1 : 1));
    let owner = {};
    for (let step = 0; step < 6_000; step++) {
      const key = String(chance(2_000)).padStart(4, "0");
      if (chance(3) > 0 !== (step > 4_000)) {
        tree = tree.set(key, step, owner);
        reference.set(key, step);
      } else {
        tree = tree.delete(key, owner);
        reference.delete(key);
      }
      if (step % 500 === 0) {
        snapshots.push([tree, sorted()]);
        owner = {};
      }
    }
    snapshots.push([tree, sorted()]);
    for (const [snapshot, entries] of snapshots) {
      expect(snapshot.size).toBe(entries.length);
      const forwards: [string, number][] = [];
      for (let at = snapshot.first("", END); at; at = snapshot.first(`${at[0]}\u0000`, END)) forwards.push(at);
      expect(forwards).toEqual(entries);
      const backwards: [string, number][] = [];
      for (let at = snapshot.last("", END); at; at = snapshot.last("", at[0])) backwards.push(at);
      expect(backwards).toEqual([...entries].reverse());
      const [lower, upper] = ["0500", "1500"];
      const within = entries.filter(([key]) => lower <= key && key < upper);
      expect(snapshot.first(lower, upper)).toEqual(within[0]);
      expect(snapshot.last(lower, upper)).toEqual(within.at(-1));
      for (const [key, value] of entries.slice(0, 50)) expect(snapshot.get(key)).toBe(value);
      expect(snapshot.get("none")).toBeUndefined();
    }
  });

  it("is empty again when all is deleted", () => {
    let tree = Tree.empty<number>();
    for (let key = 0; key < 1_000; key++) tree = tree.set(String(key), key, {});
    for (let key = 0; key < 1_000; key++) tree = tree.delete(String(key), {});
    expect([tree.size, tree.first("", END), tree.last("", END)]).toEqual([0, undefined, undefined]);
    expect(tree.set("a", 1, {}).first("", END)).toEqual(["a", 1]);
  });
});

describe("an id", () => {
  it("knows its table, and has the form of Convex's", () => {
    for (const table of [1, 127, 128, 10_001, 16_384, 99_999]) {
      const id = newId(table);
      expect(id).toMatch(/^[0-9a-hjkmnp-tv-z]{31,37}$/);
      expect(tableOf(id)).toBe(table);
    }
    expect(new Set(Array.from({ length: 10_000 }, () => newId(10_001))).size).toBe(10_000);
  });

  it.each(["", "x", "nothing", "not-an-id-of-any-table-at-all-00", "0".repeat(32), "z".repeat(31)])("is not %j", (text) => {
    expect(tableOf(text)).toBeUndefined();
  });

  it("is none once a character of it is another", () => {
    const id = newId(10_001);
    const damaged = [...id].map((letter, place) => id.slice(0, place) + (letter === "a" ? "b" : "a") + id.slice(place + 1));
    expect(damaged.filter((each) => tableOf(each) !== undefined).length).toBeLessThan(3);
  });
});
