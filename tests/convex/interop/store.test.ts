/** The npm package's ConvexStore against these functions: every public method of every domain. */
import { ConvexStore } from "@mastra/convex";
import type { MastraDBMessage } from "@mastra/core/memory";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Coverage } from "./coverage";
import { deploy, type Deployment } from "./deployment";

const coverage = new Coverage();

let here: Deployment;
let store: ConvexStore;
let stores: {
  [D in "memory" | "workflows" | "scores" | "backgroundTasks" | "schedules" | "channels"]: NonNullable<
    ConvexStore["stores"][D]
  >;
};

beforeAll(async () => {
  here = await deploy();
  const npm = new ConvexStore({ id: "npm", ...here.options });
  store = coverage.watch("ConvexStore", npm);
  const domains = Object.entries(npm.stores).map(([name, domain]) => [
    name,
    coverage.watch(name, domain as unknown as object),
  ]);
  stores = Object.fromEntries(domains) as typeof stores;
});

afterAll(() => here.stop());

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const upTo = (end: number) => Array.from({ length: end }, (_, n) => n);

describe("the store", () => {
  it("initializes, gives its domains, and closes", async () => {
    await store.init();
    expect(await store.getStore("memory")).toBeDefined();
    expect(await store.prune()).toEqual([]);
    await store.close();
    for (const domain of Object.values(stores)) {
      await domain.init();
      expect(await domain.prune({})).toEqual([]);
    }
  });
});

