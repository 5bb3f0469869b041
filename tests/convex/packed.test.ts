/** Arrays of numbers as bytes, and digests of documents. */
import { describe, expect, it } from "vitest";
import { digestOf } from "../../convex/orm/digest";
import { deployment, is, refusal } from "./support";

const floats = (bytes: unknown): number[] => Array.from(new Float32Array(bytes as ArrayBuffer));
const bytes = (...numbers: number[]): ArrayBuffer => Float64Array.from(numbers).buffer;
const read = { table: "items", index: "by_creation_time" };

describe("an array of numbers", () => {
  it("is stored as numbers when it was sent as bytes", async () => {
    const here = deployment();
    const single = Float32Array.from([0.5, -2]).buffer;
    await here.commit(
      { op: "insert", table: "items", doc: { at: bytes(0.1, -0, 3) }, packed: { at: 8 } },
      { op: "insert", table: "items", doc: { at: single }, packed: { at: 4 } },
    );
    expect(await here.all("items")).toEqual([{ at: [0.1, -0, 3] }, { at: [0.5, -2] }]);
  });

  it("may come packed in every write that carries fields", async () => {
    const here = deployment();
    await here.insert("items", { owner: "a", at: [1] });
    const at = { index: "by_owner", key: [is("a")] };
    await here.commit({ op: "patch", table: "items", at, set: { at: bytes(2) }, packed: { at: 8 } });
    expect(await here.all("items")).toEqual([{ owner: "a", at: [2] }]);
    await here.commit({ op: "replace", table: "items", at, doc: { owner: "a", at: bytes(3) }, packed: { at: 8 } });
    expect(await here.all("items")).toEqual([{ owner: "a", at: [3] }]);
    await here.commit({ op: "upsert", table: "items", at, doc: { owner: "a", at: bytes(4) }, packed: { at: 8 } });
    expect(await here.all("items")).toEqual([{ owner: "a", at: [4] }]);
  });

  it("is refused when its bytes are no floats", async () => {
    const here = deployment();
    const bad = { op: "insert", table: "items", doc: { at: new ArrayBuffer(7) }, packed: { at: 8 } } as const;
    expect(await refusal(here.commit(bad))).toMatchObject({ code: "Invalid" });
    expect(await refusal(here.commit({ ...bad, doc: { at: [1] } }))).toMatchObject({ code: "Invalid" });
    expect(await here.all("items")).toEqual([]);
  });

  it("is answered as float32, and says when that rounds it", async () => {
    const here = deployment();
    await here.insert("items", { at: [0.5, -2], rank: 1 });
    const pack = { field: "at", length: 2 };
    const [exact] = await here.read({ ...read, pack });
    expect(floats(exact!.docs[0]!["at"])).toEqual([0.5, -2]);
    expect(exact!.docs[0]!["rank"]).toBe(1);
    expect(exact!.rounded).toBe(false);
    await here.insert("items", { at: [0.1, 0] });
    const [rounded] = await here.read({ ...read, pack });
    expect(floats(rounded!.docs[1]!["at"])).toEqual([Math.fround(0.1), 0]);
    expect(rounded!.rounded).toBe(true);
  });
});

it("documents without such an array are left out of a pack, and neither round it nor end it", async () => {
  const here = deployment();
  await here.insert("items", { at: [0.5] }, { at: [0.1, 0.1] }, { at: "text" }, {}, { at: [NaN] });
  const [packed] = await here.read({ ...read, pack: { field: "at", length: 1 } });
  expect(packed!.docs.map((document) => floats(document["at"]))).toEqual([[0.5], [NaN]]);
  expect(packed).toMatchObject({ count: 5, rounded: false, next: null });
  expect(packed!.digests).toHaveLength(5);
});

describe("a digest", () => {
  it("tells documents apart that hold the same numbers under other names, or none", async () => {
    const here = deployment();
    await here.insert("items", { at: [1] }, { on: [1] }, {}, { at: [] }, { at: [1, 2] }, { at: [1], on: [2] }, { at: 1 });
    const { digests } = (await here.read({ ...read, digest: "each" }))[0]!;
    // Without what tells documents apart anyway.
    const each = (await here.read(read))[0]!.docs.map((one) => digestOf({ ...one, _id: "", _creationTime: 0 }));
    expect(digests).toHaveLength(7);
    expect(new Set(each.map(([, digest]) => digest)).size).toBe(7);
  });

  it("is the same while the documents are, and another when one is changed, added or gone", async () => {
    const here = deployment();
    await here.insert("items", { owner: "a", at: [1, 2] }, { owner: "b", at: [1, 2] });
    const all = async () => (await here.read({ ...read, digest: "all" }))[0]!.digest!;
    const seen = [await all()];
    expect(await all()).toBe(seen[0]);
    const at = { index: "by_owner", key: [is("a")] };
    await here.commit({ op: "patch", table: "items", at, set: { at: [1, 3] } });
    seen.push(await all());
    await here.insert("items", { owner: "c" });
    seen.push(await all());
    await here.commit({ op: "delete", table: "items", at });
    seen.push(await all());
    expect(new Set(seen).size).toBe(4);
  });

  it("of each document tells which one was changed, and answers no documents", async () => {
    const here = deployment();
    await here.insert("items", { owner: "a", at: [1] }, { owner: "b", at: [1] });
    const each = async () => (await here.read({ ...read, digest: "each" }))[0]!;
    const before = await each();
    expect(before.docs).toEqual([]);
    await here.commit({ op: "patch", table: "items", at: { index: "by_owner", key: [is("b")] }, set: { at: [-1] } });
    const after = await each();
    expect(after.digests![0]).toEqual(before.digests![0]);
    expect(after.digests![1]![0]).toBe(before.digests![1]![0]);
    expect(after.digests![1]![1]).not.toBe(before.digests![1]![1]);
  });
});
