/** Unique indexes: what the writes of a commit keep, and what a project's own mutations keep with `uniqueIn`. */
import { resolve } from "node:path";
import { convexTest } from "convex-test";
import { defineSchema, defineTable, makeFunctionReference } from "convex/server";
import { convexToJson, v, type GenericId, type Value } from "convex/values";
import { describe, expect, it } from "vitest";
import type { Unique, Write } from "../../convex/orm/protocol";
import { uniqueIn } from "../../convex/orm/unique";
import { Host } from "../../scripts/deployment/calls";
import { Functions } from "../../scripts/deployment/functions";
import schema from "./functions/schema";
import { cost, deployment, is, missing, refusal, type Deployment } from "./support";

const byRank: Unique = { index: "by_rank" };
const byOwner: Unique = { index: "by_owner" };
const insert = (doc: Record<string, Value>, ...unique: Unique[]): Write => ({ op: "insert", table: "items", doc, unique });
const exists = (write: number, ...fields: string[]) => ({ code: "Stale", reason: "exists", table: "items", write, fields });

/** Inserts items as if nothing were unique; their ids. */
async function ids(here: Deployment, ...docs: Record<string, Value>[]): Promise<[string, string]> {
  return (await here.insert("items", ...docs)).map((applied) => (applied as [string, null])[0]) as [string, string];
}

