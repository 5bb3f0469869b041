import { type Value } from "convex/values";
import { makeFunctionReference } from "convex/server";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { canonicalHash } from "../../convex/orm/canonical";
import { isSweeper } from "../../convex/orm/sweeping";
import type { Key, Write } from "../../convex/orm/protocol";
import { cost, deployment, is, missing, refusal, type Deployment } from "./support";

const at = (rank: Value): Key => ({ index: "by_rank", fields: ["rank"], key: [is(rank)] });
const rank = (value: Value) => ({ lower: { value: is(value), inclusive: true } });

/** A deployment with one item of rank 1, and its id. */
async function withItem(fields: Record<string, Value> = {}): Promise<Deployment & { id: string }> {
  const here = deployment();
  const [[id]] = (await here.insert("items", { rank: 1, ...fields })) as [[string, null]];
  return { ...here, id };
}

describe("a commit is all or nothing", () => {
  it.each<[string, Write, string]>([
    ["an expectation fails", { op: "delete", table: "items", at: at("gone") }, "Stale"],
    ["the schema refuses a document", { op: "insert", table: "tasks", doc: { text: 5 } }, "BadDocument"],
    ["Convex refuses a document", { op: "insert", table: "items", doc: { _id: "own" } }, "BadDocument"],
    ["a table is unknown", { op: "insert", table: "nope", doc: {} }, "UnknownTable"],
    ["an index is unknown", { op: "deleteRange", table: "items", index: "by_nope" }, "UnknownIndex"],
  ])("leaves nothing behind when %s in the last write", async (_name, last, code) => {
    const here = await withItem();
    const refused = here.commitAs(
      "refused",
      { op: "insert", table: "items", doc: { rank: 2 } },
      { op: "patch", table: "items", at: at(1), set: { text: "changed" } },
      { op: "upsert", table: "items", at: at(3), doc: { rank: 3 } },
      { op: "deleteRange", table: "items", index: "by_rank", eq: [is(2)] },
      last,
    );
    expect(await refusal(refused)).toMatchObject({ code });
    expect(await here.all("items")).toEqual([{ rank: 1 }]);
    expect((await here.all("convexorm_commits")).map((entry) => entry["commitId"])).not.toContain("refused");
  });

  it("applies writes in order, each seeing the ones before", async () => {
    const here = deployment();
    const results = await here.commit(
      { op: "insert", table: "items", doc: { rank: 1 }, unique: [at(1)] },
      { op: "patch", table: "items", at: at(1), set: { rank: 2 } },
      { op: "upsert", table: "items", at: at(2), doc: { rank: 2, text: "second" } },
      { op: "deleteRange", table: "items", index: "by_rank", ...rank(2) },
      { op: "insert", table: "items", doc: { rank: 2 }, unique: [at(2)] },
    );
    expect(results[1]).toBe(true);
    expect((results[2] as unknown[])[2]).toBe(false);
    expect(results[3]).toEqual([1, false]);
    expect(await here.all("items")).toEqual([{ rank: 2 }]);
  });
});

