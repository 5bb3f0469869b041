/** What the functions keep apart for the npm client: memory of another owner or thread, generations, fires, times, contents. */
import { ConvexStore } from "@mastra/convex";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deploy, type Deployment } from "./deployment";

let here: Deployment;
let stores: { [D in "memory" | "workflows" | "schedules"]: NonNullable<ConvexStore["stores"][D]> };

beforeAll(async () => {
  here = await deploy();
  stores = new ConvexStore({ id: "npm", ...here.options }).stores as unknown as typeof stores;
});

afterAll(() => here.stop());

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const insert = (table: string, doc: Record<string, unknown>) => ({ op: "insert" as const, table, doc: doc as never });
const save = async (id: string, resourceId: string, updatedAt = at(0)) =>
  await stores.memory.saveThread({ thread: { id, resourceId, title: "T", createdAt: at(0), updatedAt } });
const begin = async (threadId: string, resourceId: string) =>
  await stores.memory.initializeObservationalMemory({ threadId, resourceId, scope: "thread", config: {} });
const get = async (threadId: string, resourceId = "ada") =>
  await stores.memory.getObservationalMemory(threadId, resourceId);
const note = async (id: string, observations: string) =>
  await stores.memory.updateActiveObservations({ id, observations, tokenCount: 1, lastObservedAt: at(1) });
const buffer = async (id: string, cycleId: string) =>
  await stores.memory.updateBufferedObservations({
    id,
    chunk: { cycleId, observations: cycleId, tokenCount: 1, messageIds: [], messageTokens: 1, lastObservedAt: at(1) },
    lastBufferedAtTime: at(2),
  });
const swap = { activationRatio: 1, messageTokensThreshold: 10, currentPendingTokens: 100 };

describe("what was observed in a thread", () => {
  it("ends with the thread", async () => {
    await save("gone", "ada");
    const record = await begin("gone", "ada");
    await note(record.id, "ada's secret");
    await stores.memory.deleteThread({ threadId: "gone" });
    await save("gone", "bob");
    expect(await get("gone", "bob")).toBeNull();
    const late = { currentRecord: record, reflection: "late", tokenCount: 1 };
    await expect(stores.memory.createReflectionGeneration(late)).rejects.toThrow("gone");
    expect(await stores.memory.getObservationalMemoryHistory("gone", "bob")).toEqual([]);
  });

  it("goes over with the thread to another resource, and is nobody's where it is not the thread's", async () => {
    await save("moved", "ada");
    const record = await begin("moved", "ada");
    await save("moved", "bob");
    expect(await get("moved")).toMatchObject({ id: record.id, resourceId: "bob" });
    await here.write({
      op: "patch",
      table: "mastra_threads",
      at: { index: "by_record_id", key: [["moved"]] },
      set: { resourceId: "eve" },
    } as never);
    expect(await get("moved", "eve")).toBeNull();
    expect(await stores.memory.getObservationalMemoryHistory("moved", "eve")).toEqual([]);
    await expect(begin("moved", "eve")).rejects.toThrow("another resource's");
  });
});

