/** Mutations that overlap on the local host: which of them conflict, and what becomes of those that do. */
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { convexToJson, type Value } from "convex/values";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { isSweeper } from "../../convex/orm/sweeping";
import type { Key, Read, Write } from "../../convex/orm/protocol";
import { Host } from "../../scripts/deployment/calls";
import { Backend, ConflictError } from "../../scripts/deployment/backend";
import { Functions } from "../../scripts/deployment/functions";
import { Tally } from "../../scripts/deployment/metrics";
import { assumptionsOf } from "./assumptions";
import schema from "./functions/schema";
import { is } from "./support";

const assuming = assumptionsOf(schema);
let functions: Functions;

beforeAll(async () => void (functions = await Functions.load(resolve("tests/convex/functions"))));
afterEach(() => void vi.useRealTimers());

/** A host whose mutations overlap for at least `latency` milliseconds. */
function hostOf({ latency = 30, userTime = 10_000, of = functions } = {}) {
  const host = new Host(of, { latency, userTime });
  const call = async (kind: "query" | "mutation", path: string, args: Value) => {
    const answer = await host.answer({ kind, path, args: convexToJson(args), format: "json", isAdmin: true });
    if (answer.status === "error") throw new Error(answer.errorMessage);
    return answer.value as { results: unknown[] };
  };
  let commits = 0;
  const commitAs = (commitId: string, ...writes: Write[]) =>
    call("mutation", "orm:commit", { version: 4, commitId, writes: [writes.map(assuming)] } as unknown as Value);
  return {
    host,
    commitAs,
    withdraw: (commitId: string) => call("mutation", "orm:commit", { version: 4, commitId, withdraw: true }),
    commit: (...writes: Write[]) => commitAs(`commit ${commits++}`, ...writes),
    count: async (table: string) => {
      const read = assuming({ table, index: "by_creation_time", count: true } as Read) as unknown as Value;
      const { results } = await call("query", "orm:read", { version: 4, reads: [read] });
      return (results as { count: number }[])[0]!.count;
    },
    conflicts: () => host.metrics.counts.conflicts,
    call,
  };
}

const at = (rank: Value): Key => ({ index: "by_rank", fields: ["rank"], key: [is(rank)] });
const upTo = (length: number) => Array.from({ length }, (_, n) => n);
const insert = (rank: Value): Write => ({ op: "insert", table: "items", doc: { rank } });

describe("commits that overlap do not conflict", () => {
  it("over an old ledger, whatever they write that has nothing to do with each other", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const { commit, conflicts, count } = hostOf();
    for (const n of upTo(60)) await commit(insert(`old ${n}`));
    vi.advanceTimersByTime(2 * 60 * 60_000);
    await Promise.all(upTo(32).map((n) => commit(insert(n))));
    expect(conflicts()).toEqual({});
    expect(await count("items")).toBe(92);
  });

  it.each<[string, (n: number) => Write]>([
    ["insert under a unique key", (n) => ({ ...insert(n + 0.5), unique: [at(n + 0.5)] }) as Write],
    ["upsert new documents", (n) => ({ op: "upsert", table: "items", at: at(n + 0.5), doc: { rank: n + 0.5 } })],
    ["upsert stored documents", (n) => ({ op: "upsert", table: "items", at: at(n), doc: { rank: n, text: "x" } })],
    ["patch", (n) => ({ op: "patch", table: "items", at: at(n), set: { text: "x" } })],
    ["patch to a unique key", (n) => ({ op: "patch", table: "items", at: at(n), set: { rank: -n - 1 }, unique: [at(-n - 1)] })],
    ["replace", (n) => ({ op: "replace", table: "items", at: at(n), doc: { rank: n, text: "x" } })],
    ["delete", (n) => ({ op: "delete", table: "items", at: at(n) })],
    ["delete a range", (n) => ({ op: "deleteRange", table: "items", index: "by_rank", eq: [is(n)] })],
  ])("when they %s, each another document", async (_name, write) => {
    const { commit, conflicts } = hostOf();
    await commit(...upTo(16).map(insert));
    await Promise.all(upTo(16).map((n) => commit(write(n))));
    expect(conflicts()).toEqual({});
  });

  it("when one sweeps the ledger", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const { commit, call, conflicts, count } = hostOf();
    for (const n of upTo(40)) await commit(insert(`old ${n}`));
    vi.advanceTimersByTime(2 * 60 * 60_000);
    await Promise.all([call("mutation", "orm:sweep", {}), ...upTo(16).map((n) => commit(insert(n)))]);
    expect(conflicts()).toEqual({});
    expect(await count("convexorm_commits")).toBe(16);
  });
});