describe("memory", () => {
  const thread = (id: string, more: Record<string, unknown> = {}) => ({
    id,
    resourceId: "user",
    title: `Thread ${id}`,
    metadata: { kind: "chat" },
    createdAt: at(0),
    updatedAt: at(0),
    ...more,
  });
  const message = (
    id: string,
    threadId: string,
    second: number,
    more: Partial<MastraDBMessage> = {},
  ): MastraDBMessage => ({
    id,
    threadId,
    resourceId: "user",
    role: "user",
    type: "v2",
    createdAt: at(second),
    content: { format: 2, parts: [{ type: "text", text: id }] },
    ...more,
  });
  const ids = ({ messages }: { messages: { id: string }[] }) => messages.map(({ id }) => id);

  it("saves threads whole and reads them back", async () => {
    const { memory } = stores;
    await memory.saveThread({ thread: thread("t1") });
    expect(await memory.getThreadById({ threadId: "t1" })).toMatchObject(thread("t1"));
    expect(await memory.getThreadById({ threadId: "t1", resourceId: "other" })).toBeNull();
    const { title: _title, ...untitled } = thread("t1", { metadata: { new: [1, null, { deep: true }] } });
    await memory.saveThread({ thread: untitled });
    const read = await memory.getThreadById({ threadId: "t1" });
    expect(read).toMatchObject(untitled);
    expect(read).not.toHaveProperty("title");
  });

  it("updates threads: an empty title counts, metadata merges", async () => {
    const { memory } = stores;
    await memory.saveThread({ thread: thread("t1") });
    const updated = await memory.updateThread({ id: "t1", title: "", metadata: { more: 1 } });
    expect(updated).toMatchObject({ title: "", metadata: { kind: "chat", more: 1 }, createdAt: at(0) });
    await memory.patchThread({ id: "t1", title: "Patched", metadata: {} });
    await memory.updateThreadMetadata({ id: "t1", update: ({ metadata }) => ({ ...metadata, seen: true }) });
    expect(await memory.getThreadById({ threadId: "t1" })).toMatchObject({
      title: "Patched",
      metadata: { kind: "chat", more: 1, seen: true },
    });
    await expect(memory.updateThread({ id: "none", title: "", metadata: {} })).rejects.toThrow("not found");
  });

  it("merges metadata of concurrent updates without losing one", async () => {
    const { memory } = stores;
    await memory.saveThread({ thread: thread("busy", { metadata: {} }) });
    await Promise.all(
      upTo(50).map((n) => memory.updateThread({ id: "busy", title: "busy", metadata: { [`k${n}`]: n } })),
    );
    const read = await memory.getThreadById({ threadId: "busy" });
    expect(read!.metadata).toEqual(Object.fromEntries(upTo(50).map((n) => [`k${n}`, n])));
  });

  it("lists threads by resource and metadata, in pages", async () => {
    const { memory } = stores;
    for (const n of upTo(5)) {
      const more = { resourceId: "lister", updatedAt: at(n), createdAt: at(n), metadata: { even: n % 2 === 0 } };
      await memory.saveThread({ thread: thread(`l${n}`, more) });
    }
    const page = await memory.listThreads({ filter: { resourceId: "lister" }, perPage: 2, page: 1 });
    expect(page.threads.map(({ id }) => id)).toEqual(["l2", "l1"]);
    expect(page).toMatchObject({ total: 5, hasMore: true });
    const even = await memory.listThreads({
      filter: { resourceId: "lister", metadata: { even: true } },
      perPage: false,
    });
    expect(even.threads.map(({ id }) => id)).toEqual(["l4", "l2", "l0"]);
  });

  it("saves messages whole, moves them, and touches their threads", async () => {
    const { memory } = stores;
    await memory.saveThread({ thread: thread("a") });
    await memory.saveThread({ thread: thread("b") });
    const before = upTo(5).map((n) => message(`m${n}`, "a", n));
    expect(ids(await memory.saveMessages({ messages: before }))).toEqual(["m0", "m1", "m2", "m3", "m4"]);
    expect((await memory.listMessages({ threadId: "a" })).messages).toEqual(before);
    expect((await memory.getThreadById({ threadId: "a" }))!.updatedAt.getTime()).toBeGreaterThan(at(0).getTime());

    await memory.saveMessages({ messages: [message("m4", "b", 9, { role: "assistant" })] });
    expect(ids(await memory.listMessages({ threadId: "a" }))).toEqual(["m0", "m1", "m2", "m3"]);
    expect((await memory.listMessages({ threadId: "b" })).messages).toEqual([
      message("m4", "b", 9, { role: "assistant" }),
    ]);
  });

  it("lists messages by page, date, inclusion, id and resource", async () => {
    const { memory } = stores;
    const page = await memory.listMessages({ threadId: "a", perPage: 2, page: 1 });
    expect(ids(page)).toEqual(["m2", "m3"]);
    expect(page).toMatchObject({ total: 4, hasMore: false });
    const late = await memory.listMessages({ threadId: "a", filter: { dateRange: { start: at(2) } } });
    expect(ids(late)).toEqual(["m2", "m3"]);
    const included = await memory.listMessages({
      threadId: "b",
      perPage: 0,
      include: [{ id: "m1", threadId: "a", withPreviousMessages: 1, withNextMessages: 1 }],
    });
    expect(ids(included)).toEqual(["m0", "m1", "m2"]);
    expect(ids(await memory.listMessagesById({ messageIds: ["m1", "nope", "m4"] }))).toEqual(["m1", "m4"]);
    expect(ids(await memory.listMessagesByResourceId({ resourceId: "user", perPage: 3 }))).toEqual(["m0", "m1", "m2"]);
  });

  it("updates messages: content and metadata merge, threads change", async () => {
    const { memory } = stores;
    // The declared type asks for whole contents, the method merges parts of them.
    const part = (content: object) => content as MastraDBMessage["content"];
    await memory.updateMessages({ messages: [{ id: "m0", content: part({ metadata: { a: 1 } }) }] });
    const more = part({ metadata: { b: 2 }, content: "text" });
    const [updated] = await memory.updateMessages({
      messages: [{ id: "m0", threadId: "b", content: more }, { id: "no" }],
    });
    expect(updated).toMatchObject({ id: "m0", threadId: "b", content: { format: 2, metadata: { a: 1, b: 2 } } });
    expect(ids(await memory.listMessages({ threadId: "b" }))).toEqual(["m0", "m4"]);
    expect(await here.documents("mastra_messages", { index: "by_record_id", eq: [["m0"]] })).toMatchObject([
      { thread_id: "b", createdAt: at(0).toISOString() },
    ]);
  });

  it("deletes messages and threads", async () => {
    const { memory } = stores;
    await memory.deleteMessages(["m1", "none"]);
    expect(ids(await memory.listMessages({ threadId: "a" }))).toEqual(["m2", "m3"]);
    await memory.deleteThread({ threadId: "a" });
    expect(await memory.getThreadById({ threadId: "a" })).toBeNull();
    expect(ids(await memory.listMessages({ threadId: "a" }))).toEqual([]);
    expect(ids(await memory.listMessages({ threadId: "b" }))).toEqual(["m0", "m4"]);
  });

  it("moves a thread with its messages to another resource", async () => {
    const { memory } = stores;
    const moved = await memory.updateThreadResourceId({ threadId: "b", resourceId: "new owner" });
    expect(moved.resourceId).toBe("new owner");
    const { messages } = await memory.listMessagesByResourceId({ resourceId: "new owner" });
    expect(messages.map(({ id }) => id)).toEqual(["m0", "m4"]);
  });

  it("has no cloning, in the npm package", async () => {
    await expect(stores.memory.cloneThread({ sourceThreadId: "b" })).rejects.toThrow("not implemented");
    await expect(stores.memory.copyThread({ sourceThreadId: "b" })).rejects.toThrow("not implemented");
  });

  it("keeps resources and their working memory", async () => {
    const { memory } = stores;
    const resource = { id: "r1", workingMemory: "# notes", metadata: { a: 1 }, createdAt: at(0), updatedAt: at(0) };
    await memory.saveResource({ resource });
    expect(await memory.getResourceById({ resourceId: "r1" })).toMatchObject(resource);
    await memory.updateResource({ resourceId: "r1", metadata: { b: 2 } });
    await memory.updateResource({ resourceId: "r1", workingMemory: "" });
    expect(await memory.getResourceById({ resourceId: "r1" })).toMatchObject({
      workingMemory: "",
      metadata: { a: 1, b: 2 },
      createdAt: at(0),
    });
    expect(await memory.updateResource({ resourceId: "r2", workingMemory: "w" })).toMatchObject({ metadata: {} });
    expect(await memory.getResourceById({ resourceId: "r2" })).toMatchObject({ id: "r2", workingMemory: "w" });
    expect(await memory.getResourceById({ resourceId: "none" })).toBeNull();
  });
});

