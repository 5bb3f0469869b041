/** The local host as a client sees it: a process of its own, over HTTP. */
import type { ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convexToJson, type Value } from "convex/values";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Metrics } from "../../scripts/deployment/metrics";
import { start } from "./hosts";
import { is } from "./support";

const KEY = "test|key";
let host: ChildProcess;
let url: string;

beforeAll(async () => {
  const started = await start("--admin-key", KEY, "--functions", "tests/convex/functions");
  host = started.process;
  url = /^ready (http:\/\/127\.0\.0\.1:\d+)$/.exec(started.line)![1]!;
});

afterAll(() => host.kill());

interface Answer {
  status: "success" | "error";
  value?: unknown;
  errorMessage?: string;
  errorData?: Record<string, unknown>;
  logLines: string[];
}

async function post(kind: string, body: unknown, authorization?: string): Promise<Response> {
  return await fetch(`${url}/api/${kind}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(authorization === undefined ? {} : { authorization }) },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

async function call(
  kind: string,
  path: string,
  args: unknown,
  format = "convex_encoded_json",
  key: string | null = KEY,
) {
  const response = await post(kind, { path, args, format }, key === null ? undefined : `Convex ${key}`);
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

const echo = (value: Value, format?: string) => call("query", "samples:echo", { value: convexToJson(value) }, format);
const missing = (path: string) =>
  `Could not find public function for '${path}'. Did you forget to run \`npx convex dev\` or \`npx convex deploy\`?`;

describe("values", () => {
  const value: Value = {
    n: 7n,
    f: 1.5,
    nan: NaN,
    inf: -Infinity,
    b: new Uint8Array([1, 2]).buffer,
    l: [null, true, "s"],
  };

  it("travel without loss as convex_encoded_json", async () => {
    expect(await echo(value)).toEqual({ status: "success", value: convexToJson(value), logLines: [] });
  });

  it("that are floats have a point, also where they are whole", async () => {
    const body = { path: "samples:echo", args: { value: [1, 2.5, -3, 1e21, 0, "4"] }, format: "json" };
    const text = await (await post("query", body, `Convex ${KEY}`)).text();
    expect(text).toContain('"value":[1.0,2.5,-3.0,1e+21,0.0,"4"]');
  });

  it("are plain as json", async () => {
    const plain = { n: "7", f: 1.5, nan: "NaN", inf: "-Infinity", b: "AQI=", l: [null, true, "s"] };
    expect(await echo(value, "json")).toEqual({ status: "success", value: plain, logLines: [] });
  });

  it("of arguments may be sent as an array of one", async () => {
    expect(await call("action", "samples:twice", [{ n: 4 }])).toMatchObject({ value: 8 });
  });

  it.each<[string, () => Promise<Answer>, RegExp]>([
    [
      "an array over 8,192 in arguments",
      () => echo(Array.from({ length: 8_193 }, () => null)),
      /Array length is too long \(8193/,
    ],
    [
      "an array over 8,192 in a result",
      () => call("query", "samples:list", { length: 8_193 }),
      /return value invalid: Array length/,
    ],
    ["nesting over 64", () => echo(JSON.parse("[".repeat(64) + "]".repeat(64)) as Value), /too nested/],
    ["a field name that is not ASCII", () => call("query", "samples:echo", { value: { é: 1 } }), /Invalid arguments/],
    [
      "a field name that starts with $",
      () => call("query", "samples:echo", { value: { $a: 1, b: 2 } }),
      /Invalid arguments/,
    ],
    ["arguments over 16 MiB", () => echo("x".repeat(16 << 20)), /Arguments for samples:echo are too large/],
    ["a result over 16 MiB", () => call("query", "samples:text", { length: 16 << 20 }), /return value is too large/],
    ["arguments that are no object", () => call("query", "samples:echo", "text"), /Arguments must be one object/],
  ])("are refused: %s", async (_name, run, words) => {
    const answer = await run();
    expect(answer).toMatchObject({ status: "error", logLines: [] });
    expect(answer.errorMessage).toMatch(words);
    expect(answer.errorMessage).toMatch(/^\[Request ID: [0-9a-f]+\] Server Error\n/);
  });
});

describe("access", () => {
  const request = { version: 4, reads: [{ table: "items", index: "by_rank", fields: ["rank"] }] };

  it("to internal functions takes the admin key; without it they are as good as missing", async () => {
    expect(await call("query", "orm:read", request)).toMatchObject({ status: "success" });
    for (const path of ["orm:read", "orm:nothing", "nowhere:read", "samples:notAFunction", "schema:default"]) {
      const answer = await call("query", path, request, "json", null);
      expect(answer).toMatchObject({ status: "error" });
      expect(answer.errorMessage).toMatch(/^\[Request ID: [0-9a-f]+\] Server Error\n/);
      expect(answer.errorMessage!.split("\n")[1]).toBe(missing(path));
      expect(answer).not.toHaveProperty("errorData");
    }
    const write = { version: 4, commitId: "c", writes: [[{ op: "insert", table: "items", doc: {} }]] };
    expect((await call("mutation", "orm:commit", write, "json", null)).errorMessage).toContain(missing("orm:commit"));
    expect((await call("action", "orm:search", {}, "json", null)).errorMessage).toContain(missing("orm:search"));
    expect(await call("query", "orm:read", request)).toMatchObject({ value: { results: [{ count: 0 }] } });
  });

  it("to public functions takes none", async () => {
    expect(await call("action", "samples:twice", { n: 2 }, "json", null)).toMatchObject({ value: 4 });
  });

  it("with a wrong key is refused, whatever is called", async () => {
    for (const key of ["wrong", "", `${KEY}x`]) {
      const response = await post("query", { path: "samples:echo", args: { value: 1 } }, `Convex ${key}`);
      expect(response.status).toBe(403);
      expect(await response.json()).toMatchObject({ code: "BadDeployKey" });
    }
    expect((await post("query", { path: "samples:echo", args: {} }, "Bearer x")).status).toBe(401);
  });

  it("goes by the kind of function", async () => {
    const answer = await call("query", "samples:fail", {});
    expect(answer.errorMessage).toContain("Trying to execute samples:fail as Query, but it is defined as Mutation.");
  });
});

describe("errors", () => {
  it("of the wire carry their data in the format asked for", async () => {
    const read = { version: 7, reads: [] };
    for (const format of ["json", "convex_encoded_json"]) {
      const answer = await call("query", "orm:read", read, format);
      expect(answer.errorData).toEqual({ code: "Version", message: expect.any(String), supported: 4 });
      expect(answer.errorMessage).toMatch(/^\[Request ID: [0-9a-f]+\] Server Error\nUncaught ConvexError: /);
    }
  });

  it("of other kinds carry their words", async () => {
    const answer = await call("mutation", "samples:fail", {});
    expect(answer.errorMessage).toMatch(/Server Error\nUncaught Error: on purpose/);
    expect(answer).not.toHaveProperty("errorData");
  });

  it.each<[string, unknown, number]>([
    ["a body that is not JSON", "{", 400],
    ["a body without a path", { args: {} }, 400],
    ["an unknown format", { path: "a:b", args: {}, format: "xml" }, 400],
  ])("for %s are HTTP errors", async (_name, body, status) => {
    const response = await post("query", body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ code: expect.any(String), message: expect.any(String) });
  });
});

describe("metrics", () => {
  const metrics = async () => (await (await fetch(`${url}/metrics`)).json()) as Metrics;
  const insert = (rank: number) => ({ op: "insert", table: "items", doc: { rank } });
  let commits = 0;
  const commit = (...writes: unknown[]) =>
    call("mutation", "orm:commit", { version: 4, commitId: `m${commits++}`, writes: [writes] });

  beforeEach(async () => {
    await commit({ op: "deleteRange", table: "items", index: "by_rank", fields: ["rank"] });
    await fetch(`${url}/metrics/reset`, { method: "POST" });
  });

  it("count the calls, the bytes of their bodies, and nothing else", async () => {
    const request = JSON.stringify({ path: "samples:twice", args: { n: 1 }, format: "json" });
    const response = await post("action", request);
    const responseBytes = (await response.text()).length;
    expect(await metrics()).toMatchObject({
      calls: 1,
      requestBytes: request.length,
      responseBytes,
      documentsRead: 0,
      bytesRead: 0,
      documentsWritten: 0,
      bytesWritten: 0,
      conflicts: {},
      userTime: 0, // an action has no limit of it
      most: { requestBytes: request.length, responseBytes, documentsRead: 0 },
    });
    await fetch(`${url}/metrics/reset`, { method: "POST" });
    expect((await metrics()).calls).toBe(0);
  });

  it("count documents read and written", async () => {
    await commit(insert(1), insert(2), insert(3));
    expect(await metrics()).toMatchObject({ calls: 1, documentsRead: 0, documentsWritten: 4 });
    const read = { table: "items", index: "by_rank", fields: ["rank"], limit: 1, peek: true };
    await call("query", "orm:read", { version: 4, reads: [read] });
    const { documentsRead, bytesRead, documentsWritten, userTime, most } = await metrics();
    expect(most).toMatchObject({ documentsRead, bytesRead, indexRanges: 1, documentsWritten: 4 });
    expect(userTime).toBeGreaterThanOrEqual(most.userTime);
    expect([documentsRead, documentsWritten]).toEqual([2, 4]);
    expect(bytesRead).toBeGreaterThan(100);
  });

  it("count the reads but not the writes of what is rolled back", async () => {
    await commit(insert(1));
    const before = await metrics();
    await commit(
      { op: "patch", table: "items", at: { index: "by_rank", fields: ["rank"], key: [is(1)] }, set: { text: "changed" } },
      { op: "insert", table: "nope", doc: {} },
    );
    await call("mutation", "samples:fail", {});
    const after = await metrics();
    expect(after.documentsRead).toBe(before.documentsRead + 2);
    expect([after.documentsWritten, after.bytesWritten]).toEqual([before.documentsWritten, before.bytesWritten]);
  });
});

describe("the cache of queries", () => {
  const read = { version: 4, reads: [{ table: "items", index: "by_creation_time" }] };
  const documentsRead = async () => {
    await fetch(`${url}/metrics/reset`, { method: "POST" });
    const { value } = await call("query", "orm:read", read);
    return { read: ((await (await fetch(`${url}/metrics`)).json()) as Metrics).documentsRead, value };
  };
  const write = async (...writes: unknown[]) =>
    await call("mutation", "orm:commit", { version: 4, commitId: randomUUID(), writes: [writes] });

  it("answers a query asked again without reading, until something is written", async () => {
    await write({ op: "insert", table: "items", doc: { rank: 1 } });
    const first = await documentsRead();
    expect(first.read).toBeGreaterThan(0);
    expect(await documentsRead()).toEqual({ read: 0, value: first.value });
    await write({ op: "insert", table: "items", doc: { rank: 2 } });
    const after = await documentsRead();
    expect(after.read).toBe(first.read + 1);
  });

  it("is kept by what writes nothing", async () => {
    await documentsRead();
    expect((await call("mutation", "samples:fail", {})).status).toBe("error");
    expect((await documentsRead()).read).toBe(0);
  });
});

describe("the process", () => {
  const exit = async (started: ChildProcess) => (await once(started, "exit")) as [number | null, string | null];

  it.each(["SIGTERM", "SIGINT"] as const)("ends on %s at once", async (signal) => {
    const { process: started } = await start("--functions", "tests/convex/functions");
    const ended = exit(started);
    started.kill(signal);
    expect(await ended).toEqual([0, null]);
  });

  it("ends with its standard input only when told to", async () => {
    const { process: free, line } = await start("--functions", "tests/convex/functions");
    const { process: bound } = await start("--functions", "tests/convex/functions", "--exit-with-stdin");
    const ended = exit(bound);
    free.stdin!.end();
    bound.stdin!.end();
    expect(await ended).toEqual([0, null]); // by then the other one has seen the end of its input too
    expect((await fetch(`${line.slice("ready ".length)}/version`)).status).toBe(200);
    expect(free.exitCode).toBeNull();
    free.kill();
  });

  it("serves functions of any directory, with or without a schema", async () => {
    const directory = await mkdtemp(join(tmpdir(), "functions-"));
    await writeFile(join(directory, "package.json"), '{"type": "module"}');
    await writeFile(
      join(directory, "plain.ts"),
      'import { queryGeneric } from "convex/server";\nexport default queryGeneric(async () => "served");\n',
    );
    const { process: started, line } = await start("--functions", directory);
    const answer = await fetch(`${line.slice("ready ".length)}/api/query`, {
      method: "POST",
      body: JSON.stringify({ path: "plain", args: {}, format: "json" }),
    });
    expect(await answer.json()).toMatchObject({ value: "served" });
    started.kill();
    await rm(directory, { recursive: true });
  });

  it("answers the errors of functions that Node loads as CommonJS with their data", async () => {
    const directory = await mkdtemp(join(tmpdir(), "functions-"));
    await writeFile(
      join(directory, "refusing.ts"),
      'import { queryGeneric } from "convex/server";\nimport { ConvexError } from "convex/values";\n' +
        'export default queryGeneric(async () => { throw new ConvexError({ code: "Mine" }); });\n',
    );
    const { process: started, line } = await start("--functions", directory);
    const answer = await fetch(`${line.slice("ready ".length)}/api/query`, {
      method: "POST",
      body: JSON.stringify({ path: "refusing", args: {}, format: "json" }),
    });
    expect(await answer.json()).toMatchObject({ status: "error", errorData: { code: "Mine" } });
    started.kill();
    await rm(directory, { recursive: true });
  });

  it("answers many calls at once over kept connections", async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => call("action", "samples:twice", { n })));
    expect(answers.map((answer) => answer.value)).toEqual(Array.from({ length: 50 }, (_, n) => 2 * n));
  });

  it("answers 503 where a mutation was in conflict every time, and counts the conflicts", async () => {
    const { process: started, url: own } = await start("--functions", "tests/convex/functions", "--latency", "40");
    const contend = async () =>
      await fetch(`${own}/api/mutation`, {
        method: "POST",
        body: JSON.stringify({ path: "samples:contended", args: {}, format: "json" }),
      });
    // Of so many at once, one at a time is committed: the last ones are in conflict too often.
    const answers = await Promise.all(Array.from({ length: 12 }, contend));
    const refused = answers.filter(({ status }) => status === 503);
    expect(refused.length).toBeGreaterThan(0);
    expect(await refused[0]!.json()).toMatchObject({ code: "OptimisticConcurrencyControlFailure" });
    const { conflicts } = (await (await fetch(`${own}/metrics`)).json()) as Metrics;
    expect(conflicts["items"]).toBeGreaterThanOrEqual(5);
    started.kill();
  });

  it("says no more of errors than production does, when told to", async () => {
    const { process: started, url: own } = await start("--functions", "tests/convex/functions", "--redact", "--admin-key", KEY);
    const failing = async (path: string, args: unknown, kind = "mutation") => {
      const body = JSON.stringify({ path, args, format: "json" });
      const response = await fetch(`${own}/api/${kind}`, { method: "POST", body, headers: { authorization: `Convex ${KEY}` } });
      return (await response.json()) as Answer;
    };
    const bare = expect.stringMatching(/^\[Request ID: [0-9a-f]+\] Server Error$/);
    expect(await failing("samples:fail", {})).toEqual({ status: "error", errorMessage: bare, logLines: [] });
    expect(await failing("orm:read", { version: 0 }, "query")).toMatchObject({
      errorMessage: bare,
      errorData: { code: "Version", supported: 4 },
    });
    started.kill();
  });

  it("lets a key run what it has the operation for, and says which it has", async () => {
    const { process: started, url: own } = await start(
      ...["--functions", "tests/convex/functions", "--admin-key", KEY, "--allow", "RunInternalQueries", "--allow", "RunInternalActions"],
    );
    const headers = { authorization: `Convex ${KEY}` };
    const allowed = await fetch(`${own}/api/check_admin_key`, { headers });
    expect(await allowed.json()).toEqual({ success: true, allowedOps: ["RunInternalQueries", "RunInternalActions"], isReadOnly: false });
    expect((await fetch(`${own}/api/check_admin_key`)).status).toBe(403);
    const calling = async (kind: string, path: string) =>
      await fetch(`${own}/api/${kind}`, { method: "POST", body: JSON.stringify({ path, args: {}, format: "json" }), headers });
    expect(await (await calling("query", "orm:read")).json()).toMatchObject({ errorData: { code: "Invalid" } });
    const refused = await calling("mutation", "orm:commit");
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({ code: "OperationNotPermitted" });
    started.kill();
  });

  it("takes a file at an upload URL of its own, and serves it", async () => {
    const upload = (await call("mutation", "samples:uploadUrl", {})).value as string;
    expect(upload.startsWith(`${url}/api/storage/upload?token=`)).toBe(true);
    const posted = () => fetch(upload, { method: "POST", body: "hello", headers: { "content-type": "text/x-greeting" } });
    const { storageId } = (await (await posted()).json()) as { storageId: string };
    expect((await posted()).status).toBe(401); // once
    const { url: at } = (await call("query", "samples:file", { storageId })).value as { url: string };
    const found = await fetch(at);
    expect([found.headers.get("content-type"), await found.text()]).toEqual(["text/x-greeting", "hello"]);
    expect((await fetch(`${url}/api/storage/${storageId}`)).status).toBe(404);
  });

  it("says its version", async () => {
    expect((await fetch(`${url}/version`)).status).toBe(200);
  });
});