describe("a commit", () => {
  it("refuses a document whose key another one holds, and says in which fields", async () => {
    const here = deployment();
    await here.commit(insert({ owner: "o", rank: 1 }, byRank, byOwner));
    expect(await refusal(here.commit(insert({ owner: "p", rank: 1 }, byOwner, byRank)))).toMatchObject(exists(0, "rank"));
    await here.commit(insert({ owner: "o", rank: 2 }, byRank, byOwner));
    const move = {
      op: "patch",
      table: "items",
      at: { index: "by_rank", key: [is(2)] },
      set: { rank: 1 },
      unique: [byOwner],
    } satisfies Write;
    expect(await refusal(here.commit(move))).toMatchObject(exists(0, "owner", "rank"));
    const replace: Write = { op: "replace", table: "items", at: move.at, doc: { rank: 1 }, unique: [byRank] };
    expect(await refusal(here.commit(insert({ rank: 3 }), replace))).toMatchObject(exists(1, "rank"));
    expect(await here.all("items")).toHaveLength(2);
  });

  it("lets documents without any of the fields be, and takes a missing field for equal to a missing field", async () => {
    const here = deployment();
    await here.commit(insert({ x: 1 }, byRank, byOwner), insert({ x: 2 }, byRank, byOwner), insert({ owner: "o" }, byOwner));
    expect(await refusal(here.commit(insert({ owner: "o" }, byOwner)))).toMatchObject(exists(0, "owner", "rank"));
    await here.commit(insert({ owner: null }, byOwner), insert({ rank: null }, byRank));
    expect(await refusal(here.commit(insert({ rank: null }, byRank)))).toMatchObject(exists(0, "rank"));
  });

  it.each<[string, Value, Value]>([
    ["zeros of both signs", 0, -0],
    ["a float and an integer", 1, 1n],
    ["what is no number and infinity", NaN, Infinity],
    ["a text and its bytes", "a", new TextEncoder().encode("a").buffer],
    ["a text with a zero in it", "a\0", "a"],
    ["an array and its element", [1], 1],
  ])("tells %s apart, and knows each of them again", async (_name, one, other) => {
    const here = deployment();
    await here.commit(insert({ rank: one }, byRank), insert({ rank: other }, byRank));
    for (const rank of [one, other]) expect(await refusal(here.commit(insert({ rank }, byRank)))).toMatchObject(exists(0, "rank"));
  });

  it("asks for the end of it: values are swapped, given up and taken", async () => {
    const here = deployment();
    const [one, two] = await ids(here, { rank: 1 }, { rank: 2 });
    const move = (id: string, rank: Value): Write => ({ op: "patch", table: "items", at: { id }, set: { rank }, unique: [byRank] });
    await here.commit(move(one, 2), move(two, 1));
    await here.commit(insert({ rank: 1, new: true }, byRank), { op: "delete", table: "items", at: { id: two } });
    expect((await here.all("items")).map(({ rank }) => rank).sort()).toEqual([1, 2]);
    expect(await refusal(here.commit(insert({ rank: 3 }, byRank), insert({ rank: 3 }, byRank)))).toMatchObject(exists(1, "rank"));
    expect(await refusal(here.commit(move(one, 4), insert({ rank: 4 }, byRank), move(one, 4)))).toMatchObject(exists(1, "rank"));
  });

  it("goes by the document as it is stored, whatever a write leaves out or keeps", async () => {
    const here = deployment();
    await here.insert("items", { owner: "o", rank: 1, n: 1 }, { owner: "o", rank: 2, n: 2 }, { owner: "p", rank: 3, n: 3 });
    const at = { index: "by_rank", key: [is(3)] };
    const patch: Write = { op: "patch", table: "items", at, set: { owner: "o" }, unique: [byOwner] };
    await here.commit(patch);
    const upsert: Write = { op: "upsert", table: "items", at, doc: { owner: "o", rank: 2 }, keep: ["rank"], unique: [byOwner] };
    await here.commit(upsert, { ...upsert, keep: [], greatest: ["rank"] });
    expect(await refusal(here.commit({ ...upsert, keep: [] }))).toMatchObject(exists(0, "owner", "rank"));
    expect(await refusal(here.commit({ ...patch, unset: ["rank"] }, insert({ owner: "o" }, byOwner)))).toMatchObject(
      exists(1, "owner", "rank"),
    );
  });

  it("leaves documents alone that share a key already, unless they take it anew", async () => {
    const here = deployment();
    const [one] = await ids(here, { rank: 1 }, { rank: 1 });
    const at = { id: one };
    await here.commit({ op: "patch", table: "items", at, set: { rank: 1, x: 1 }, unique: [byRank] });
    await here.commit({ op: "replace", table: "items", at, doc: { rank: 2 }, unique: [byRank] });
    await here.commit(insert({ rank: 3 }, byRank), { op: "replace", table: "items", at, doc: { rank: 1, x: 1 }, unique: [] });
    expect(await refusal(here.commit(insert({ rank: 1 }, byRank)))).toMatchObject(exists(0, "rank"));
  });

  it("reads nothing for a key that is free, nor for one that does not change", async () => {
    const here = deployment();
    const [id] = await ids(here, { rank: 1 });
    expect(await cost(() => here.commit(insert({ rank: 2, owner: "o" }, byRank, byOwner)))).toEqual({ read: 0, written: 2 });
    const patch: Write = { op: "patch", table: "items", at: { id }, set: { x: 1 }, unique: [byRank, byOwner] };
    expect(await cost(() => here.commit(patch))).toEqual({ read: 2, written: 2 });
    expect(await cost(() => here.commit({ ...patch, set: { rank: 5 } } as Write))).toEqual({ read: 2, written: 2 });
  });

  it("answers what identifies the document that an upsert has replaced", async () => {
    const here = deployment();
    const upsert = (doc: Record<string, Value>): Write => {
      const at = { index: "by_rank", key: [is(1)] };
      return { op: "upsert", table: "items", at, doc: { rank: 1, ...doc }, identity: ["key", "absent"], unique: [byRank] };
    };
    const [created] = (await here.commit(upsert({ key: 5n }))) as [[string, null, boolean]];
    expect(created.slice(1)).toEqual([null, true]);
    const expected = [[created[0], expect.any(Number), false, { key: 5n }]];
    expect(await here.commitAs("replaces", upsert({ key: 6n, absent: 1 }))).toEqual(expected);
    expect(await here.commitAs("replaces", upsert({ key: 6n, absent: 1 }))).toEqual(expected); // from the ledger
    expect(await here.all("items")).toEqual([{ rank: 1, key: 5n, absent: 1 }]);
  });

  it.each<[string, Unique, Record<string, Value>]>([
    ["an index that is not there", { index: "by_nope" }, { code: "UnknownIndex" }],
    ["other fields", { index: "by_rank", fields: ["owner"] }, { code: "OtherIndex" }],
    ["a key that is too long", { index: "by_rank", key: [missing, missing, missing, missing] }, { code: "BadRange" }],
  ])("refuses to keep %s", async (_name, unique, expected) => {
    expect(await refusal(deployment().commit(insert({ rank: 1 }, unique)))).toMatchObject(expected);
  });
});