describe("observational memory", () => {
  const began = async () =>
    await stores.memory.initializeObservationalMemory({
      threadId: "om",
      resourceId: "user",
      scope: "thread",
      config: { observation: { threshold: 100, model: "x" } },
      observedTimezone: "Europe/Berlin",
    });
  const latest = async () => (await stores.memory.getObservationalMemory("om", "user"))!;
  const buffer = async (id: string, n: number, cycleId = `cycle ${n}`) =>
    await stores.memory.updateBufferedObservations({
      id,
      chunk: {
        cycleId,
        observations: `observed ${n}`,
        tokenCount: 10,
        messageIds: [`m${n}`],
        messageTokens: 100,
        lastObservedAt: at(n),
        currentTask: `task ${n}`,
      },
      lastBufferedAtTime: at(n),
    });

  it("begins empty and is found whatever the resource", async () => {
    const record = await began();
    expect(record).toMatchObject({ generationCount: 0, activeObservations: "" });
    expect(await stores.memory.getObservationalMemory("om", "another")).toMatchObject({
      id: record.id,
      scope: "thread",
      config: { observation: { threshold: 100, model: "x" } },
      observedTimezone: "Europe/Berlin",
    });
    expect(await stores.memory.getObservationalMemory(null, "user")).toBeNull();
  });

  it("takes active observations, flags, tokens and configuration", async () => {
    const { memory } = stores;
    const { id } = await latest();
    await memory.setPendingMessageTokens(id, 700);
    await memory.setReflectingFlag(id, true);
    await memory.setObservingFlag(id, true);
    await memory.setBufferingObservationFlag(id, true, 55);
    await memory.setBufferingReflectionFlag(id, true);
    expect(await latest()).toMatchObject({
      pendingMessageTokens: 700,
      isReflecting: true,
      isObserving: true,
      isBufferingObservation: true,
      isBufferingReflection: true,
      lastBufferedAtTokens: 55,
    });
    const observed = { id, observations: "one\ntwo", tokenCount: 30, lastObservedAt: at(1), observedMessageIds: ["m"] };
    await memory.updateActiveObservations(observed);
    await memory.updateActiveObservations({ ...observed, tokenCount: 20 });
    await memory.updateObservationalMemoryConfig({ id, config: { observation: { model: "y" }, more: [1] } });
    expect(await latest()).toMatchObject({
      activeObservations: "one\ntwo",
      observationTokenCount: 20,
      totalTokensObserved: 50,
      pendingMessageTokens: 0,
      lastObservedAt: at(1),
      observedMessageIds: ["m"],
      config: { observation: { threshold: 100, model: "y" }, more: [1] },
    });
    await expect(memory.setObservingFlag("none", true)).rejects.toThrow("not found");
    await expect(memory.updateActiveObservations({ ...observed, id: "none" })).rejects.toThrow("not found");
  });

  it("buffers chunks, once a cycle, and activates them", async () => {
    const { memory } = stores;
    const { id } = await latest();
    for (const n of [1, 2, 3]) await buffer(id, n);
    await buffer(id, 3);
    await memory.setPendingMessageTokens(id, 1_000);
    const known = (await latest()).bufferedObservationChunks!;
    expect(known.map(({ cycleId }) => cycleId)).toEqual(["cycle 1", "cycle 2", "cycle 3"]);
    // Appended since the caller read: it must neither become active nor be lost.
    await buffer(id, 4);
    const result = await memory.swapBufferedToActive({
      id,
      activationRatio: 0.8,
      messageTokensThreshold: 1_000,
      currentPendingTokens: 400,
      bufferedChunks: known,
    });
    expect(result).toMatchObject({
      chunksActivated: 2,
      messageTokensActivated: 200,
      observationTokensActivated: 20,
      activatedCycleIds: ["cycle 1", "cycle 2"],
      activatedMessageIds: ["m1", "m2"],
      currentTask: "task 2",
    });
    const after = await latest();
    expect(after.activeObservations).toBe(
      `one\ntwo\n\n--- message boundary (${at(2).toISOString()}) ---\n\nobserved 1\n\nobserved 2`,
    );
    expect(after).toMatchObject({ observationTokenCount: 40, totalTokensObserved: 50, pendingMessageTokens: 800 });
    expect(after.bufferedObservationChunks!.map(({ cycleId }) => cycleId)).toEqual(["cycle 3", "cycle 4"]);
  });

  it("keeps every chunk of concurrent writers", async () => {
    const { id } = await latest();
    await Promise.all(upTo(20).map((n) => buffer(id, 100 + n)));
    expect((await latest()).bufferedObservationChunks).toHaveLength(22);
  });

  it("reflects, at once or buffered, in generations", async () => {
    const { memory } = stores;
    const first = await latest();
    const second = await memory.createReflectionGeneration({
      currentRecord: first,
      reflection: "line 1\nline 2",
      tokenCount: 5,
    });
    expect(second).toMatchObject({ generationCount: 1, originType: "reflection" });
    const { id } = await latest();
    expect(id).toBe(second.id);
    const reflection = { id, tokenCount: 3, inputTokenCount: 9, reflectedObservationLineCount: 1 };
    await memory.updateBufferedReflection({ ...reflection, reflection: "short" });
    await memory.updateBufferedReflection({ ...reflection, reflection: "shorter" });
    expect(await latest()).toMatchObject({ bufferedReflectionTokens: 6, bufferedReflectionInputTokens: 18 });
    const third = await memory.swapBufferedReflectionToActive({ currentRecord: await latest(), tokenCount: 4 });
    expect(third).toMatchObject({ generationCount: 2, activeObservations: "short\n\nshorter\n\nline 2" });
    await expect(
      memory.swapBufferedReflectionToActive({ currentRecord: await latest(), tokenCount: 4 }),
    ).rejects.toThrow("No buffered reflection");

    await memory.insertObservationalMemoryRecord({ ...third, id: "copied", generationCount: 7, createdAt: at(0) });
    const history = await memory.getObservationalMemoryHistory("om", "user");
    expect(history.map(({ generationCount }) => generationCount)).toEqual([7, 2, 1, 0]);
    const some = await memory.getObservationalMemoryHistory("om", "user", 2, { from: at(1), offset: 1 });
    expect(some.map(({ generationCount }) => generationCount)).toEqual([1, 0]);
  });

  it("is cleared for one thread", async () => {
    await stores.memory.clearObservationalMemory("om", "user");
    expect(await stores.memory.getObservationalMemoryHistory("om", "user")).toEqual([]);
  });
});

