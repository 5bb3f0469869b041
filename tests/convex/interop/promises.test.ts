/** What the functions promise whichever client calls them: access, atomicity, shared rows, limits and costs. */
import { ConvexStore } from "@mastra/convex";
import type { JSONValue } from "convex/values";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Functions } from "../../../scripts/deployment/functions";
import { deploy, type Deployment } from "./deployment";

let here: Deployment;
let stores: { [D in "memory" | "workflows" | "scores"]: NonNullable<ConvexStore["stores"][D]> };

beforeAll(async () => {
  here = await deploy();
  stores = new ConvexStore({ id: "npm", ...here.options }).stores as unknown as typeof stores;
});

afterAll(() => here.stop());

const NOW = "2026-01-01T00:00:00.000Z";
const upTo = (end: number) => Array.from({ length: end }, (_, n) => n);
const insert = (table: string, doc: Record<string, never>) => ({ op: "insert" as const, table, doc });
const threadRow = (id: string, more: Record<string, unknown> = {}) => ({
  id,
  resourceId: "user",
  title: "T",
  createdAt: NOW,
  updatedAt: NOW,
  ...more,
});

describe("access", () => {
  it("takes the key: every function is internal", async () => {
    const { modules } = await Functions.load("convex");
    const found = [...modules].flatMap(([path, module]) =>
      Object.entries(module)
        .filter(
          ([, each]) => typeof each === "function" && ("isQuery" in each || "isMutation" in each || "isAction" in each),
        )
        .map(([name, each]) => ({ path: `${path}:${name}`, isInternal: (each as { isInternal?: true }).isInternal })),
    );
    expect(found.map(({ path }) => path).sort()).toEqual([
      "mastra/cache:handle",
      "mastra/nativeVector:query",
      "mastra/nativeVector:read",
      "mastra/nativeVector:write",
      "mastra/storage:handle",
      "orm:commit",
      "orm:describe",
      "orm:file",
      "orm:read",
      "orm:search",
      "orm:store",
      "orm:sweep",
    ]);
    expect(found.filter(({ isInternal }) => !isInternal)).toEqual([]);
  });

  it("without the key reads, writes and learns nothing", async () => {
    await here.handle({ op: "insert", tableName: "mastra_threads", record: threadRow("secret") as never });
    const config = { tableName: "native_vectors", vectorIndexName: "by_embedding" };
    const requests: [string, string, JSONValue][] = [
      ["mutation", "mastra/storage:handle", { op: "load", tableName: "mastra_threads", keys: { id: "secret" } }],
      ["mutation", "mastra/storage:handle", { op: "clearTable", tableName: "mastra_threads" }],
      ["mutation", "mastra/cache:handle", { op: "get", key: "k" }],
      ["action", "mastra/nativeVector:query", { config, vector: [1, 0, 0] }],
      ["query", "mastra/nativeVector:read", { op: "describe", config }],
      ["mutation", "mastra/nativeVector:write", { op: "deleteByIds", config, ids: ["a"] }],
    ];
    for (const [own, path, args] of requests) {
      for (const kind of ["query", "mutation", "action"]) {
        const answer = await here.call(kind, path, args, null);
        expect(answer).toMatchObject({ status: "error" });
        expect(answer.errorMessage).toContain(`Could not find public function for '${path}'`);
        expect(answer).not.toHaveProperty("value");
      }
      expect(await here.call(own, path, args)).toMatchObject({ status: "success" });
    }
  });

  it("with another key is refused", async () => {
    const stranger = new ConvexStore({ id: "x", deploymentUrl: here.url, adminAuthToken: "guess" });
    await expect(stranger.stores.memory!.getThreadById({ threadId: "secret" })).rejects.toThrow("403");
  });
});