describe("a commit id", () => {
  const write: Write = { op: "insert", table: "items", doc: { rank: 1 } };

  it("seen before is answered as the first time and writes nothing", async () => {
    const here = deployment();
    const first = await here.commitAs("same", write, { ...write, op: "upsert", at: at(1) });
    expect(await cost(async () => expect(await here.commitAs("same", write)).toEqual(first))).toEqual({
      read: 1,
      written: 0,
    });
    expect(await here.all("items")).toHaveLength(1);
  });

  it("that is new costs no read", async () => {
    const here = await withItem();
    expect(await cost(() => here.commit(write))).toEqual({ read: 0, written: 2 });
  });

  it("has 1 to 64 characters", async () => {
    const here = deployment();
    expect(await refusal(here.commitAs("", write))).toMatchObject({ code: "Invalid" });
    expect(await refusal(here.commitAs("x".repeat(65), write))).toMatchObject({ code: "Invalid" });
    await here.commitAs("😀".repeat(64), write);
  });

  describe("withdrawn", () => {
    const withdraw = (here: Deployment, commitId: string) => here.mutate({ version: 4, commitId, withdraw: true });

    it("after it was refused is refused when a late copy of it arrives, and writes nothing", async () => {
      const here = await withItem({ text: "old" });
      const change = (from: string, to: string): Write => ({
        op: "patch",
        table: "items",
        at: at(1),
        set: { text: to },
        expect: { text: { is: is(from) } },
      });
      await here.commit(change("old", "other"));
      expect(await refusal(here.commitAs("late", change("old", "new")))).toMatchObject({ code: "Stale" });
      expect(await withdraw(here, "late")).toEqual({ version: 4, withdrawn: true });
      await here.commit(change("other", "old"));
      expect(await refusal(here.commitAs("late", change("old", "new")))).toMatchObject({ code: "Withdrawn" });
      expect(await here.all("items")).toEqual([{ rank: 1, text: "old" }]);
    });

    it("after it was applied is answered as it was, and stays applied", async () => {
      const here = deployment();
      const first = await here.commitAs("applied", write);
      expect(await withdraw(here, "applied")).toEqual({ version: 4, results: [first] });
      expect(await here.commitAs("applied", write)).toEqual(first);
      expect(await here.all("items")).toEqual([{ rank: 1 }]);
    });

    it("by two at once, or while it is being applied, has one outcome", async () => {
      const here = deployment();
      const twice = await Promise.all([withdraw(here, "twice"), withdraw(here, "twice")]);
      expect(twice).toEqual([1, 2].map(() => ({ version: 4, withdrawn: true })));
      const entries = (await here.all("convexorm_commits")).map((entry) => entry["commitId"]);
      expect(entries).toEqual(["twice"]);
      const [applied, withdrawn] = await Promise.allSettled([here.commitAs("race", write), withdraw(here, "race")]);
      const written = (await here.all("items")).length;
      expect(applied.status).toBe(written === 1 ? "fulfilled" : "rejected");
      expect(withdrawn).toMatchObject({ value: written === 1 ? { results: expect.anything() } : { withdrawn: true } });
    });

    it.each<[string, Record<string, unknown>]>([
      ["with writes", { withdraw: true, writes: [] }],
      ["or not", { withdraw: false }],
      ["without an id", { withdraw: true, commitId: "" }],
    ])("%s is no request", async (_name, more) => {
      const here = deployment();
      expect(await refusal(here.mutate({ version: 4, commitId: "c", ...more }))).toMatchObject({ code: "Invalid" });
    });
  });

  describe("an hour later", () => {
    beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
    afterEach(() => void vi.useRealTimers());

    const entries = async (here: Deployment) =>
      (await here.all("convexorm_commits")).map((entry) => entry["commitId"]);
    const sweep = (here: Deployment) => here.backend.mutation(makeFunctionReference<"mutation">("orm:sweep"), {});

    it("is forgotten by a sweep, but not by commits", async () => {
      const here = deployment();
      for (let old = 0; old < 3; old++) await here.commitAs(`old ${old}`, write);
      vi.advanceTimersByTime(59 * 60_000);
      await here.commitAs("young", write);
      vi.advanceTimersByTime(2 * 60_000);
      expect(await cost(() => here.commitAs("a", write))).toEqual({ read: 0, written: 2 });
      expect(await entries(here)).toEqual(["old 0", "old 1", "old 2", "young", "a"]);
      await sweep(here);
      expect(await entries(here)).toEqual(["young", "a"]);
    });

    it("is forgotten by about one commit in 128, which has the ledger swept afterwards, some hundreds of entries at a time", async () => {
      const here = deployment();
      const ids = Array.from({ length: 12_800 }, (_, n) => `commit of ${n}`);
      const sweepers = ids.filter(isSweeper);
      expect(sweepers.length).toBeGreaterThan(50);
      expect(sweepers.length).toBeLessThan(200);
      const old = Array.from({ length: 600 }, (_, n): Write => {
        return { op: "insert", table: "convexorm_commits", doc: { commitId: `old ${n}`, answer: "[]" } };
      });
      await here.commitAs("old", ...old);
      vi.advanceTimersByTime(61 * 60_000);
      await here.commitAs(sweepers[0]!, write);
      // However long the two sweeps take, the second of which the first one schedules.
      while ((await entries(here)).length > 1) await new Promise((done) => setTimeout(done, 5));
      await here.backend.finishInProgressScheduledFunctions();
      expect(await entries(here)).toEqual([sweepers[0]]);
    });
  });
});