describe("workflows", () => {
  const snapshot = (status: string, more: Record<string, unknown> = {}) =>
    ({
      runId: "r",
      status,
      value: {},
      context: { input: { $schema: "https://json-schema.org", 日本語: [1] } },
      activePaths: [],
      activeStepsPath: {},
      suspendedPaths: {},
      resumeLabels: {},
      waitingPaths: {},
      serializedStepGraph: [],
      timestamp: 1,
      ...more,
    }) as never;
  const run = (workflowName: string, runId: string) => ({ workflowName, runId });

  it("persists a snapshot with any keys, and keeps when it began and whose it is", async () => {
    const { workflows } = stores;
    expect(workflows.supportsConcurrentUpdates()).toBe(true);
    const first = { ...run("w", "1"), resourceId: "user", createdAt: at(1), updatedAt: at(2) };
    await workflows.persistWorkflowSnapshot({ ...first, snapshot: snapshot("running") });
    await workflows.persistWorkflowSnapshot({ ...run("w", "1"), snapshot: snapshot("suspended") });
    expect(await workflows.loadWorkflowSnapshot(run("w", "1"))).toEqual(snapshot("suspended"));
    expect(await workflows.loadWorkflowSnapshot(run("w", "none"))).toBeNull();
    expect(await here.documents("mastra_workflow_snapshots")).toMatchObject([
      {
        id: "w-1",
        workflow_name: "w",
        run_id: "1",
        resourceId: "user",
        createdAt: at(1).toISOString(),
        status: "suspended",
      },
    ]);
  });

  it("merges results and state of one run under concurrent writers", async () => {
    const { workflows } = stores;
    await Promise.all(
      upTo(50).map((n) =>
        workflows.updateWorkflowResults({
          ...run("w", "1"),
          stepId: `step ${n}`,
          result: { status: "success", output: n, payload: {}, startedAt: 1, endedAt: 2 },
          requestContext: { [`key ${n}`]: n },
        }),
      ),
    );
    const state = await workflows.updateWorkflowState({ ...run("w", "1"), opts: { status: "success" } });
    expect(state).toMatchObject({ status: "success" });
    const merged = (await workflows.loadWorkflowSnapshot(run("w", "1")))!;
    expect(Object.keys(merged.context)).toHaveLength(51);
    expect(Object.keys(merged.requestContext!)).toHaveLength(50);
    const [row] = await here.documents("mastra_workflow_snapshots");
    expect(row).toMatchObject({ status: "success" });
  });

  it("merges the outputs of iterations by position", async () => {
    const { workflows } = stores;
    const update = async (output: unknown[]) =>
      await workflows.updateWorkflowResults({
        ...run("w", "1"),
        stepId: "each",
        result: { status: "success", output, payload: {}, startedAt: 1, endedAt: 2 } as never,
        requestContext: {},
      });
    const pending = { __mastra_pending__: true };
    await update([0, null, { status: "suspended", suspendPayload: {} }]);
    expect((await update([null, "", null, false]))["each"]).toMatchObject({
      output: [0, "", { status: "suspended" }, false],
    });
    expect((await update([pending, null, pending, pending]))["each"]).toMatchObject({ output: [0, "", null, false] });
  });

  it("guards state by the expected status, and knows no run that is not there", async () => {
    const { workflows } = stores;
    const opts = { status: "failed" as const, expectedStatus: "running" as const };
    await expect(workflows.updateWorkflowState({ ...run("w", "1"), opts })).rejects.toThrow("returned no snapshot");
    expect(await workflows.loadWorkflowSnapshot(run("w", "1"))).toMatchObject({ status: "success" });
    await workflows.updateWorkflowState({ ...run("w", "1"), opts: { ...opts, expectedStatus: ["success"] } });
    const failed = await workflows.loadWorkflowSnapshot(run("w", "1"));
    expect(failed).toMatchObject({ status: "failed" });
    expect(failed).not.toHaveProperty("expectedStatus");
    await expect(workflows.updateWorkflowState({ ...run("w", "none"), opts: { status: "failed" } })).rejects.toThrow();
    const result = { status: "success", output: 1, payload: {}, startedAt: 1, endedAt: 2 } as const;
    expect(
      await workflows.updateWorkflowResults({ ...run("w", "none"), stepId: "s", result, requestContext: {} }),
    ).toEqual({});
  });

  it("tells runs apart whose names run together, but not by what deleting them sends", async () => {
    const { workflows } = stores;
    await workflows.persistWorkflowSnapshot({ ...run("a", "b-c"), snapshot: snapshot("running", { runId: "b-c" }) });
    await workflows.persistWorkflowSnapshot({ ...run("a-b", "c"), snapshot: snapshot("failed", { runId: "c" }) });
    expect(await workflows.loadWorkflowSnapshot(run("a", "b-c"))).toMatchObject({ status: "running" });
    expect(await workflows.loadWorkflowSnapshot(run("a-b", "c"))).toMatchObject({ status: "failed" });
    await expect(workflows.deleteWorkflowRunById(run("a", "b-c"))).rejects.toMatchObject({ code: "Ambiguous" });
    expect(await workflows.loadWorkflowSnapshot(run("a-b", "c"))).not.toBeNull();
  });

  it("lists runs, finds one with and without its workflow, and deletes it", async () => {
    const { workflows } = stores;
    for (const n of upTo(5)) {
      const status = n % 2 === 0 ? "success" : "running";
      await workflows.persistWorkflowSnapshot({ ...run("list", `${n}`), createdAt: at(n), snapshot: snapshot(status) });
    }
    const page = await workflows.listWorkflowRuns({ workflowName: "list", perPage: 2, page: 0 });
    expect(page.runs.map(({ runId }) => runId)).toEqual(["4", "3"]);
    expect(page.total).toBe(5);
    const running = await workflows.listWorkflowRuns({ workflowName: "list", status: "running", fromDate: at(2) });
    expect(running.runs.map(({ runId }) => runId)).toEqual(["3"]);
    expect((await workflows.listWorkflowRuns()).total).toBe(8);
    expect(await workflows.getWorkflowRunById({ runId: "3" })).toMatchObject({
      workflowName: "list",
      createdAt: at(3),
    });
    expect(await workflows.getWorkflowRunById(run("list", "3"))).toMatchObject({ runId: "3" });
    await workflows.deleteWorkflowRunById(run("list", "3"));
    expect(await workflows.getWorkflowRunById({ runId: "3" })).toBeNull();
  });

  it("reads one document for a run without its workflow", async () => {
    const { documentsRead } = await here.cost(() => stores.workflows.getWorkflowRunById({ runId: "4" }));
    expect(documentsRead).toBe(1);
  });
});