describe("a request is all or nothing", () => {
  it("when one record of a batch is refused", async () => {
    const records = [threadRow("n1"), threadRow("n2"), { ...threadRow("n3"), updatedAt: 5 }];
    expect(await here.handle({ op: "batchInsert", tableName: "mastra_threads", records } as never)).toEqual({
      ok: false,
      code: "BadDocument",
      error: 'A record of table "mastra_threads" cannot be stored: field "updatedAt" is float64, not string.',
      details: { table: "mastra_threads" },
    });
    const ids = ["n1", "n2", "n3"];
    expect(await here.handle({ op: "loadMany", tableName: "mastra_threads", ids })).toMatchObject({ result: [] });
  });

  it("when it is too much for one mutation, after it has begun", async () => {
    const row = (n: number) => ({ table: "many", primaryKey: `${n}`, record: { id: `${n}` } });
    await here.write(...upTo(2_100).map((n) => insert("mastra_documents", row(n) as never)));
    const ids = upTo(2_100).map(String);
    const answer = await here.call("mutation", "mastra/storage:handle", { op: "deleteMany", tableName: "many", ids });
    expect(answer).toMatchObject({ status: "error", errorData: { code: "Limit", limit: "indexRanges" } });
    expect(await here.documents("mastra_documents")).toHaveLength(2_100);
    for (let more = true; more;)
      more = (await here.handle({ op: "clearTable", tableName: "many" }))["hasMore"] === true;
    expect(await here.documents("mastra_documents")).toEqual([]);
  }, 60_000);
});

describe("rows are shared", () => {
  const schema = { $schema: "x", 日本語: [1], deep: upTo(40).reduce<unknown>((inner) => [inner], 1) };

  it("metadata that another client stored as text is read as the object it is, and merged into", async () => {
    const metadata = JSON.stringify(schema);
    await here.write(insert("mastra_threads", threadRow("text", { metadata }) as never));
    expect((await stores.memory.getThreadById({ threadId: "text" }))!.metadata).toEqual(schema);
    const updated = await stores.memory.updateThread({ id: "text", title: "", metadata: { b: 2 } });
    expect(updated.metadata).toEqual({ ...schema, b: 2 });
    const resource = { id: "text", metadata, createdAt: NOW, updatedAt: NOW };
    await here.write(insert("mastra_resources", resource as never));
    expect(await stores.memory.updateResource({ resourceId: "text", metadata: { c: 3 } })).toMatchObject({
      metadata: { ...schema, c: 3 },
    });
  });

  it("metadata nested deeper than a document may be goes in as text and comes out as it was", async () => {
    const metadata = { deep: schema.deep };
    await stores.memory.saveThread({
      thread: { ...threadRow("deep"), metadata, createdAt: new Date(NOW), updatedAt: new Date(NOW) },
    });
    expect((await stores.memory.getThreadById({ threadId: "deep" }))!.metadata).toEqual(metadata);
    const [row] = await here.documents("mastra_threads", { index: "by_record_id", eq: [["deep"]] });
    expect(row!["metadata"]).toBe(JSON.stringify(metadata));
  });

  it("marked JSON text of a score is read as what it stands for, other text as itself", async () => {
    const row = { id: "s", scorerId: "q", createdAt: NOW, updatedAt: NOW };
    const payloads = { input: '\t\n\t {"a":[1]}', output: '{"a":[1]}', scorer: '\t\n\t {"$schema":"x"}' };
    await here.write(insert("mastra_scorers", { ...row, ...payloads } as never));
    expect(await stores.scores.getScoreById({ id: "s" })).toMatchObject({
      input: { a: [1] },
      output: '{"a":[1]}',
      // Convex lets no function return this key, so the npm client gets the text.
      scorer: '{"$schema":"x"}',
    });
  });

  it("a snapshot that another client stored is merged into, and its status kept beside it", async () => {
    const row = { id: "w-1", workflow_name: "w", run_id: "1", createdAt: NOW, updatedAt: NOW };
    const snapshot = { status: "running", context: { a: 1 } };
    await here.write(insert("mastra_workflow_snapshots", { ...row, snapshot } as never));
    await stores.workflows.updateWorkflowState({ workflowName: "w", runId: "1", opts: { status: "success" } });
    const [stored] = await here.documents("mastra_workflow_snapshots", {
      index: "by_workflow_status_created",
      eq: [["w"], ["success"]],
    });
    expect(JSON.parse(String(stored!["snapshot"]))).toEqual({ ...snapshot, status: "success" });
  });
});

