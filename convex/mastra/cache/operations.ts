/**
 * What the cache does, one handler an operation. An answer with `hasMore` asks the client to send the request again.
 */
import type { Value } from "convex/values";
import { invalid, refusal } from "../storage/errors";
import { numberIn, textIn, type Request } from "../storage/request";
import { decoded, encoded, type Entries, type Entry, type Kind } from "./entries";

export interface Answer {
  result?: Value;
  hasMore?: boolean;
}

type Operation = (entries: Entries, request: Request) => Promise<Answer>;

export const OPERATIONS: Record<string, Operation> = {
  async get(entries, request) {
    const { entry, rest } = await entries.live(textIn(request, "key"));
    if (rest) return { result: null, hasMore: true };
    return { result: entry?.kind === "value" ? decoded(entry["value"]) : null };
  },

  /** Takes the place of whatever is there. */
  async set(entries, request) {
    const [key, keyPrefix] = [textIn(request, "key"), textIn(request, "keyPrefix")];
    let { entry, rest } = await entries.live(key, keyPrefix);
    if (entry !== null && entry.kind !== "value") {
      rest = await entries.delete(key, keyPrefix);
      entry = null;
    }
    if (rest) return { hasMore: true };
    await entries.put(entry, { ...head(request, "value"), value: encoded(request["value"]) });
    return {};
  },

  async listLength(entries, request) {
    const { entry, rest } = await entries.live(textIn(request, "key"));
    if (rest) return { result: 0, hasMore: true };
    return { result: countOf(ofKind(entry, "list", request)) };
  },

  async listPush(entries, request) {
    const { entry, rest } = await entries.live(textIn(request, "key"), textIn(request, "keyPrefix"));
    if (rest) return { hasMore: true };
    const index = countOf(ofKind(entry, "list", request));
    const { key, keyPrefix, ...others } = head(request, "list");
    const element = { key, keyPrefix, index, value: encoded(request["value"]) };
    await entries.append(element);
    await entries.prolong(entry, { key, keyPrefix, ...others, counter: index + 1 });
    return {};
  },

  /** Elements between two positions, both included; negative ones count from the end. */
  async listFromTo(entries, request) {
    const { entry, rest } = await entries.live(textIn(request, "key"));
    if (rest) return { result: [], hasMore: true };
    if (entry?.kind !== "list") return { result: [] };
    const length = countOf(entry);
    const position = (name: string) => {
      const value = numberIn(request, name);
      return value < 0 ? length + value : value;
    };
    const [from, to] = [Math.max(position("from"), 0), position("to")];
    return { result: to < from || from >= length ? [] : await entries.elements(entry, from, to) };
  },

  async delete(entries, request) {
    return { hasMore: await entries.delete(textIn(request, "key")) };
  },

  async clear(entries, request) {
    return { hasMore: await entries.clear(textIn(request, "keyPrefix")) };
  },

  async increment(entries, request) {
    const { entry, rest } = await entries.live(textIn(request, "key"), textIn(request, "keyPrefix"));
    if (rest) return { hasMore: true };
    const counter = countOf(ofKind(entry, "counter", request)) + 1;
    await entries.prolong(entry, { ...head(request, "counter"), counter });
    return { result: counter };
  },
};

/** What every entry has. Null is an entry without end. */
function head(request: Request, kind: Kind) {
  const expiresAt = request["expiresAt"] ?? null;
  if (expiresAt !== null && typeof expiresAt !== "number") throw invalid("expiresAt", "a number or null");
  return { key: textIn(request, "key"), keyPrefix: textIn(request, "keyPrefix"), kind, expiresAt };
}

const WORDS = { list: "an array", counter: "a number" };

/** The entry, which is of the kind that the operation needs if it is there. */
function ofKind(entry: Entry | null, kind: keyof typeof WORDS, request: Request): Entry | null {
  if (entry === null || entry.kind === kind) return entry;
  throw refusal("Conflict", `${textIn(request, "key")} exists but is not ${WORDS[kind]}`, { kind: entry.kind });
}

const countOf = (entry: Entry | null): number => (typeof entry?.["counter"] === "number" ? entry["counter"] : 0);
