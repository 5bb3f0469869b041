/** The npm package's ConvexServerCache against these functions: every public method. */
import { ConvexCacheClient, ConvexServerCache } from "@mastra/convex";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { Coverage } from "./coverage";
import { deploy, type Deployment } from "./deployment";

const coverage = new Coverage();

let here: Deployment;
let client: ConvexCacheClient;
let cache: ConvexServerCache;

beforeAll(async () => {
  here = await deploy();
  client = coverage.watch("ConvexCacheClient", new ConvexCacheClient(here.options));
  cache = coverage.watch("ConvexServerCache", new ConvexServerCache({ client: new ConvexCacheClient(here.options) }));
});

afterAll(() => here.stop());

const upTo = (end: number) => Array.from({ length: end }, (_, n) => n);

it("keeps values, each in place of what was there", async () => {
  expect(await cache.get("k")).toBeNull();
  for (const value of [{ a: [1, null, { b: "" }] }, 0, "", false, null]) {
    await cache.set("k", value);
    expect(await cache.get("k")).toEqual(value);
  }
  await cache.listPush("list", 1);
  await cache.set("list", "value");
  expect(await cache.get("list")).toBe("value");
  expect(await here.documents("mastra_cache_list_items")).toEqual([]);
});

it("keeps lists, whose ranges include both ends and count negatives from the end", async () => {
  for (const n of upTo(5)) await cache.listPush("l", { n });
  expect(await cache.listLength("l")).toBe(5);
  const numbers = async (...range: [number, number?]) =>
    (await cache.listFromTo("l", ...range)).map((each) => (each as { n: number }).n);
  expect(await numbers(1, 3)).toEqual([1, 2, 3]);
  expect(await numbers(3)).toEqual([3, 4]);
  expect(await numbers(-2)).toEqual([3, 4]);
  expect(await numbers(0, -2)).toEqual([0, 1, 2, 3]);
  expect([await numbers(4, 3), await numbers(9), await numbers(0, -9)]).toEqual([[], [], []]);
  expect(await cache.get("l")).toBeNull();
  expect(await cache.listLength("none")).toBe(0);
});

it("counts and appends without losing one of many at a time", async () => {
  const counts = await Promise.all(upTo(50).map(() => cache.increment("n")));
  expect(counts.sort((a, b) => a - b)).toEqual(upTo(50).map((n) => n + 1));
  const places = await Promise.all(upTo(20).map((n) => cache.listPushIndexed("indexed", "counter", { n })));
  expect(new Set(places).size).toBe(20);
  expect(await cache.listLength("indexed")).toBe(20);
});

it("refuses an operation on another kind of entry", async () => {
  await cache.set("text", "x");
  await expect(cache.increment("text")).rejects.toMatchObject({ code: "Conflict" });
  await expect(cache.listPush("text", 1)).rejects.toThrow("exists but is not an array");
  await expect(cache.listLength("text")).rejects.toThrow("exists but is not an array");
  expect(await cache.get("text")).toBe("x");
});

it("forgets entries whose time is over, but none without a time", async () => {
  const short = new ConvexServerCache({ ...here.options, keyPrefix: "short:", ttlMs: 1 });
  const endless = new ConvexServerCache({ ...here.options, keyPrefix: "endless:", ttlMs: 0 });
  await endless.set("k", 1);
  await short.set("k", 1);
  await short.set("kept", 1, 60_000);
  await short.listPush("l", 1);
  await short.increment("n");
  await short.set("last", 1);
  await vi.waitUntil(async () => (await short.get("last")) === null, 15_000);
  expect([await short.get("k"), await short.listLength("l"), await short.increment("n")]).toEqual([null, 0, 1]);
  expect([await short.get("kept"), await endless.get("k")]).toEqual([1, 1]);
});

it("deletes a key, and clears exactly its own prefix, however much there is", async () => {
  const prefix = "mastra:cache:";
  const longer = new ConvexServerCache({ ...here.options, keyPrefix: `${prefix}more:` });
  await longer.set("k", 1);
  const element = (index: number) => ({ key: `${prefix}long`, keyPrefix: prefix, index, value: "0" });
  const insert = (doc: Record<string, never>) => ({ op: "insert" as const, table: "mastra_cache_list_items", doc });
  await here.write(...upTo(2_500).map((index) => insert(element(index) as never)));
  const head = { key: `${prefix}long`, keyPrefix: prefix, kind: "list", counter: 2_500, expiresAt: null };
  await here.write({ op: "insert", table: "mastra_cache", doc: head });
  expect(await cache.listFromTo("long", 2_498)).toEqual([0, 0]);
  await cache.delete("long");
  expect(await cache.listLength("long")).toBe(0);
  await cache.clear();
  expect([await cache.get("k"), await cache.get("text"), await longer.get("k")]).toEqual([null, null, 1]);
  expect((await here.documents("mastra_cache", { index: "by_key_prefix", eq: [[prefix]] })).length).toBe(0);
}, 60_000);

it("writes and clears nothing of another prefix, though prefix and key spell the same", async () => {
  const [one, two] = ["t", "t1"].map((keyPrefix) => new ConvexServerCache({ ...here.options, keyPrefix }));
  await one!.set("1x", "one");
  await two!.set("x", "two");
  expect([await one!.increment("1n"), await two!.increment("n"), await one!.increment("1n")]).toEqual([1, 1, 2]);
  await one!.listPush("1l", "one");
  await two!.listPush("l", "two");
  const rows = async (table: string, prefix: string) =>
    (await here.documents(table, { index: "by_key_prefix", eq: [[prefix]] })).map((row) => row["value"] ?? row["counter"]);
  expect(await rows("mastra_cache", "t")).toEqual(['"one"', 2, 1]);
  expect(await rows("mastra_cache", "t1")).toEqual(['"two"', 1, 1]);
  await two!.set("l", "no list");
  await two!.clear();
  expect(await rows("mastra_cache", "t")).toEqual(['"one"', 2, 1]);
  expect(await one!.listFromTo("1l", 0)).toEqual(["one"]);
  expect([await one!.get("1x"), await rows("mastra_cache_list_items", "t1")]).toEqual(["one", []]);
});

it("answers the client that it is made of", async () => {
  await client.callCache({ op: "set", key: "raw", keyPrefix: "", value: 7, expiresAt: null });
  expect(await client.callCacheRaw({ op: "get", key: "raw" })).toMatchObject({ result: 7 });
  await expect(client.callCache({ op: "nothing" } as never)).rejects.toMatchObject({ code: "Unsupported" });
});

it("had every public method called", () => {
  expect(coverage.missing).toEqual([]);
  console.log(`ConvexServerCache: ${coverage.count} methods of the npm package passed`);
});