describe("the sweep of the ledger", () => {
  const sweeper = upTo(10_000)
    .map((n) => `a commit ${n}`)
    .find(isSweeper)!;

  it("runs after the commit that schedules it", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const { commitAs, count } = hostOf({ latency: 0 });
    for (const n of upTo(20)) await commitAs(`old ${n}`, insert(n));
    vi.advanceTimersByTime(2 * 60 * 60_000);
    await commitAs(sweeper, insert(99));
    while ((await count("convexorm_commits")) > 1) await new Promise((done) => setTimeout(done, 5));
  });

  it("is done without where a module does not export it", async () => {
    const folder = await mkdtemp(resolve("tests/convex/functions-"));
    try {
      await writeFile(
        resolve(folder, "orm.ts"),
        'import { ormFunctions } from "../../../convex/orm/functions";\nimport schema from "../functions/schema";\n' +
          "export const { read, commit } = ormFunctions(schema);\n",
      );
      await copyFile(resolve("tests/convex/functions/schema.ts"), resolve(folder, "schema.ts"));
      const { commitAs, count } = hostOf({ latency: 0, of: await Functions.load(folder) });
      const warned = vi.spyOn(console, "warn").mockImplementation(() => undefined);
      await commitAs(sweeper, insert(1));
      expect(await count("items")).toBe(1);
      expect(warned).toHaveBeenCalledWith(expect.stringContaining('export "sweep"'));
    } finally {
      vi.restoreAllMocks();
      await rm(folder, { recursive: true });
    }
  });
});

describe("commits that overlap conflict, and are applied one after the other", () => {
  it("where one writes what another has read", async () => {
    const { commit, conflicts, count } = hostOf();
    await commit(insert(1));
    const outcomes = await Promise.allSettled(upTo(3).map((n) => commit({ ...insert(7), unique: [at(7)], doc: { rank: 7, n } } as Write)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await count("items")).toBe(2);
    expect(conflicts()).toEqual({ items: 2 });
  });

  it("where one adds to a range that another deletes", async () => {
    const { commit, conflicts, count } = hostOf();
    await commit(insert(1), insert(2));
    const range: Write = { op: "deleteRange", table: "items", index: "by_rank", lower: { value: is(0), inclusive: true } };
    await Promise.all([commit(insert(1.5)), commit(range)]);
    expect(conflicts()).toEqual({ items: 1 });
    expect(await count("items")).toBe(0);
  });

  it("but not where another adds behind the last document that a range was read to", async () => {
    const { commit, conflicts } = hostOf();
    await commit(insert(1), insert(2));
    const first: Write = { op: "deleteRange", table: "items", index: "by_rank", limit: 1 };
    await Promise.all([commit(insert(1.5)), commit(first)]);
    expect(conflicts()).toEqual({});
  });

  it("where a commit is sent twice, once of which is applied", async () => {
    const { commitAs, conflicts, count } = hostOf();
    const [one, two] = await Promise.all([commitAs("same", insert(1)), commitAs("same", insert(1))]);
    expect(one).toEqual(two);
    expect(conflicts()).toEqual({ convexorm_commits: 1 });
    expect(await count("items")).toBe(1);
  });

  it("where one is withdrawn while it is applied: it has one outcome", async () => {
    for (const withdrawnFirst of [false, true]) {
      const { commitAs, withdraw, count } = hostOf();
      const apply = () => commitAs("same", insert(1));
      const [first, second] = withdrawnFirst ? [() => withdraw("same"), apply] : [apply, () => withdraw("same")];
      const [one, two] = await Promise.allSettled([first(), second()]);
      const applied = withdrawnFirst ? two : one;
      const withdrawal = withdrawnFirst ? one : two;
      const written = await count("items");
      expect(applied.status).toBe(written === 1 ? "fulfilled" : "rejected");
      expect(withdrawal).toMatchObject({ value: written === 1 ? { results: expect.anything() } : { withdrawn: true } });
    }
  });

  it.each([
    [4, 4],
    [5, undefined],
  ])("at most four times: after %d conflicts the result is %j", async (times, expected) => {
    const metrics = new Tally();
    let ran = 0;
    const backend = new Backend({
      functions,
      // Of each two the second is committed at once, before the first.
      get latency() {
        return ran++ % 2 === 0 ? 20 : 0;
      },
      userTime: 10_000,
      metrics,
      onWrite: () => undefined,
    });
    const others: Promise<unknown>[] = [];
    const world = globalThis as unknown as { meanwhile?: (() => void) | undefined };
    world.meanwhile = () => {
      if (others.length < times) others.push(backend.call("mutation", "samples:burn", { milliseconds: 0 }));
    };
    const outcome = await backend.call("mutation", "samples:contended", {}).catch((error: unknown) => error);
    await Promise.all(others);
    world.meanwhile = undefined;
    expect(metrics.counts.conflicts).toEqual({ items: times });
    if (expected === undefined) expect(outcome).toBeInstanceOf(ConflictError);
    else expect(outcome).toBe(expected);
  });
});

describe("the user time of a function", () => {
  it("is limited: a function that takes longer writes nothing and says so", async () => {
    const { call, count } = hostOf({ latency: 0, userTime: 30 });
    await call("mutation", "samples:burn", { milliseconds: 0 });
    const late = call("mutation", "samples:burn", { milliseconds: 200 });
    await expect(late).rejects.toThrow(/Function execution timed out \(maximum duration: 0.03s\)/);
    expect(await count("items")).toBe(1);
  });
});