describe("scores", () => {
  const score = (more: Record<string, unknown> = {}) =>
    ({
      scorerId: "quality",
      entityId: "agent",
      entityType: "AGENT",
      runId: "run",
      source: "TEST",
      score: 0.5,
      scorer: { id: "quality", name: "Quality" },
      entity: { id: "agent" },
      input: [{ role: "user", content: "?" }],
      output: { text: "!" },
      ...more,
    }) as never;
  const pagination = { page: 0, perPage: 2 };

  it("saves and gets a score, with a text that is JSON, and without nulls", async () => {
    const { scores } = stores;
    const saved = await scores.saveScore(score({ input: '{"a":1}', output: "null", reason: null }));
    const read = await scores.getScoreById({ id: saved.score.id });
    expect(read).toMatchObject({ input: '{"a":1}', output: "null", scorer: { name: "Quality" } });
    expect(read).not.toHaveProperty("reason");
    expect(await scores.getScoreById({ id: "none" })).toBeNull();
  });

  it("keeps payloads that are nested deeper than a document may be", async () => {
    const { scores } = stores;
    const deep = upTo(40).reduce<unknown>((inner, n) => ({ [`k${n}`]: inner }), "bottom");
    const saved = await scores.saveScore(score({ input: deep, metadata: { deep } }));
    expect(await scores.getScoreById({ id: saved.score.id })).toMatchObject({ input: deep, metadata: { deep } });
    const [row] = await here.documents("mastra_scorers", { index: "by_record_id", eq: [[saved.score.id]] });
    expect(row!["input"]).toBe(`\t\n\t ${JSON.stringify(deep)}`);
    expect(row!["metadata"]).toBe(JSON.stringify({ deep }));
  });

  it("lists scores by scorer, run and entity, newest first", async () => {
    const { scores } = stores;
    for (const n of upTo(3)) await scores.saveScore(score({ scorerId: "listed", runId: "r", entityId: "e", score: n }));
    for (const list of [
      await scores.listScoresByScorerId({ scorerId: "listed", pagination }),
      await scores.listScoresByRunId({ runId: "r", pagination }),
      await scores.listScoresByEntityId({ entityId: "e", entityType: "AGENT" as never, pagination }),
    ]) {
      expect(list.pagination).toMatchObject({ total: 3, hasMore: true });
      expect(list.scores).toHaveLength(2);
    }
    await expect(scores.listScoresBySpan({ traceId: "t", spanId: "s", pagination })).rejects.toThrow();
  });
});