describe("expectations", () => {
  const large = { text: "x".repeat(5_000), tags: [1n, null] };

  it("let two sessions change different fields", async () => {
    const here = await withItem({ x: "old", y: "old" });
    const change = (field: string): Write => ({
      op: "patch",
      table: "items",
      at: { id: here.id },
      set: { [field]: "new" },
      expect: { [field]: { is: is("old") } },
    });
    await here.commit(change("x"));
    await here.commit(change("y"));
    expect(await here.all("items")).toEqual([{ rank: 1, x: "new", y: "new" }]);
    const again = await refusal(here.commit({ op: "insert", table: "items", doc: {} }, change("x")));
    expect(again).toMatchObject({ code: "Stale", write: 1, table: "items", reason: "changed", fields: ["x"] });
  });

  it("hold large values to their hash", async () => {
    const here = await withItem({ large });
    const guarded = async (sha256: string) =>
      await here.commit({ op: "patch", table: "items", at: at(1), set: { done: true }, expect: { large: { sha256 } } });
    expect(await refusal(guarded(await canonicalHash({ ...large, tags: [1, null] })))).toMatchObject({
      code: "Stale",
      fields: ["large"],
    });
    expect(await guarded(await canonicalHash({ tags: [1n, null], text: large.text }))).toEqual([true]);
  });

  it("tell a missing field from null, by value and by hash", async () => {
    const here = await withItem({ nothing: null });
    const expecting = (expect: Write<"delete">["expect"]) =>
      here.commit({ op: "delete", table: "items", at: at(1), expect });
    expect(await refusal(expecting({ nothing: { is: missing } }))).toMatchObject({ fields: ["nothing"] });
    expect(await refusal(expecting({ absent: { is: is(null) }, rank: { is: is(1n) } }))).toMatchObject({
      fields: ["absent", "rank"],
    });
    await expecting({
      absent: { is: missing },
      other: { sha256: await canonicalHash(undefined) },
      nothing: { is: is(null) },
    });
  });

  it("of a document that is gone fail the commit, or skip the write", async () => {
    const here = await withItem();
    await here.commit({ op: "delete", table: "items", at: { id: here.id } });
    const gone: Write = { op: "patch", table: "items", at: { id: here.id }, set: { x: 1 } };
    expect(await refusal(here.commit(gone))).toMatchObject({
      code: "Stale",
      write: 0,
      table: "items",
      reason: "missing",
    });
    expect(await refusal(here.commit({ ...gone, at: { id: "no id" } }))).toMatchObject({ reason: "missing" });
    expect(await here.commit({ ...gone, missing: "skip" })).toEqual([false]);
  });

  it("count positions through all chunks and repeat no content", async () => {
    const here = await withItem({ secret: "do not repeat" });
    const insert = { op: "insert", table: "items", doc: {} };
    const last = { op: "delete", table: "items", at: at(1), expect: { secret: { is: is("another") } } };
    const refused = await refusal(
      here.mutate({
        version: 4,
        commitId: "c",
        writes: [
          [insert, insert],
          [insert, last],
        ],
      }),
    );
    expect(refused).toMatchObject({ write: 3 });
    expect(JSON.stringify(refused)).not.toMatch(/do not repeat|another/);
  });
});