const folder = resolve("tests/convex/functions");
const put = makeFunctionReference<"mutation">("taking:put");

describe("uniqueIn", () => {
  const here = () => {
    const backend = convexTest({
      schema,
      modules: {
        "./taking.ts": () => import("./functions/taking"),
        "./_generated/api.js": () => Promise.resolve({}),
      },
    });
    return {
      put: (item: Record<string, Value>, id?: string) => backend.mutation(put, id === undefined ? { item } : { item, id }),
      count: () => backend.run(async ({ db }) => (await db.query("items").collect()).length),
    };
  };

  it("keeps a project's own mutations to the rule, and rolls back what breaks it", async () => {
    const { put, count } = here();
    const id = (await put({ owner: "o", rank: 1, meta: { kind: "k" } })) as string;
    await put({ owner: "o", rank: 2 });
    expect(await refusal(put({ owner: "o", rank: 2 }))).toEqual({
      code: "Taken",
      message: expect.any(String),
      table: "items",
      index: "by_owner",
      fields: ["owner", "rank"],
    });
    expect(await refusal(put({ meta: { kind: "k" } }))).toMatchObject({ index: "by_kind", fields: ["meta.kind"] });
    expect(await refusal(put({ owner: "o", rank: 2 }, id))).toMatchObject({ code: "Taken" });
    await put({ owner: "o", rank: 1, meta: { kind: "k" }, more: true }, id);
    expect(await count()).toBe(2);
  });

  it("lets documents without any of the fields be, and takes a missing field for equal to a missing field", async () => {
    const { put, count } = here();
    await put({});
    await put({ x: 1 });
    await put({ owner: "o" });
    expect(await refusal(put({ owner: "o" }))).toMatchObject({ code: "Taken" });
    expect(await count()).toBe(3);
  });

  it("lets one of many that take a key at the same time through, and those alone that take others", async () => {
    const host = new Host(await Functions.load(folder), { latency: 30, userTime: 10_000 });
    const take = async (text: string) => {
      const args = convexToJson({ text });
      return (await host.answer({ kind: "mutation", path: "taking:take", args, format: "json", isAdmin: true })).status;
    };
    const apart = await Promise.all(Array.from({ length: 16 }, (_, n) => take(`text ${n}`)));
    expect([new Set(apart), host.metrics.counts.conflicts]).toEqual([new Set(["success"]), {}]);
    const together = await Promise.all(Array.from({ length: 16 }, () => take("one")));
    expect(together.filter((status) => status === "success")).toHaveLength(1);
  });

  it("is typed by the schema, and refuses what is no index of it", () => {
    const email = { email: v.string() };
    const people = defineSchema({
      people: defineTable(email).index("by_email", ["email"]),
      teams: defineTable(email).index("by_email", ["email"]),
      rooms: defineTable({}),
    });
    const keep = uniqueIn(people, { people: ["by_email"], teams: ["by_email"] });
    const types = (db: Parameters<typeof keep>[0], id: GenericId<"people">, room: GenericId<"rooms">) => {
      void keep(db, "people", id);
      // @ts-expect-error: an id of another table
      void keep(db, "teams", id);
      // @ts-expect-error: a table without a unique index
      void keep(db, "rooms", room);
    };
    expect(types).toBeTypeOf("function");
    // @ts-expect-error: no index of this name
    expect(() => uniqueIn(people, { people: ["by_name"] })).toThrow("by_name");
    // @ts-expect-error: no table of this name
    expect(() => uniqueIn(people, { persons: ["by_email"] })).toThrow("persons");
  });
});