describe("arguments that Convex refuses", () => {
  it.each([["$schema"], ["日本語"]])("never reach a function: %s", async (key) => {
    const dates = { createdAt: new Date(NOW), updatedAt: new Date(NOW) };
    const thread = { ...threadRow("refused"), ...dates, metadata: { [key]: 1 } };
    await expect(stores.memory.saveThread({ thread })).rejects.toThrow("Invalid arguments");
    expect(await stores.memory.getThreadById({ threadId: "refused" })).toBeNull();
  });
});

describe("any other table", () => {
  const tableName = "mastra_of_the_future";

  it("keeps its records among the documents, by id", async () => {
    const records = [
      { id: "1", kind: "x" },
      { id: "2", kind: null },
      { id: "1", kind: "y" },
    ];
    expect(await here.handle({ op: "batchInsert", tableName, records })).toEqual({ ok: true });
    expect(await here.handle({ op: "load", tableName, keys: { id: "1" } })).toMatchObject({ result: { kind: "y" } });
    expect(await here.handle({ op: "load", tableName, keys: { kind: "y" } })).toMatchObject({ result: { id: "1" } });
    const filters = [{ field: "kind", value: null }];
    expect(await here.handle({ op: "queryTable", tableName, filters })).toEqual({ ok: true, result: [records[1]] });
    const patch = { op: "patch", tableName, id: "2", record: { id: "9", more: [1] } };
    expect(await here.handle(patch)).toEqual({ ok: true, result: true });
    expect(await here.handle({ ...patch, id: "9" })).toEqual({ ok: true, result: false });
    expect(await here.documents("mastra_documents")).toMatchObject([
      { table: tableName, primaryKey: "1", record: { id: "1", kind: "y" } },
      { table: tableName, primaryKey: "2", record: { id: "2", kind: null, more: [1] } },
    ]);
    await here.handle({ op: "deleteMany", tableName, ids: ["1", "3"] });
    expect(await here.handle({ op: "queryTable", tableName })).toMatchObject({ result: [{ id: "2" }] });
    expect(await here.handle({ op: "queryTable", tableName: "another" })).toMatchObject({ result: [] });
  });

  it.each<[string, Record<string, JSONValue>, string]>([
    ["a record without an id", { op: "insert", tableName, record: { a: 1 } }, "Invalid"],
    ["an operation that is not", { op: "explode", tableName }, "Unsupported"],
    ["an operation of another table", { op: "updateThread", tableName, id: "1", metadata: {} }, "Unsupported"],
    ["an operation named like an object's own", { op: "constructor", tableName }, "Unsupported"],
    ["no table", { op: "load", keys: { id: "1" } }, "Invalid"],
    ["a page of none", { op: "queryTable", tableName, pageSize: 0 }, "Invalid"],
    ["a page of fewer than none", { op: "queryTable", tableName, pageSize: -1 }, "Invalid"],
    ["a limit that is not whole", { op: "queryTable", tableName, limit: 1.5 }, "Invalid"],
    ["a cursor without pages", { op: "queryTable", tableName, cursor: "[]" }, "Invalid"],
    ["a cursor of another kind", { op: "queryTable", tableName, cursor: "nonsense", pageSize: 1 }, "Invalid"],
    [
      "a field that is not in the schema",
      { op: "insert", tableName: "mastra_resources", record: { id: "1", x: 1 } },
      "BadDocument",
    ],
  ])("refuses %s", async (_name, request, code) => {
    expect(await here.handle(request)).toMatchObject({ ok: false, code });
  });
});