describe("writes", () => {
  it("insert under a unique key only where it is free", async () => {
    const here = await withItem();
    const insert = (value: number): Write => ({
      op: "insert",
      table: "items",
      doc: { rank: value },
      unique: [at(value)],
    });
    expect(await refusal(here.commit(insert(1)))).toMatchObject({ code: "Stale", write: 0, reason: "exists" });
    await here.commit(insert(2));
  });

  it("upsert replaces the document whole but for what it keeps", async () => {
    const here = await withItem({ createdAt: 5, text: "old", done: true });
    const upsert: Write = {
      op: "upsert",
      table: "items",
      at: at(1),
      doc: { rank: 1, createdAt: 9, text: "new" },
      keep: ["createdAt", "absent"],
    };
    const stored = await here.one("items");
    expect(await here.commit(upsert)).toEqual([[here.id, stored._creationTime, false]]);
    expect(await here.all("items")).toEqual([{ rank: 1, createdAt: 5, text: "new" }]);
    const [created] = await here.commit({ ...upsert, at: at(2), doc: { rank: 2, createdAt: 9 } });
    expect(created).toEqual([expect.any(String), null, true]);
    expect((await here.all("items"))[1]).toEqual({ rank: 2, createdAt: 9 });
  });

  it("patch sets and removes fields and leaves the others", async () => {
    const here = await withItem({ x: 1, y: 2 });
    await here.commit({ op: "patch", table: "items", at: at(1), set: { x: null }, unset: ["y", "absent"] });
    expect(await here.all("items")).toEqual([{ rank: 1, x: null }]);
    const both: Write = { op: "patch", table: "items", at: at(1), set: { x: 1 }, unset: ["x"] };
    expect(await refusal(here.commit(both))).toMatchObject({ code: "Invalid" });
  });

  it("patch gives no document the key that another has after the commit", async () => {
    const here = await withItem();
    const [second] = (await here.commit({ op: "insert", table: "items", doc: { rank: 2 } })) as [[string, null]];
    const move = (id: string, rank: number): Write => ({
      op: "patch",
      table: "items",
      at: { id },
      set: { rank },
      unique: [at(rank)],
    });
    expect(await refusal(here.commit(move(here.id, 2)))).toMatchObject({ code: "Stale", write: 0, reason: "exists" });
    expect(await here.all("items")).toEqual([{ rank: 1 }, { rank: 2 }]);
    await here.commit(move(here.id, 2), move(second[0], 1), move(second[0], 1));
    expect(await here.all("items")).toEqual([{ rank: 2 }, { rank: 1 }]);
    await here.commit(move(here.id, 1), { op: "delete", table: "items", at: { id: second[0] } });
    expect(await here.all("items")).toEqual([{ rank: 1 }]);
  });

  it("replace and delete say whether the document was there", async () => {
    const here = await withItem();
    const replace: Write = { op: "replace", table: "items", at: at(1), doc: { rank: 9 }, missing: "skip" };
    const remove: Write = { op: "delete", table: "items", at: at(9), missing: "skip" };
    expect(await here.commit(replace, replace, remove, remove)).toEqual([true, false, true, false]);
    expect(await here.all("items")).toEqual([]);
  });

  it("a key takes the first document in index order", async () => {
    const here = deployment();
    await here.insert("items", { owner: "o", rank: 2 }, { owner: "o", rank: 1 });
    await here.commit({ op: "delete", table: "items", at: { index: "by_owner", key: [is("o")] } });
    expect(await here.all("items")).toEqual([{ owner: "o", rank: 2 }]);
  });

  it("read no more than the look-up and what Convex reads to change a document", async () => {
    const here = await withItem();
    const patch: Write = { op: "patch", table: "items", at: at(1), set: { touched: true } };
    expect(await cost(() => here.commit(patch))).toEqual({ read: 2, written: 2 });
    const byId: Write = { ...patch, at: { id: here.id }, set: { touched: false } };
    expect(await cost(() => here.commit(byId))).toEqual({ read: 2, written: 2 });
    const upsert: Write = { op: "upsert", table: "items", at: at(1), doc: { rank: 1 } };
    expect(await cost(() => here.commit(upsert))).toEqual({ read: 2, written: 2 });
    expect(await cost(() => here.commit({ op: "upsert", table: "items", at: at(2), doc: { rank: 2 } }))).toEqual({
      read: 0,
      written: 2,
    });
    expect(await cost(() => here.commit({ op: "insert", table: "items", doc: {}, unique: [at(3)] }))).toEqual({
      read: 0,
      written: 2,
    });
    expect(await cost(() => here.commit({ op: "delete", table: "items", at: at(2) }))).toEqual({ read: 2, written: 2 });
  });

  it("that change nothing write nothing", async () => {
    const here = await withItem({ x: 1, tags: ["a"] });
    const doc = { tags: ["a"], x: 1, rank: 1 };
    const upsert: Write = { op: "upsert", table: "items", at: at(1), doc };
    const same: Write[] = [
      upsert,
      { op: "replace", table: "items", at: { id: here.id }, doc },
      { op: "patch", table: "items", at: at(1), set: { x: 1 }, unset: ["absent"] },
    ];
    for (const write of same) expect(await cost(() => here.commit(write))).toEqual({ read: 1, written: 1 });
    const stored = await here.one("items");
    expect(await here.commit(...same)).toEqual([[here.id, stored._creationTime, false], true, true]);
    for (const x of [-1, null, "1", 2]) {
      expect(await cost(() => here.commit({ ...upsert, doc: { ...doc, x } }))).toEqual({ read: 2, written: 2 });
      expect(await here.all("items")).toEqual([{ rank: 1, x, tags: ["a"] }]);
    }
    expect(await cost(() => here.commit({ ...upsert, doc: { rank: 1, x: 2 } }))).toEqual({ read: 2, written: 2 });
  });
});

