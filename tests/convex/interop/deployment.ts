/** The local host in a process of its own, with the functions of this folder, and ways to look behind the npm clients. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { convexToJson, jsonToConvex, type JSONValue, type Value } from "convex/values";
import type { Applied, Document, Read, Write } from "../../../convex/orm/protocol";
import { assumptionsOf } from "../assumptions";
import schema from "./functions/schema";
import type { Metrics } from "../../../scripts/deployment/metrics";

const assuming = assumptionsOf(schema);
export const KEY = "test|key";
const HOST = ["--import", "tsx", "scripts/deployment/main.ts", "--port", "0", "--exit-with-stdin"];
const FUNCTIONS = ["--functions", "tests/convex/interop/functions", "--admin-key", KEY];

export interface Answer {
  status: "success" | "error";
  value?: JSONValue;
  errorMessage?: string;
  errorData?: Record<string, JSONValue>;
}

export type Deployment = Awaited<ReturnType<typeof deploy>>;

export async function deploy() {
  const host = spawn(process.execPath, [...HOST, ...FUNCTIONS], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = (await once(createInterface(host.stdout), "line")) as [string];
  const url = line.slice("ready ".length);
  let commits = 0;

  async function call(kind: string, path: string, args: JSONValue, key: string | null = KEY): Promise<Answer> {
    const response = await fetch(`${url}/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(key === null ? {} : { authorization: `Convex ${key}` }) },
      body: JSON.stringify({ path, args, format: "convex_encoded_json" }),
    });
    return (await response.json()) as Answer;
  }

  async function value(kind: string, path: string, args: Value): Promise<Value> {
    const answer = await call(kind, path, convexToJson(args));
    if (answer.status === "error") throw new Error(answer.errorMessage);
    return jsonToConvex(answer.value ?? null);
  }

  return {
    url,
    call,
    /** What the npm clients are given to reach it. */
    options: { deploymentUrl: url, adminAuthToken: KEY },
    /** A request as the npm client's own transport sends it. */
    handle: async (request: Record<string, JSONValue>) =>
      (await call("mutation", "mastra/storage:handle", request)).value as Record<string, JSONValue>,
    /** The documents of a table, as another client of the deployment reads them. */
    documents: async (table: string, more: Partial<Read> = {}): Promise<Document[]> => {
      const read = assuming({ table, index: "by_creation_time", ...more } as Read) as unknown as Value;
      const { results } = (await value("query", "orm:read", { version: 4, reads: [read] })) as never as {
        results: [{ docs: Document[] }];
      };
      return results[0].docs;
    },
    /** Writes as another client of the deployment does. */
    write: async (...writes: Write[]): Promise<Applied[]> => {
      const request = { version: 4, commitId: `other ${commits++}`, writes: [writes.map(assuming)] } as unknown as Value;
      return ((await value("mutation", "orm:commit", request)) as never as { results: [Applied[]] }).results[0];
    },
    /** What a request costs. */
    cost: async (request: () => Promise<unknown>): Promise<Metrics> => {
      await fetch(`${url}/metrics/reset`, { method: "POST" });
      await request();
      return (await (await fetch(`${url}/metrics`)).json()) as Metrics;
    },
    stop: () => host.kill(),
  };
}
