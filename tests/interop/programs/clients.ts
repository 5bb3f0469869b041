/**
 * The npm package's clients, called from another process: a line of JSON in for each call, a line out for its answer.
 * A date travels as `{"$date": "<ISO>"}` in both directions, and so is told from a text that reads like one.
 */
import { createInterface } from "node:readline";
import { ConvexServerCache, ConvexStore, ConvexVector } from "@mastra/convex";
import { type Place } from "./program";

interface Call {
  client: string;
  method: string;
  args: unknown[];
}

type Methods = Record<string, (...args: unknown[]) => Promise<unknown>>;

function clients(place: Place): Record<string, object> {
  const store = new ConvexStore({ id: "npm", ...place });
  const vector = new ConvexVector({ id: "npm vectors", ...place });
  return { ...store.stores, vector, cache: new ConvexServerCache({ ...place, keyPrefix: "interop:", ttlMs: 60_000 }) };
}

function withDates(_key: string, value: unknown): unknown {
  const date = value !== null && typeof value === "object" && "$date" in value ? value.$date : undefined;
  return typeof date === "string" ? new Date(date) : value;
}

/** `JSON.stringify` asks dates for their text before it asks a replacer, which finds the date itself in `this`. */
function datesTold(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const held = this[key];
  return held instanceof Date ? { $date: held.toISOString() } : value;
}

const [deploymentUrl, adminAuthToken] = process.argv.slice(2) as [string, string];
const known = clients({ deploymentUrl, adminAuthToken });

for await (const line of createInterface(process.stdin)) {
  const { client, method, args } = JSON.parse(line, withDates) as Call;
  let answer: object;
  try {
    answer = { value: (await (known[client] as Methods)[method]!(...args)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer, datesTold)}\n`);
}
