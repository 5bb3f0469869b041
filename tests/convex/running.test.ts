/** What the local host runs of itself: scheduled functions, crons by their calendar, and the files of actions. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Host } from "../../scripts/deployment/calls";
import { nextAfter, type Schedule } from "../../scripts/deployment/crons";
import { Functions } from "../../scripts/deployment/functions";
import { keptIn } from "../../scripts/deployment/kept";

let folder: string;
let functions: Functions;
const HOUR = 3_600_000;
const OPTIONS = { latency: 0, userTime: 10_000 };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "running-"));
  functions = await Functions.load(resolve("tests/convex/running"));
});

afterAll(() => rm(folder, { recursive: true }));

async function call(host: Host, kind: "query" | "mutation" | "action", name: string, args: object = {}): Promise<any> {
  const answer = await host.answer({ kind, path: `jobs:${name}`, args, format: "json", isAdmin: true, componentPath: undefined });
  if (answer.status === "error") throw new Error(answer.errorMessage);
  return answer.value;
}

const states = async (host: Host) => (await call(host, "query", "jobs")).map(({ state }: { state: { kind: string } }) => state.kind);
const notes = async (host: Host) => (await call(host, "query", "noted")).map(({ text }: { text: string }) => text);

describe("a scheduled function", () => {
  it("is there if and only if the mutation is applied, and runs once it is due", async () => {
    const host = new Host(functions, OPTIONS);
    await call(host, "mutation", "later", { text: "one", delay: HOUR });
    await expect(call(host, "mutation", "later", { text: "none", delay: 0, fail: true })).rejects.toThrow("no");
    await call(host, "mutation", "nested");
    expect(await states(host)).toEqual(["pending"]);
    expect(await host.advance(HOUR - 60_000)).toEqual({ scheduled: 0, crons: 0 });
    expect(await host.advance(60_001)).toEqual({ scheduled: 1, crons: 0 });
    expect(await notes(host)).toEqual(["one"]);
    expect(await states(host)).toEqual(["success"]);
  });

  it("that is cancelled does not run, and one that throws leaves nothing but its failure", async () => {
    const host = new Host(functions, OPTIONS);
    const id = await call(host, "mutation", "later", { text: "one", delay: HOUR });
    await call(host, "mutation", "cancel", { id });
    await call(host, "mutation", "later", { text: "bad", delay: HOUR });
    await host.advance(2 * HOUR);
    expect(await states(host)).toEqual(["canceled", "failed"]);
    expect(await notes(host)).toEqual([]);
    await expect(call(host, "mutation", "write")).rejects.toThrow("read-only");
  });

  it("that cancels itself is applied, and what it cancels does not run", async () => {
    const host = new Host(functions, OPTIONS);
    await call(host, "mutation", "soon", { delay: HOUR });
    await call(host, "mutation", "later", { text: "one", delay: HOUR });
    await host.advance(2 * HOUR);
    expect([await states(host), await notes(host)]).toEqual([["canceled", "canceled"], ["cancelled"]]);
    expect(await host.advance(HOUR)).toEqual({ scheduled: 0, crons: 0 });
  });

  it("is kept in a file with all that is written, and an action in its midst has failed", async () => {
    const path = join(folder, "kept.db");
    const one = new Host(functions, { ...OPTIONS, kept: await keptIn(path) });
    await call(one, "mutation", "later", { text: "one", delay: HOUR });
    await call(one, "mutation", "note", { text: "before" });
    await call(one, "mutation", "slowly");
    while (!(await states(one)).includes("inProgress")) await new Promise((done) => setTimeout(done, 5));
    databaseOf(one).close();
    const two = new Host(functions, { ...OPTIONS, kept: await keptIn(path) });
    two.start();
    expect(await states(two)).toEqual(["pending", "failed"]);
    await two.advance(HOUR);
    expect(await notes(two)).toEqual(["before", "one"]);
  });
});

/** The database of a host that is kept, to be closed as an end of the process closes it. */
const databaseOf = (host: Host): { close(): void } =>
  (host.files.held as unknown as { database: { close(): void } }).database;

it("the files of an action are stored, checked, and gone when they are deleted", async () => {
  const host = new Host(functions, OPTIONS);
  const found = { text: "hello", type: "text/x", wrong: "refused", size: 5, contentType: "text/x", gone: null };
  expect(await call(host, "action", "files")).toEqual(found);
});

describe("a cron is next due", () => {
  const after = (schedule: Schedule, from: string): string => new Date(nextAfter(schedule, Date.parse(from))!).toISOString().slice(0, 16);

  it.each<[Schedule, string, string]>([
    [{ type: "interval", minutes: 5 }, "2026-01-01T00:00Z", "2026-01-01T00:05"],
    [{ type: "hourly", minuteUTC: 30 }, "2026-01-01T00:30Z", "2026-01-01T01:30"],
    [{ type: "daily", hourUTC: 3, minuteUTC: 5 }, "2026-12-31T04:00Z", "2027-01-01T03:05"],
    [{ type: "weekly", dayOfWeek: "monday", hourUTC: 9 }, "2026-01-01T00:00Z", "2026-01-05T09:00"],
    [{ type: "monthly", day: 31, hourUTC: 0 }, "2026-01-31T00:00Z", "2026-03-31T00:00"],
    [{ type: "cron", cron: "*/15 9-17 * * mon-fri" }, "2026-01-02T17:45Z", "2026-01-05T09:00"],
    [{ type: "cron", cron: "0 0 29 2 *" }, "2026-01-01T00:00Z", "2028-02-29T00:00"],
    [{ type: "cron", cron: "0 0 1 * sun" }, "2026-01-01T00:00Z", "2026-01-04T00:00"],
    [{ type: "cron", cron: "0 0 * jan,jul 7" }, "2026-01-26T00:00Z", "2026-07-05T00:00"],
  ])("of %j after %s", (schedule, from, then) => expect(after(schedule, from)).toBe(then));

  it("never, where there is no such day, and is refused where it is none", () => {
    expect(nextAfter({ type: "cron", cron: "0 0 31 2 *" }, 0)).toBeUndefined();
    for (const cron of ["* * * *", "60 * * * *", "a * * * *", "*/0 * * * *"]) {
      expect(() => nextAfter({ type: "cron", cron }, 0)).toThrow();
    }
  });
});