describe("returning", () => {
  const insert: Write = { op: "insert", table: "items", doc: { rank: 1 }, returning: true };

  it("tells creation times for one read each", async () => {
    const here = deployment();
    const upsert: Write = { op: "upsert", table: "items", at: at(2), doc: { rank: 2 }, returning: true };
    const asked = await cost(async () => {
      const [inserted, upserted] = (await here.commitAs("same", insert, upsert)) as [string, number][];
      const [result] = await here.read({ table: "items", index: "by_creation_time" });
      expect(result!.docs.map((doc) => [doc._id, doc._creationTime])).toEqual([
        inserted!.slice(0, 2),
        upserted!.slice(0, 2),
      ]);
    });
    expect(asked.read).toBe(2 + 2);
    expect(await here.commitAs("same")).toEqual([
      [expect.any(String), expect.any(Number)],
      [expect.any(String), expect.any(Number), true],
    ]);
  });

  it("is null for a document that a later write deletes", async () => {
    const remove: Write = { op: "delete", table: "items", at: at(1) };
    expect(await deployment().commit(insert, remove)).toEqual([[expect.any(String), null], true]);
  });

  it("holds for the first thousand of a commit and takes no room from its writes", async () => {
    const here = deployment();
    const inserts = (await here.commit(...Array.from({ length: 1_002 }, () => insert))) as [string, number | null][];
    expect(inserts.map(([, time]) => time !== null)).toEqual(inserts.map((_, position) => position < 1_000));

    const writes = [
      Array.from({ length: 200 }, () => ({ op: "insert", table: "tasks", doc: { text: "" }, returning: true })),
      Array.from({ length: 4_000 }, () => ({
        op: "delete",
        table: "points",
        at: { index: "by_creation_time", key: [[0]] },
        missing: "skip",
      })),
    ];
    const { results } = await here.mutate({ version: 4, commitId: "crowded", writes });
    const told = (results[0] as [string, number | null][]).filter(([, time]) => time !== null);
    expect(told).toHaveLength(4_096 - 1 - 4_000);
  });
});

describe("deleteRange", () => {
  async function many(length: number) {
    const here = deployment();
    await here.insert(
      "items",
      ...Array.from({ length }, (_, position) => ({ rank: position, even: position % 2 === 0 })),
    );
    return here;
  }

  const range: Write<"deleteRange"> = { op: "deleteRange", table: "items", index: "by_rank" };

  it("deletes the whole range, or up to a limit of matches", async () => {
    const here = await many(10);
    const even: Write = { ...range, filter: { op: "eq", field: "even", value: is(true) }, limit: 2 };
    expect(await here.commit(even, { ...range, ...rank(8) }, { ...range, limit: 0 })).toEqual([
      [2, true],
      [2, false],
      [0, true],
    ]);
    expect((await here.all("items")).map((doc) => doc["rank"])).toEqual([1, 3, 4, 5, 6, 7]);
    expect(await here.commit({ ...range, limit: 100 })).toEqual([[6, false]]);
  });

  it("and delete tell what they have deleted, once, also when they are sent again", async () => {
    const here = await many(4);
    const [found] = await here.read({ table: "items", index: "by_rank" });
    const ids = found!.docs.map((doc) => doc._id);
    const writes: Write[] = [
      { op: "delete", table: "items", at: at(1), tells: true },
      { op: "delete", table: "items", at: at(9), missing: "skip", tells: true },
      { ...range, ...rank(2), tells: true },
      { ...range, ...rank(9), tells: true },
      { op: "delete", table: "items", at: { id: ids[0]! } },
    ];
    const told = [
      [1, false, [["items", null, [ids[1]]]]],
      false,
      [2, false, [["items", null, [ids[2], ids[3]]]]],
      [0, false, []],
      true,
    ];
    expect(await here.commitAs("told", ...writes)).toEqual(told);
    expect(await here.commitAs("told", ...writes)).toEqual(told);
  });

  it("without a limit is refused over the budget, and nothing is deleted", async () => {
    const here = await many(4_001);
    expect(await refusal(here.commit(range))).toMatchObject({ code: "RangeTooLarge", write: 0, table: "items" });
    expect(await here.all("items")).toHaveLength(4_001);
    expect(await here.commit({ ...range, limit: 10_000 })).toEqual([[4_000, true]]);
    expect(await here.commit(range)).toEqual([[1, false]]);
  });

  it("has one budget for the whole commit", async () => {
    const here = await many(4_002);
    const half: Write = { ...range, limit: 2_500 };
    expect(await here.commit(half, half, half)).toEqual([
      [2_500, true],
      [1_500, true],
      [0, true],
    ]);
  });
});