describe("background tasks", () => {
  const task = (id: string, more: Record<string, unknown> = {}) => ({
    id,
    status: "pending" as const,
    toolName: "search",
    toolCallId: `call ${id}`,
    agentId: "agent",
    runId: "run",
    threadId: "thread",
    args: { $schema: "any", n: 1 },
    retryCount: 0,
    maxRetries: 2,
    timeoutMs: 1_000,
    createdAt: at(0),
    ...more,
  });

  it("creates, updates, counts, lists and deletes tasks", async () => {
    const tasks = stores.backgroundTasks;
    for (const n of upTo(4)) await tasks.createTask(task(`k${n}`, { createdAt: at(n) }));
    expect(await tasks.getTask("k0")).toMatchObject(task("k0"));
    await tasks.updateTask("k0", { status: "running", startedAt: at(9) });
    await tasks.updateTask("k1", { status: "running", result: { ok: true } });
    await tasks.updateTask("k1", { status: "completed", result: undefined } as never);
    expect(await tasks.getTask("k1")).toMatchObject({ status: "completed", result: undefined });
    expect(await tasks.getRunningCount()).toBe(1);
    expect(await tasks.getRunningCountByAgent("other")).toBe(0);
    const listed = await tasks.listTasks({ agentId: "agent", orderDirection: "desc", page: 0, perPage: 2 });
    expect([listed.tasks.map(({ id }) => id), listed.total]).toEqual([["k3", "k2"], 4]);
    await tasks.deleteTask("k2");
    await tasks.deleteTasks({ status: "running" });
    await tasks.deleteTasks({});
    expect((await tasks.listTasks({})).tasks.map(({ id }) => id)).toEqual(["k1", "k3"]);
    expect(await tasks.getTask("k0")).toBeNull();
  });
});

