/** Whatever a client sends to the local host, it gets an answer or its connection is closed, and the host lives. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { start } from "./hosts";

let host: ChildProcess;
let url: string;
let port: number;

beforeAll(async () => {
  const started = await start("--admin-key", "test|key", "--functions", "tests/convex/functions");
  host = started.process;
  url = started.url;
  port = Number(new URL(url).port);
});

afterAll(() => host.kill());

/** What the host answers to these bytes until it closes the connection, or this side has said that it is done. */
async function say(bytes: string | Buffer, { end = true, destroy = false } = {}): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const parts: Buffer[] = [];
  socket
    .on("data", (part) => parts.push(part))
    .on("end", () => socket.end())
    .on("error", () => undefined);
  const closed = once(socket, "close");
  await once(socket, "connect");
  if (destroy) {
    socket.write(bytes, () => socket.destroy());
  } else if (end) {
    socket.end(bytes);
  } else {
    socket.write(bytes);
  }
  await closed;
  return Buffer.concat(parts).toString("latin1");
}

const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
const lives = async () => expect((await fetch(`${url}/version`)).status).toBe(200);
const posted = (body: string | Buffer, ...headers: string[]): Buffer =>
  Buffer.concat([
    Buffer.from(
      [
        "POST /api/query HTTP/1.1",
        "Host: x",
        "Connection: close",
        ...(headers.length > 0 ? headers : [`Content-Length: ${Buffer.byteLength(body)}`]),
        "",
        "",
      ].join("\r\n"),
    ),
    Buffer.from(body),
  ]);
const call = (args: string): string => `{"path": "samples:echo", "args": ${args}, "format": "json"}`;

describe("a request", () => {
  it.each([
    ["GET // HTTP/1.1", 404],
    ["GET http:// HTTP/1.1", 404],
    ["GET /\\ HTTP/1.1", 404],
    ["GET * HTTP/1.1", 404],
    ["GET http://[::bad/version HTTP/1.1", 200],
    ["GET http://127.0.0.1:1/version?x#y HTTP/1.1", 200],
    ["GET /version?//%%% HTTP/1.1", 200],
    ["GET /%E0%A4%A HTTP/1.1", 404],
    ["GET /api/query HTTP/1.1", 405],
    ["GET /api/constructor HTTP/1.1", 404],
    ["BREW /version HTTP/1.1", 400],
    ["PROPFIND /version HTTP/1.1", 404],
    ["OPTIONS * HTTP/1.1", 404],
    ["CONNECT x:1 HTTP/1.1", 0],
    ["GET /version HTTP/9.9", 400],
    ["nothing", 400],
    ["\u0016\u0003\u0001", 400],
  ])("of %j is answered with %d", async (line, status) => {
    expect(statusOf(await say(`${line}\r\nHost: x\r\nConnection: close\r\n\r\n`))).toBe(status);
    await lives();
  });

  it.each<[string, Buffer, number]>([
    ["a body that is not UTF-8", posted(Buffer.from([0x22, 0xff, 0xfe, 0x22])), 400],
    ["no body", posted(""), 400],
    ["null", posted("null"), 400],
    ["an array", posted("[]"), 400],
    ["JSON of a million levels", posted("[".repeat(1e6) + "]".repeat(1e6)), 400],
    ["arguments of a million levels", posted(call(`{"value": ${"[".repeat(1e6)}${"]".repeat(1e6)}}`)), 200],
    ["a key __proto__", posted(call('{"value": {"__proto__": {"toString": 1}}, "__proto__": 7}')), 200],
    ["a path __proto__", posted('{"path": "__proto__:__proto__", "args": {}}'), 200],
    ["a format __proto__", posted('{"path": "a:b", "args": {}, "format": "__proto__"}'), 400],
    ["lone surrogates", posted(call('{"value": "\\ud800"}')), 200],
    ["an integer that is none", posted(call('{"value": {"$integer": "???"}}')), 200],
    ["bytes that are none", posted(call('{"value": {"$bytes": 5}}')), 200],
    ["a length that is none", posted("{}", "Content-Length: -1"), 400],
    ["two lengths", posted("{}", "Content-Length: 1", "Content-Length: 2"), 400],
    ["a chunk that is none", posted("zz\r\n", "Transfer-Encoding: chunked"), 400],
    ["headers over 16 KiB", posted("", `X: ${"x".repeat(20_000)}`, "Content-Length: 0"), 431],
    ["a key of odd bytes", posted("{}", "Authorization: Convex \u00e9\u0080", "Content-Length: 2"), 403],
    ["an expectation that is none", posted("{}", "Expect: nothing", "Content-Length: 2"), 417],
  ])("with %s is answered", async (_name, bytes, status) => {
    expect(statusOf(await say(bytes))).toBe(status);
    await lives();
  });

  it("with a body over the maximum is refused before all of it has come", async () => {
    const head = posted("", `Content-Length: ${80 << 20}`);
    expect(statusOf(await say(Buffer.concat([head, Buffer.alloc(65 << 20, " ")]), { end: false }))).toBe(413);
    await lives();
  });
});

it("connections that break at any byte leave the host as it was", async () => {
  const request = posted(call('{"value": [1, "two", {"three": null}]}'));
  const whole = say(request);
  for (let length = 0; length < request.length; length += 3) {
    await say(request.subarray(0, length), { destroy: true });
  }
  await Promise.all(Array.from({ length: 40 }, () => say(request, { destroy: true })));
  expect(statusOf(await whole)).toBe(200);
  await lives();
});

it("requests damaged at random leave the host as it was", async () => {
  const seed = Number(process.env["CONVEXORM_SEED"] ?? 7);
  let state = seed;
  const chance = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const request = posted(call('{"value": {"$float": "AAAAAAAA8H8="}}'));
  for (let round = 0; round < 300; round++) {
    const damaged = Buffer.from(request);
    for (let change = 0; change <= chance(4); change++) damaged[chance(damaged.length)] = chance(256);
    // What is left waiting for more bytes is ended by this side.
    await say(damaged, { end: true });
  }
  expect(host.exitCode, `seed ${seed}`).toBeNull();
  await lives();
});

it("what a function leaves unhandled does not end the host", async () => {
  for (const path of ["samples:forget", "samples:throwLater"]) {
    const body = JSON.stringify({ path, args: {}, format: "json" });
    expect((await fetch(`${url}/api/action`, { method: "POST", body })).status).toBe(200);
  }
  await lives();
  await lives();
});