describe("a commit is refused", () => {
  const insert: Write = { op: "insert", table: "items", doc: {} };
  const request = (...writes: unknown[]) => ({ version: 4, commitId: "c", writes: [writes] });
  const nested = (levels: number): Value => (levels === 0 ? 1 : { in: nested(levels - 1) });
  const list = <T>(length: number, value: T) => Array.from({ length }, () => value);

  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["in another version", { ...request(insert), version: 7 }, { code: "Version", supported: 4 }],
    [
      "over 15,999 writes",
      { ...request(), writes: list(4, list(4_000, insert)) },
      { code: "Limit", limit: "writes", maximum: 15_999, actual: 16_000 },
    ],
    [
      "over 4,096 writes in a chunk",
      request(...list(4_097, insert)),
      { code: "Limit", limit: "chunk", maximum: 4_096 },
    ],
    ["with an unknown op", request({ ...insert, op: "drop" }), { code: "Invalid" }],
    ["with a field it does not know", request({ ...insert, at: 1 }), { code: "Invalid" }],
    [
      "with two kinds of expectation at once",
      request({ op: "delete", table: "items", at: { id: "x" }, expect: { x: { is: [], sha256: "" } } }),
      { code: "Invalid" },
    ],
    [
      "of an unknown index",
      request({ op: "upsert", table: "items", at: { index: "by_nope", key: [[1]] }, doc: {} }),
      { code: "UnknownIndex" },
    ],
    ...[
      { op: "upsert", at: { index: "by_owner", fields: ["owner"], key: [[1]] }, doc: {} },
      { op: "patch", at: { index: "by_owner", fields: ["owner"], key: [[1]] }, set: {} },
      { op: "replace", at: { index: "by_owner", fields: ["owner"], key: [[1]] }, doc: {} },
      { op: "delete", at: { index: "by_owner", fields: ["owner"], key: [[1]] }, missing: "skip" },
      { op: "insert", doc: {}, unique: [{ index: "by_owner", fields: ["owner"], key: [[1]] }] },
      { op: "patch", at: { id: "x" }, set: {}, unique: [{ index: "by_owner", fields: ["owner"], key: [[1]] }] },
      { op: "deleteRange", index: "by_owner", fields: ["owner"] },
    ].map((write): [string, Record<string, unknown>, Record<string, unknown>] => [
      `when ${write.op} takes an index to have other fields`,
      request({ ...write, table: "items" }),
      { code: "OtherIndex", table: "items", index: "by_owner", assumed: ["owner"], deployed: ["owner", "rank"] },
    ]),
    [
      "with a key that is no key",
      request({ op: "upsert", table: "items", at: { ...at(1), key: [] }, doc: {} }),
      { code: "BadRange" },
    ],
    ["with an own _id", request({ ...insert, doc: { _id: "x" } }), { code: "BadDocument", write: 0, table: "items" }],
    [
      "with a document over 1 MiB",
      request({ ...insert, doc: { text: "x".repeat(1 << 20) } }),
      { code: "Limit", limit: "documentBytes", maximum: 1 << 20, table: "items" },
    ],
    ["nested too deep", request({ ...insert, doc: { in: nested(16) } }), { code: "BadDocument" }],
    ["with an array over 8,192", request({ ...insert, doc: { list: list(8_193, 0) } }), { code: "BadDocument" }],
    [
      "over 1,024 fields",
      request({ ...insert, doc: Object.fromEntries(list(1_025, 0).map((_, n) => [`f${n}`, n])) }),
      { code: "BadDocument" },
    ],
    [
      "when the schema refuses a document",
      request({ op: "insert", table: "tasks", doc: { text: "t", done: "secret" } }),
      { code: "BadDocument", write: 0, table: "tasks" },
    ],
  ])("%s", async (_name, commit, expected) => {
    const here = deployment();
    const refused = await refusal(here.mutate(commit));
    expect(refused).toMatchObject(expected);
    expect(JSON.stringify(refused)).not.toContain("secret");
    expect(await here.all("items")).toEqual([]);
  });

  it("as Limit before Convex would end it for its index ranges", async () => {
    const here = deployment();
    const writes = list<Write>(4_096, { op: "delete", table: "items", at: at(1), missing: "skip" });
    expect(await refusal(here.commit(...writes))).toMatchObject({
      code: "Limit",
      limit: "indexRanges",
      maximum: 4_096,
    });
  });

  it("but a document just within the limits is stored", async () => {
    const here = deployment();
    await here.commit(insert, { ...insert, doc: { in: nested(15) } }, { ...insert, doc: { list: list(8_192, 0) } });
    expect(await here.all("items")).toHaveLength(3);
  });
});