describe("schedules", () => {
  const schedule = (id: string, more: Record<string, unknown> = {}) => ({
    id,
    target: { type: "workflow" as const, workflowId: "w", inputData: { $ref: 1 } },
    cron: "* * * * *",
    status: "active" as const,
    nextFireAt: 1_000,
    createdAt: 1,
    updatedAt: 1,
    ...more,
  });

  it("creates schedules once, reads and lists them", async () => {
    const { schedules } = stores;
    await schedules.createSchedule(schedule("s1"));
    await schedules.createSchedule(schedule("s2", { nextFireAt: 500, ownerType: "agent", ownerId: "o", createdAt: 2 }));
    await expect(schedules.createSchedule(schedule("s1"))).rejects.toMatchObject({ code: "Exists" });
    expect(await schedules.getSchedule("s1")).toEqual(schedule("s1"));
    expect((await schedules.listSchedules()).map(({ id }) => id)).toEqual(["s1", "s2"]);
    expect((await schedules.listSchedules({ ownerId: "o" })).map(({ id }) => id)).toEqual(["s2"]);
    expect((await schedules.listSchedules({ ownerType: null })).map(({ id }) => id)).toEqual(["s1"]);
    expect((await schedules.listSchedules({ workflowId: "w", status: "paused" })).length).toBe(0);
  });

  it("counts a field that is not there as none", async () => {
    const row = { id: "bare", target: '{"type":"workflow","workflowId":"w"}', cron: "* * * * *", status: "paused" };
    const times = { next_fire_at: 0, created_at: 3, updated_at: 3 };
    await here.write({ op: "insert", table: "mastra_schedules", doc: { ...row, ...times } });
    expect((await stores.schedules.listSchedules({ ownerType: null })).map(({ id }) => id)).toEqual(["s1", "bare"]);
  });

  it("lists what is due and lets one claim of fifty win", async () => {
    const { schedules } = stores;
    expect((await schedules.listDueSchedules(1_000)).map(({ id }) => id)).toEqual(["s2", "s1"]);
    expect((await schedules.listDueSchedules(1_000, 1)).map(({ id }) => id)).toEqual(["s2"]);
    expect(await schedules.listDueSchedules(1_000, 0)).toEqual([]);
    const claims = await Promise.all(
      upTo(50).map((n) => schedules.updateScheduleNextFire("s1", 1_000, 2_000, 1_000, `${n}`)),
    );
    expect(claims.filter(Boolean)).toHaveLength(1);
    const claimed = await schedules.getSchedule("s1");
    expect(claimed).toMatchObject({ nextFireAt: 2_000, lastFireAt: 1_000, lastRunId: `${claims.indexOf(true)}` });
  });

  it("updates a schedule, and claims none that is paused", async () => {
    const { schedules } = stores;
    expect(await schedules.updateSchedule("s1", { status: "paused", metadata: { a: 1 } })).toMatchObject({
      status: "paused",
      metadata: { a: 1 },
    });
    expect(await schedules.updateScheduleNextFire("s1", 2_000, 3_000, 2_000, "r")).toBe(false);
    await expect(schedules.updateSchedule("none", { cron: "x" })).rejects.toMatchObject({ code: "NotFound" });
  });

  it("records and lists triggers, and deletes them with their schedule", async () => {
    const { schedules } = stores;
    for (const n of upTo(5)) {
      const times = { scheduledFireAt: n, actualFireAt: n };
      const trigger = { id: `t${n}`, scheduleId: "s1", runId: `r${n}`, outcome: "published" as const, ...times };
      await schedules.recordTrigger({ ...trigger, metadata: { n } });
    }
    const some = await schedules.listTriggers("s1", { fromActualFireAt: 1, toActualFireAt: 4, limit: 2 });
    expect(some.map(({ id }) => id)).toEqual(["t3", "t2"]);
    expect(some[0]).toMatchObject({ metadata: { n: 3 }, triggerKind: "schedule-fire" });
    await schedules.deleteSchedule("s1");
    expect(await schedules.getSchedule("s1")).toBeNull();
    expect(await schedules.listTriggers("s1")).toEqual([]);
  });
});