describe("large runs", () => {
  const LARGE = "x".repeat(200_000);
  const tableName = "mastra_workflow_snapshot";

  beforeAll(async () => {
    await here.handle({ op: "clearTable", tableName });
    for (const n of upTo(90)) {
      await stores.workflows.persistWorkflowSnapshot({
        workflowName: n < 60 ? "most" : "few",
        runId: `${n}`,
        snapshot: { status: n % 3 === 0 ? "failed" : "success", context: { LARGE } } as never,
      });
    }
  }, 60_000);

  it("are listed as far as one answer goes: those of one workflow", async () => {
    expect((await stores.workflows.listWorkflowRuns({ workflowName: "most" })).total).toBe(60);
    expect((await stores.workflows.listWorkflowRuns({ workflowName: "few", status: "failed" })).total).toBe(10);
  });

  it("beyond that are refused with their size, not cut short", async () => {
    await expect(stores.workflows.listWorkflowRuns()).rejects.toMatchObject({
      code: "TooLarge",
      details: { table: "mastra_workflow_snapshots", maximumBytes: 16 << 20 },
    });
  });

  it("are all read by a client that asks for pages", async () => {
    const found: string[] = [];
    for (let cursor: JSONValue | undefined = null; cursor !== undefined;) {
      const answer = await here.handle({ op: "queryTable", tableName, pageSize: 1_000, cursor });
      found.push(...(answer["result"] as { run_id: string }[]).map(({ run_id }) => run_id));
      cursor = answer["hasMore"] ? answer["continuationCursor"]! : undefined;
    }
    expect(found).toEqual(upTo(90).map(String));
  });

  it("over the limit of a document are refused with the size and the limit, and change nothing", async () => {
    const context = { LARGE: LARGE.repeat(6) };
    const run = { workflowName: "few", runId: "89" };
    const persist = stores.workflows.persistWorkflowSnapshot({
      ...run,
      snapshot: { status: "failed", context } as never,
    });
    await expect(persist).rejects.toThrow(/it has 12\d{5} bytes, the maximum is 1048576/);
    const result = { status: "success", output: context, payload: {}, startedAt: 1, endedAt: 2 } as const;
    const merge = stores.workflows.updateWorkflowResults({ ...run, stepId: "s", result, requestContext: {} });
    await expect(merge).rejects.toMatchObject({ code: "BadDocument" });
    expect(await stores.workflows.loadWorkflowSnapshot(run)).toMatchObject({ status: "success", context: { LARGE } });
  });
});

describe("a request reads what it answers", () => {
  const messages = (threadId: string, count: number) =>
    upTo(count).map((n) =>
      insert("mastra_messages", {
        ...{ id: `${threadId}-${n}`, thread_id: threadId, resourceId: threadId, role: "user", type: "v2" },
        ...{ createdAt: NOW, content: "{}" },
      } as never),
    );

  it.each<[string, Record<string, JSONValue>, number]>([
    ["a record", { op: "load", tableName: "mastra_messages", keys: { id: "a-1" } }, 1],
    ["records by id", { op: "loadMany", tableName: "mastra_messages", ids: ["a-1", "b-1", "none"] }, 2],
    [
      "the messages of a thread",
      { op: "queryTable", tableName: "mastra_messages", filters: [{ field: "thread_id", value: "a" }] },
      10,
    ],
    [
      "some of them",
      { op: "queryTable", tableName: "mastra_messages", filters: [{ field: "thread_id", value: "b" }], limit: 3 },
      3,
    ],
    ["a page", { op: "queryTable", tableName: "mastra_messages", pageSize: 4 }, 5],
    [
      "a run",
      {
        op: "queryTable",
        tableName: "mastra_workflow_snapshot",
        indexHint: { index: "by_workflow_run", workflowName: "few", runId: "61" },
      },
      1,
    ],
  ])("%s", async (_name, request, documents) => {
    await here.handle({ op: "clearTable", tableName: "mastra_messages" });
    await here.write(...messages("a", 10), ...messages("b", 10));
    const cost = await here.cost(async () => expect(await here.handle(request)).toMatchObject({ ok: true }));
    expect(cost).toMatchObject({ calls: 1, documentsRead: documents, documentsWritten: 0 });
  });
});