describe("a commit of 15,999 writes", () => {
  it("fits", async () => {
    const here = deployment();
    const chunk = (length: number) => Array.from({ length }, () => ({ op: "insert", table: "items", doc: {} }));
    const writes = [chunk(4_096), chunk(4_096), chunk(4_096), chunk(3_711)];
    const { results } = await here.mutate({ version: 4, commitId: "new", writes });
    expect(results.map((applied: unknown[]) => applied.length)).toEqual([4_096, 4_096, 4_096, 3_711]);
    expect((await here.all("convexorm_commits")).map((entry) => entry["commitId"])).toEqual(["new"]);
  });
});

describe("a document the schema refuses", () => {
  it.each<[string, Value, RegExp]>([
    ["a wrong type", { text: 5 }, /field "text" is float64, not string/],
    ["a missing field", { done: true }, /field "text" is missing/],
    ["an unknown field", { text: "t", secret: 1 }, /the document has a field that is not in the schema/],
    ["a wrong type in an array", { text: "t", tags: ["a", null] }, /field "tags\[\]" is null, not string/],
    ["no member of a union", { text: "t", size: "secret" }, /field "size" is string and fits none of literal, float64/],
    ["a wrong type in an object", { text: "t", by: { name: 1n } }, /field "by.name" is int64, not string/],
    ["an id of another table", { text: "t", item: "10000;tasks" }, /field "item" is no id of table "items"/],
  ])("is told apart by names and types, never contents: %s", async (_name, doc, words) => {
    const refused = await refusal(
      deployment().commit({ op: "insert", table: "tasks", doc: doc as Record<string, Value> }),
    );
    expect(refused).toMatchObject({ code: "BadDocument", message: expect.stringMatching(words) });
    expect(JSON.stringify(refused)).not.toContain("secret");
  });

  it("may be a patched one", async () => {
    const here = deployment();
    await here.insert("tasks", { text: "t" });
    const key = { index: "by_text", key: [is("t")] };
    const patch: Write = { op: "patch", table: "tasks", at: key, set: { done: true }, unset: ["text"] };
    expect(await refusal(here.commit(patch))).toMatchObject({
      code: "BadDocument",
      message: expect.stringContaining('"text" is missing'),
    });
  });
});