describe("channels", () => {
  const installation = (id: string, more: Record<string, unknown> = {}) => ({
    id,
    platform: "slack",
    agentId: "agent",
    status: "pending" as const,
    webhookId: `hook ${id}`,
    data: { $token: "x" },
    createdAt: at(0),
    updatedAt: at(0),
    ...more,
  });

  it("keeps installations, their first date, and finds them", async () => {
    const { channels } = stores;
    await channels.saveInstallation(installation("i1"));
    await channels.saveInstallation(installation("i2", { status: "active" }));
    await channels.saveInstallation(installation("i1", { error: "late", createdAt: at(9) }));
    expect(await channels.getInstallation("i1")).toMatchObject({
      createdAt: at(0),
      error: "late",
      data: { $token: "x" },
    });
    expect(await channels.getInstallationByAgent("slack", "agent")).toMatchObject({ id: "i2" });
    expect(await channels.getInstallationByWebhookId("hook i1")).toMatchObject({ id: "i1" });
    expect(await channels.listInstallations("slack")).toHaveLength(2);
    await channels.deleteInstallation("i1");
    expect(await channels.getInstallation("i1")).toBeNull();
  });

  it("keeps a platform's configuration", async () => {
    const { channels } = stores;
    await channels.saveConfig({ platform: "slack", data: { a: 1 }, updatedAt: at(1) });
    await channels.saveConfig({ platform: "slack", data: { b: 2 }, updatedAt: at(2) });
    expect(await channels.getConfig("slack")).toEqual({ platform: "slack", data: { b: 2 }, updatedAt: at(2) });
    await channels.deleteConfig("slack");
    expect(await channels.getConfig("slack")).toBeNull();
  });
});

describe("all domains", () => {
  it("can be emptied", async () => {
    for (const domain of Object.values(stores)) await domain.dangerouslyClearAll();
    expect((await stores.memory.listThreads({})).total).toBe(0);
    expect((await stores.workflows.listWorkflowRuns()).total).toBe(0);
    expect(await stores.schedules.listSchedules()).toEqual([]);
    expect(await here.documents("mastra_scorers")).toEqual([]);
  });

  it("had every public method called", () => {
    expect(coverage.missing).toEqual([]);
    console.log(`ConvexStore: ${coverage.count} methods of the npm package passed`);
  });
});