describe("generations", () => {
  it("begin once, and follow each other once, with all that waits", async () => {
    const first = await begin("once", "ada");
    await expect(begin("once", "ada")).rejects.toThrow("already");
    await buffer(first.id, "c1");
    const reflect = { currentRecord: first, reflection: "R", tokenCount: 1 };
    await stores.memory.createReflectionGeneration(reflect);
    await expect(stores.memory.createReflectionGeneration(reflect)).rejects.toThrow("successor");
    const second = (await get("once"))!;
    expect(second).toMatchObject({ activeObservations: "R", generationCount: 1, lastBufferedAtTime: at(2) });
    expect(second.bufferedObservationChunks).toMatchObject([{ cycleId: "c1" }]);
    const history = await stores.memory.getObservationalMemoryHistory("once", "ada");
    expect(history.map((each) => each.bufferedObservationChunks?.length ?? 0)).toEqual([1, 0]);
  });

  it("that have a successor take nothing that would be lost", async () => {
    const first = await begin("closed", "ada");
    await stores.memory.createReflectionGeneration({ currentRecord: first, reflection: "R", tokenCount: 1 });
    await expect(note(first.id, "lost")).rejects.toThrow("successor");
    await buffer(first.id, "c1");
    await stores.memory.setPendingMessageTokens(first.id, 5);
    await stores.memory.updateObservationalMemoryConfig({ id: first.id, config: { late: true } });
    expect(await get("closed")).toMatchObject({ pendingMessageTokens: 5, config: { late: true } });
    const swapped = await stores.memory.swapBufferedToActive({ id: first.id, ...swap });
    expect(swapped.activatedCycleIds).toEqual(["c1"]);
    // The call was repeated after its cycle became active.
    await buffer((await get("closed"))!.id, "c1");
    expect((await get("closed"))!.bufferedObservationChunks ?? []).toEqual([]);
  });

  it("forget whose claim a flag was when another client sets it", async () => {
    const { id } = await begin("claims", "ada");
    const claim = { owner: "python", until: "2026-01-01T00:00:00.000Z" };
    await here.write({
      op: "patch",
      table: "mastra_observational_memory",
      at: { index: "by_record_id", key: [[id]] },
      set: { isObserving: true, claims: JSON.stringify({ is_observing: claim, is_reflecting: claim }) },
    } as never);
    await stores.memory.setObservingFlag(id, true);
    const [row] = (await here.documents("mastra_observational_memory")).filter((each) => each["id"] === id);
    expect(JSON.parse(String(row!["claims"]))).toEqual({ is_reflecting: claim });
  });
});

describe("schedules", () => {
  const schedule = {
    ...{ id: "s", cron: "* * * * *", status: "active" as const, nextFireAt: 1_000, createdAt: 0, updatedAt: 9e12 },
    target: { type: "workflow" as const, workflowId: "w" },
  };
  const trigger = { scheduleId: "s", runId: "r", scheduledFireAt: 1, actualFireAt: 1, outcome: "published" as const };

  it("are claimed only towards later times, and keep no other one's history", async () => {
    await stores.schedules.recordTrigger({ ...trigger, triggerKind: "schedule-fire" });
    await stores.schedules.createSchedule(schedule);
    expect(await stores.schedules.listTriggers("s")).toEqual([]);
    for (const next of [1_000, 999]) {
      await expect(stores.schedules.updateScheduleNextFire("s", 1_000, next, 1_000, "r")).rejects.toThrow("later");
    }
    expect(await stores.schedules.updateScheduleNextFire("s", 1_000, 1_001, 1_000, "r")).toBe(true);
    expect(await stores.schedules.getSchedule("s")).toMatchObject({ nextFireAt: 1_001, updatedAt: 9e12 });
  });
});

describe("contents and times", () => {
  it("are not set back by a clock that is behind", async () => {
    await save("time", "ada", at(100));
    await save("time", "ada", at(50));
    expect((await stores.memory.getThreadById({ threadId: "time" }))!.updatedAt).toEqual(at(100));
    await save("time", "ada", at(200));
    expect((await stores.memory.getThreadById({ threadId: "time" }))!.updatedAt).toEqual(at(200));
  });

  it("are not lost to a merge into what is no object", async () => {
    const now = at(0).toISOString();
    const times = { createdAt: now, updatedAt: now };
    await here.write(
      insert("mastra_threads", { id: "shape", resourceId: "ada", title: "T", metadata: "[1]", ...times }),
      insert("mastra_workflow_snapshots", {
        ...{ id: "w-1", workflow_name: "w", run_id: "1", ...times },
        snapshot: JSON.stringify({ context: {}, requestContext: ["kept"] }),
      }),
    );
    await expect(stores.memory.updateThread({ id: "shape", title: "T", metadata: { a: 1 } })).rejects.toThrow("no object");
    const result = { status: "success", output: 1, payload: {}, startedAt: 0, endedAt: 0 } as never;
    const step = { workflowName: "w", runId: "1", stepId: "s", result, requestContext: {} };
    await expect(stores.workflows.updateWorkflowResults(step)).rejects.toThrow("no object");
  });
});
