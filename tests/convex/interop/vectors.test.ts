/** The npm package's vector stores against these functions: every public method. */
import { ConvexNativeVector, ConvexVector } from "@mastra/convex";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Coverage } from "./coverage";
import { deploy, KEY, type Deployment } from "./deployment";

const coverage = new Coverage();

let here: Deployment;
let vectors: ConvexVector;
let native: ConvexNativeVector;

const INDEXES = { docs: { tableName: "native_vectors", dimension: 3, filterFields: ["category"] } };

beforeAll(async () => {
  here = await deploy();
  vectors = coverage.watch("ConvexVector", new ConvexVector({ id: "v", ...here.options }));
  native = coverage.watch("ConvexNativeVector", new ConvexNativeVector({ id: "n", ...here.options, indexes: INDEXES }));
});

afterAll(() => here.stop());

const upTo = (end: number) => Array.from({ length: end }, (_, n) => n);
const idsOf = (found: { id: string }[]) => found.map(({ id }) => id);

describe("vectors", () => {
  const indexName = "docs";

  it("live in indexes that are created again with the same dimension only", async () => {
    await vectors.createIndex({ indexName, dimension: 2 });
    await vectors.createIndex({ indexName, dimension: 2 });
    await expect(vectors.createIndex({ indexName, dimension: 3 })).rejects.toMatchObject({
      code: "Conflict",
      details: { field: "dimension", stored: 2, given: 3 },
    });
    expect(await vectors.listIndexes()).toEqual(["docs"]);
    expect(await vectors.describeIndex({ indexName })).toEqual({ dimension: 2, count: 0, metric: "cosine" });
  });

  it("are stored whole, queried by likeness and filter, and merged by updates", async () => {
    const metadata = [{ kind: "x", n: 1 }, { kind: "y" }, { kind: "x", n: 3 }];
    await vectors.upsert({
      indexName,
      ids: ["a", "b", "c"],
      vectors: [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
      metadata,
    });
    expect(idsOf(await vectors.query({ indexName, queryVector: [1, 0.1], topK: 2 }))).toEqual(["a", "c"]);
    const filter = { kind: "x" } as never;
    const [best] = await vectors.query({ indexName, queryVector: [0, 1], filter, includeVector: true });
    expect(best).toMatchObject({ id: "c", vector: [1, 1], metadata: { kind: "x", n: 3 } });

    await vectors.updateVector({ indexName, id: "b", update: { metadata: { more: true } } });
    await vectors.updateVector({ indexName, filter: { n: 3 } as never, update: { vector: [5, 5] } });
    const found = await vectors.query({ indexName, queryVector: [0, 1], includeVector: true });
    expect(found.find(({ id }) => id === "b")).toMatchObject({ metadata: { kind: "y", more: true } });
    expect(found.find(({ id }) => id === "c")).toMatchObject({ vector: [5, 5] });

    await vectors.upsert({ indexName, ids: ["b"], vectors: [[0, 1]] });
    const [erased] = await vectors.query({ indexName, queryVector: [0, 1], topK: 1 });
    expect(erased).toMatchObject({ id: "b" });
    expect(erased!.metadata).toBeUndefined();
  });

  it("of another dimension are refused, all of a batch", async () => {
    const batch = {
      indexName,
      ids: ["ok", "bad"],
      vectors: [
        [1, 1],
        [1, 2, 3],
      ],
    };
    await expect(vectors.upsert(batch)).rejects.toMatchObject({ code: "Invalid" });
    expect(await vectors.describeIndex({ indexName })).toMatchObject({ count: 3 });
  });

  it("are read in pages of any size, through another index's rows", async () => {
    await vectors.createIndex({ indexName: "large", dimension: 1_500 });
    const one = (n: number) => upTo(1_500).map((at) => (at === n ? 1 : 0.5));
    for (const n of upTo(4)) {
      const ids = upTo(150).map((at) => `${n}-${at}`);
      await vectors.upsert({ indexName: "large", ids, vectors: upTo(150).map((at) => one(n * 150 + at)) });
    }
    expect(await vectors.describeIndex({ indexName: "large" })).toMatchObject({ count: 600 });
    const { calls } = await here.cost(() => vectors.describeIndex({ indexName: "large" }));
    expect(calls).toBe(1 + 3);
    expect(await vectors.describeIndex({ indexName })).toMatchObject({ count: 3 });
    await vectors.truncateIndex({ indexName: "large" });
    expect(await vectors.describeIndex({ indexName: "large" })).toMatchObject({ count: 0 });
  }, 60_000);

  it("keep metadata that no function can return, whatever the npm package makes of it", async () => {
    const metadata = JSON.stringify({ $schema: "x" });
    const row = { id: "other", indexName, embedding: [0.5, 0.5], metadata };
    await here.write({ op: "insert", table: "mastra_vectors", doc: row });
    await vectors.updateVector({ indexName, id: "other", update: { vector: [0.5, 0.25] } });
    const update = vectors.updateVector({ indexName, id: "other", update: { metadata: { more: 1 } } });
    await expect(update).rejects.toMatchObject({ code: "Unsupported" });
    const [stored] = await here.documents("mastra_vectors", { index: "by_index_id", eq: [[indexName], ["other"]] });
    expect(stored).toMatchObject({ embedding: [0.5, 0.25], metadata });
    await vectors.deleteVector({ indexName, id: "other" });
  });

  it("may live in an index named indexes, which no other index suffers from", async () => {
    const named = { indexName: "indexes" };
    await vectors.createIndex({ ...named, dimension: 2 });
    await vectors.upsert({ ...named, ids: ["v"], vectors: [[1, 0]], metadata: [{ a: 1 }] });
    await vectors.updateVector({ ...named, id: "v", update: { metadata: { b: 2 } } });
    expect(await vectors.query({ ...named, queryVector: [1, 0] })).toMatchObject([
      { id: "v", metadata: { a: 1, b: 2 } },
    ]);
    expect(await vectors.describeIndex(named)).toMatchObject({ dimension: 2, count: 1 });
    await vectors.deleteVector({ ...named, id: "v" });
    await vectors.deleteIndex(named);
    expect((await vectors.listIndexes()).sort()).toEqual(["docs", "large"]);
  });

  it("are deleted by id, by filter, and with their index", async () => {
    await vectors.deleteVector({ indexName, id: "a" });
    await vectors.deleteVectors({ indexName, filter: { n: 3 } as never });
    await vectors.deleteVectors({ indexName, ids: ["none"] });
    expect(await vectors.describeIndex({ indexName })).toMatchObject({ count: 1 });
    await vectors.deleteIndex({ indexName });
    await vectors.deleteIndex({ indexName: "large" });
    expect(await vectors.listIndexes()).toEqual([]);
    expect(await here.documents("mastra_vectors")).toEqual([]);
  });
});

describe("native vectors", () => {
  const indexName = "docs";

  it("live in indexes that the schema declares", async () => {
    await native.createIndex({ indexName, dimension: 3 });
    await expect(native.createIndex({ indexName, dimension: 4 })).rejects.toThrow("3 dimensions");
    expect(await native.listIndexes()).toEqual(["docs"]);
    await expect(native.deleteIndex({ indexName })).rejects.toThrow("schema");
  });

  it("are stored, searched and filtered", async () => {
    const metadata = [{ category: "x", n: 1 }, { category: "y" }, { n: 3 }];
    const batch = {
      ids: ["a", "b", "c"],
      vectors: [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
      ],
    };
    expect(await native.upsert({ indexName, ...batch, metadata })).toEqual(["a", "b", "c"]);
    const [best, ...others] = await native.query({ indexName, queryVector: [1, 0.1, 0], topK: 2 });
    expect(best).toMatchObject({ id: "a", metadata: { category: "x", n: 1 } });
    expect(idsOf(others)).toEqual(["b"]);
    const query = { indexName, queryVector: [1, 0.1, 0] };
    expect(idsOf(await native.query({ ...query, filter: { category: "y" } }))).toEqual(["b"]);
    const [first] = await native.query({ ...query, filter: { metadata: { category: "x" } }, includeVector: true });
    expect(first).toMatchObject({ id: "a", vector: [1, 0, 0] });
    // Convex refuses arguments with a key like this before any function sees them.
    const either = { $or: [{ category: "x" }, { category: "y" }] };
    await expect(native.query({ ...query, filter: either })).rejects.toThrow("$or");
    expect(await native.describeIndex({ indexName })).toEqual({ dimension: 3, count: 3, metric: "cosine" });
  });

  it("merge metadata by updates, and lose it by an upsert without", async () => {
    await native.updateVector({ indexName, id: "a", update: { vector: [0, 1, 1], metadata: { category: "z" } } });
    await native.updateVector({ indexName, id: "none", update: { vector: [1, 1, 1] } });
    const query = { indexName, queryVector: [0, 1, 1] };
    expect(await native.query({ ...query, filter: { category: "z" } })).toMatchObject([
      { id: "a", metadata: { category: "z", n: 1 } },
    ]);
    await native.upsert({ indexName, ids: ["a"], vectors: [[0, 1, 1]] });
    const [erased] = await native.query({ ...query, topK: 1 });
    expect(erased).toMatchObject({ id: "a" });
    expect(erased!.metadata).toBeUndefined();
    expect(await native.query({ ...query, filter: { category: "z" } })).toEqual([]);
  });

  it("of another dimension are refused, all of a batch", async () => {
    const batch = {
      indexName,
      ids: ["ok", "bad"],
      vectors: [
        [1, 1, 1],
        [1, 2],
      ],
    };
    await expect(native.upsert(batch)).rejects.toThrow("3 dimensions");
    await expect(native.query({ indexName, queryVector: [1, 2] })).rejects.toThrow("3 dimensions");
    expect(await native.describeIndex({ indexName })).toMatchObject({ count: 3 });
  });

  it("are read by their record ids", async () => {
    const config = { tableName: "native_vectors", vectorIndexName: "by_embedding" };
    const answer = await here.call(
      "query",
      "mastra/nativeVector:read",
      { op: "listByIds", config, ids: ["b", "no"] },
      KEY,
    );
    expect(answer.value).toMatchObject([{ id: "b", embedding: [0, 1, 0] }, null]);
  });

  it("are deleted by id", async () => {
    await native.deleteVector({ indexName, id: "a" });
    await native.deleteVectors({ indexName, ids: ["b", "none"] });
    expect(idsOf(await native.query({ indexName, queryVector: [1, 1, 1] }))).toEqual(["c"]);
  });
});

it("had every public method called", () => {
  expect(coverage.missing).toEqual([]);
  console.log(`ConvexVector and ConvexNativeVector: ${coverage.count} methods of the npm package passed`);
});