describe("search", () => {
  const vector = (...numbers: number[]) => Float64Array.from(numbers).buffer;
  const request = { table: "points", index: "by_at", field: "at", dimensions: 2, vector: vector(1, 0), limit: 2 };

  it("answers the nearest documents, best first", async () => {
    const here = deployment();
    await here.insert(
      "points",
      { name: "up", at: [0, 1] },
      { name: "near", at: [2, 0.1] },
      { name: "back", at: [-1, 0] },
    );
    const found = await here.search(request);
    expect(found.hits.map(([score, doc]: [number, { name: string }]) => [score > 0.9, doc.name])).toEqual([
      [true, "near"],
      [false, "up"],
    ]);
    const filter = [
      { field: "name", value: is("up") },
      { field: "name", value: is("back") },
    ];
    const some = await here.search({ ...request, filter });
    expect(some.hits.map(([, doc]: [number, { name: string }]) => doc.name)).toEqual(["up", "back"]);
  });

  it("scores what has no direction 0, whatever the query's length", async () => {
    const here = deployment();
    await here.insert("points", { name: "none", at: [0, 0] }, { name: "back", at: [-1, 0] }, { name: "long", at: [1e38, 0] });
    for (const query of [vector(1e300, 0), vector(1e-300, 0)]) {
      const { hits } = await here.search({ ...request, vector: query, limit: 3 });
      expect(hits.map(([score, doc]: [number, { name: string }]) => [score, doc.name])).toEqual([
        [1, "long"],
        [0, "none"],
        [-1, "back"],
      ]);
    }
    const { hits } = await here.search({ ...request, vector: vector(0, 0), limit: 3 });
    expect(hits.map(([score]: [number]) => score)).toEqual([0, 0, 0]);
  });

  it.each([
    [1, 1e39],
    [1, -Infinity],
    [NaN, 1],
    [1e-39, -1e-300],
  ])("is spared vectors that no vector index can hold: %f and %f", async (...at) => {
    const here = deployment();
    const refused = await refusal(here.insert("points", { name: "x", at }));
    expect(refused).toMatchObject({ code: "BadDocument", table: "points" });
  });

  it("finds small numbers beside a greater one, and the least that an index can hold", async () => {
    const here = deployment();
    await here.insert("points", { name: "beside", at: [1, 1e-300] }, { name: "least", at: [2 ** -126, 2 ** -126] });
    const { hits } = await here.search(request);
    expect(hits.map(([, doc]: [number, { name: string }]) => doc.name)).toEqual(["beside", "least"]);
  });

  it.each<[string, Record<string, unknown>, string[]]>([
    ["another field", { field: "name" }, ["name", "2 dimensions"]],
    ["other dimensions", { dimensions: 3, vector: vector(1, 0, 0) }, ["at", "3 dimensions"]],
    ["other filter fields", { filter: [{ field: "size", value: [] }] }, ["at", "2 dimensions", "filter size"]],
  ])("refuses an index that it takes to have %s", async (_name, more, assumed) => {
    expect(await refusal(deployment().search({ ...request, ...more }))).toMatchObject({
      code: "OtherIndex",
      table: "points",
      index: "by_at",
      assumed,
      deployed: ["at", "2 dimensions", "filter name"],
    });
  });

  it.each<[string, Record<string, unknown>, string]>([
    ["an unknown table", { table: "nope" }, "UnknownTable"],
    ["an unknown index", { index: "by_nope" }, "UnknownIndex"],
    ["no results", { limit: 0 }, "Invalid"],
    ["more than 256 results", { limit: 257 }, "Invalid"],
    ["half a number", { vector: new ArrayBuffer(12) }, "Invalid"],
    ["over 64 filters", { filter: Array.from({ length: 65 }, () => ({ field: "name", value: [] })) }, "Limit"],
  ])("refuses %s", async (_name, more, code) => {
    expect(await refusal(deployment().search({ ...request, ...more }))).toMatchObject({ code });
  });
});

describe("the tables of Convex's own", () => {
  it.each<Write>([
    { op: "insert", table: "_storage", doc: { size: 1 } },
    { op: "delete", table: "_scheduled_functions", at: { id: "x" }, missing: "skip" },
    { op: "deleteRange", table: "_storage", index: "by_creation_time" },
  ])("are not written: %j", async (write) => {
    expect(await refusal(deployment().commit(write))).toMatchObject({ code: "BadDocument", write: 0 });
  });
});
