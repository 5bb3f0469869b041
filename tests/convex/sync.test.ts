/** The sync protocol of the local host: as its messages say it, and as the npm package's client speaks it. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { start } from "./hosts";

const KEY = "test|key";
let host: ChildProcess;
let url: string;

beforeAll(async () => {
  const started = await start("--admin-key", KEY, "--functions", "tests/convex/functions", "--redact");
  host = started.process;
  url = started.url;
});

afterAll(() => host.kill());

type Message = Record<string, any>;

/** A client that says what a test says, and hears everything. */
class Client {
  readonly heard: Message[] = [];
  /** Transitions that do not begin where the one before ended. */
  readonly broken: Message[] = [];
  #version: unknown = { querySet: 0, identity: 0, ts: "AAAAAAAAAAA=" };
  readonly #waiting: ((message: Message) => void)[] = [];

  private constructor(readonly socket: WebSocket) {
    socket.on("message", (data: Buffer) => {
      const message = JSON.parse(data.toString()) as Message;
      if (message["type"] === "Transition") {
        if (JSON.stringify(message["startVersion"]) !== JSON.stringify(this.#version)) this.broken.push(message);
        this.#version = message["endVersion"];
      }
      const waiting = this.#waiting.shift();
      if (waiting) waiting(message);
      else this.heard.push(message);
    });
  }

  static async connected(sessionId: string = crypto.randomUUID(), { path = "/api/1.48.0/sync", key = KEY } = {}): Promise<Client> {
    const client = new Client(new WebSocket(url.replace("http", "ws") + path));
    open.push(client);
    await once(client.socket, "open");
    client.say({ type: "Connect", sessionId, connectionCount: 0, lastCloseReason: "InitialConnect", clientTs: 0 });
    if (key !== "") {
      client.say({ type: "Authenticate", tokenType: "Admin", value: key, baseVersion: 0 });
    }
    return client;
  }

  say(message: Message | string): void {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** The next message; of a type if one is named, all before left out. */
  async next(type?: string): Promise<Message> {
    for (;;) {
      const message = this.heard.shift() ?? (await new Promise<Message>((resolve) => this.#waiting.push(resolve)));
      if (type === undefined || message["type"] === type) return message;
    }
  }

  /** The first transition that says something new of queries. */
  async change(): Promise<Message> {
    for (;;) {
      const transition = await this.next("Transition");
      expect(this.broken).toEqual([]);
      if (transition["modifications"].length > 0) return transition;
    }
  }

  add(baseVersion: number, ...queries: { queryId: number; udfPath: string; args?: unknown; journal?: string }[]): void {
    const modifications = queries.map((query) => ({ type: "Add", args: [{}], ...query }));
    this.say({ type: "ModifyQuerySet", baseVersion, newVersion: baseVersion + 1, modifications });
  }

  async mutate(requestId: number, udfPath: string, args: unknown): Promise<Message> {
    this.say({ type: "Mutation", requestId, udfPath, args: [args] });
    return await this.next("MutationResponse");
  }
}

const open: Client[] = [];
afterEach(() => {
  for (const { socket } of open.splice(0)) socket.terminate();
});

const reading = (index: string, owner?: string) => ({
  version: 4,
  reads: [{ table: "items", index, ...(owner ? { fields: ["owner", "rank"], eq: [[owner]] } : {}) }],
});
const writing = (owner: string, rank: number) => ({
  version: 4,
  commitId: crypto.randomUUID(),
  writes: [[{ op: "insert", table: "items", doc: { owner, rank } }]],
});
const metrics = async () => (await (await fetch(`${url}/metrics`)).json()).sync as Record<string, number>;
const ranks = (modification: Message): number[] => modification["value"].results[0].docs.map((doc: Message) => doc["rank"]);

describe("a subscription", () => {
  it("is answered at once, and again for each commit that meets it, all of one moment", async () => {
    const client = await Client.connected();
    client.add(
      0,
      { queryId: 1, udfPath: "orm:read", args: [reading("by_owner", "sub1")] },
      { queryId: 2, udfPath: "orm:read", args: [reading("by_owner", "sub2")] },
    );
    const first = await client.change();
    expect(first["endVersion"]).toMatchObject({ querySet: 1, identity: 1 });
    expect(first["modifications"].map((each: Message) => [each["type"], each["queryId"]])).toEqual([
      ["QueryUpdated", 1],
      ["QueryUpdated", 2],
    ]);
    const both = { version: 4, commitId: "both", writes: [["sub1", "sub2"].map((owner) => ({ op: "insert", table: "items", doc: { owner, rank: 7 } }))] };
    await client.mutate(0, "orm:commit", both);
    const second = await client.change();
    expect(second["modifications"].map(ranks)).toEqual([[7], [7]]);
  });

  it("is not run again for commits that it does not meet", async () => {
    const client = await Client.connected();
    client.add(0, { queryId: 1, udfPath: "orm:read", args: [reading("by_owner", "quiet")] });
    await client.change();
    const { reruns } = await metrics();
    for (let n = 0; n < 5; n++) await client.mutate(n, "orm:commit", writing("loud", n));
    expect((await metrics())["reruns"]).toBe(reruns);
    await client.mutate(9, "orm:commit", writing("quiet", 9));
    expect((await client.change())["modifications"].map(ranks)).toEqual([[9]]);
    expect((await metrics())["reruns"]).toBe(reruns! + 1);
  });

  it("that is removed is heard of no more", async () => {
    const client = await Client.connected();
    const { subscriptions } = await metrics();
    client.add(0, { queryId: 5, udfPath: "orm:read", args: [reading("by_owner", "gone")] });
    await client.change();
    expect((await metrics())["subscriptions"]).toBe(subscriptions! + 1);
    client.say({ type: "ModifyQuerySet", baseVersion: 1, newVersion: 2, modifications: [{ type: "Remove", queryId: 5 }] });
    expect((await client.change())["modifications"]).toEqual([{ type: "QueryRemoved", queryId: 5 }]);
    const { ts } = await client.mutate(1, "orm:commit", writing("gone", 1));
    const after = await client.next("Transition");
    expect([after["modifications"], after["endVersion"].ts]).toEqual([[], ts]);
    expect((await metrics())["subscriptions"]).toBe(subscriptions);
  });

  it("keeps where its page ends", async () => {
    const client = await Client.connected();
    for (let rank = 0; rank < 4; rank++) await client.mutate(rank, "orm:commit", writing("paged", 10 * rank));
    const args = [{ owner: "paged", paginationOpts: { numItems: 2, cursor: null } }];
    client.add(0, { queryId: 1, udfPath: "samples:page", args });
    const pageIn = async () => (await client.change())["modifications"][0] as Message;
    const first = await pageIn();
    expect(first["value"].page.map((doc: Message) => doc["rank"])).toEqual([0, 10]);
    await client.mutate(9, "orm:commit", writing("paged", 5));
    const second = await pageIn();
    expect(second["value"].page.map((doc: Message) => doc["rank"])).toEqual([0, 5, 10]);
    const other = await Client.connected();
    other.add(0, { queryId: 1, udfPath: "samples:page", args, journal: second["journal"] });
    expect((await other.change())["modifications"][0].value.page).toHaveLength(3);
  });

  it("that fails is told so, and answered once it does not", async () => {
    const client = await Client.connected();
    client.add(0, { queryId: 1, udfPath: "samples:unlessRank", args: [{ owner: "failing" }] });
    const [failed] = (await client.change())["modifications"];
    expect(failed).toMatchObject({ type: "QueryFailed", queryId: 1, errorData: { owner: "failing" } });
    expect(failed.errorMessage).toMatch(/^\[Request ID: \w+\] Server Error$/);
    await client.mutate(0, "orm:commit", writing("failing", 3));
    expect((await client.change())["modifications"][0]).toMatchObject({ type: "QueryUpdated", value: 3 });
  });
});

describe("who calls", () => {
  it("without the key finds no internal function", async () => {
    const client = await Client.connected("s", { key: "" });
    client.add(0, { queryId: 1, udfPath: "orm:read", args: [reading("by_creation_time")] });
    expect((await client.change())["modifications"][0]).toMatchObject({ type: "QueryFailed" });
    expect(await client.mutate(0, "orm:commit", writing("no", 1))).toMatchObject({ success: false });
  });

  it.each([
    ["Admin", "other|key"],
    ["User", "a.b.c"],
  ])("as %s with what is no key is told so", async (tokenType, value) => {
    const client = await Client.connected("s", { key: "" });
    client.say({ type: "Authenticate", tokenType, value, baseVersion: 0 });
    expect(await client.next()).toMatchObject({ type: "AuthError", baseVersion: 0, authUpdateAttempted: true });
  });

  it("lets its identity go, and what it saw with it", async () => {
    const client = await Client.connected();
    client.add(0, { queryId: 1, udfPath: "orm:read", args: [reading("by_creation_time")] });
    expect((await client.change())["modifications"][0].type).toBe("QueryUpdated");
    client.say({ type: "Authenticate", tokenType: "None", baseVersion: 1 });
    expect((await client.change())["modifications"][0].type).toBe("QueryFailed");
  });
});

describe("a mutation", () => {
  it("that is sent again in its session is run once", async () => {
    const session = crypto.randomUUID();
    const one = await Client.connected(session);
    const first = await one.mutate(4, "samples:insertItem", { owner: "once", rank: 1 });
    one.socket.terminate();
    const two = await Client.connected(session);
    expect(await two.mutate(4, "samples:insertItem", { owner: "once", rank: 1 })).toEqual(first);
    two.add(0, { queryId: 1, udfPath: "orm:read", args: [reading("by_owner", "once")] });
    expect(ranks((await two.change())["modifications"][0])).toEqual([1]);
  });

  it("is run after those that were sent before", async () => {
    const client = await Client.connected();
    for (let n = 0; n < 20; n++) client.say({ type: "Mutation", requestId: n, udfPath: "samples:insertItem", args: [{ owner: "order", rank: n }] });
    for (let n = 0; n < 20; n++) expect((await client.next("MutationResponse"))["requestId"]).toBe(n);
  });

  it("and an action that fail say so", async () => {
    const client = await Client.connected();
    expect(await client.mutate(1, "samples:fail", {})).toMatchObject({ success: false, requestId: 1 });
    client.say({ type: "Action", requestId: 2, udfPath: "samples:twice", args: [{ n: 4 }] });
    expect(await client.next("ActionResponse")).toMatchObject({ success: true, requestId: 2, result: 8 });
  });
});

describe("what is no protocol", () => {
  it.each([
    ["no JSON", "x"],
    ["an array", "[]"],
    ["no type", "{}"],
    ["a second Connect", { type: "Connect", sessionId: "x" }],
    ["another version", { type: "ModifyQuerySet", baseVersion: 7, newVersion: 8, modifications: [] }],
    ["a modification of no kind", { type: "ModifyQuerySet", baseVersion: 0, newVersion: 1, modifications: [{ queryId: 1 }] }],
    ["an identity of another version", { type: "Authenticate", tokenType: "None", baseVersion: 9 }],
    ["nothing", "null"],
  ])("%s ends the connection, and the host goes on", async (_name, message) => {
    const client = await Client.connected("s", { key: "", path: "/api/sync" });
    const closed = once(client.socket, "close");
    client.say(message);
    expect((await client.next())["type"]).toBe("FatalError");
    await closed;
    expect((await fetch(`${url}/version`)).status).toBe(200);
  });

  it("elsewhere is no WebSocket, and a plain request is told what to do", async () => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/other`);
    const [error] = (await once(socket, "error")) as [Error];
    expect(error.message).toContain("404");
    expect((await fetch(`${url}/api/sync`)).status).toBe(426);
  });
});

describe("the npm package's client", () => {
  it("is kept answered over connections that are cut", async () => {
    const client = new ConvexClient(url, { skipConvexDeploymentUrlCheck: true });
    try {
      const seen: number[] = [];
      let changed = () => {};
      const until = async (count: number) => {
        while (seen.at(-1) !== count) await new Promise<void>((resolve) => (changed = resolve));
      };
      client.onUpdate(makeFunctionReference<"query">("samples:countOf"), { owner: "npm" }, (count: number) => {
        seen.push(count);
        changed();
      });
      await until(0);
      const insert = makeFunctionReference<"mutation">("samples:insertItem");
      await client.mutation(insert, { owner: "npm", rank: 1 });
      await until(1);
      const cut = await fetch(`${url}/disconnect`, { method: "POST", headers: { authorization: `Convex ${KEY}` } });
      expect((await cut.json()).disconnected).toBeGreaterThan(0);
      await client.mutation(insert, { owner: "npm", rank: 2 });
      await until(2);
      expect(await client.query(makeFunctionReference<"query">("samples:countOf"), { owner: "npm" })).toBe(2);
      expect((await fetch(`${url}/disconnect`, { method: "POST" })).status).toBe(403);
    } finally {
      await client.close();
    }
  });
});
