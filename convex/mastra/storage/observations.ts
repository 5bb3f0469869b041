/**
 * Observational memory: generations of what was observed in a thread or of a resource, and chunks that wait to become active.
 *
 * Each operation reads and writes in one mutation, so a chunk that is appended while others are swapped in is kept.
 */
import type { Value } from "convex/values";
import type { Document, Fields, Filter } from "../../orm/protocol";
import { activated, type Chunk } from "./activation";
import { refusal } from "./errors";
import { current as generationOf, follow, generationsOf, isOfThread, latestOf } from "./generations";
import { only, type Context, type Operations } from "./operation";
import { OBSERVATIONS } from "./places";
import {
  jsonObjectIn,
  numberIn,
  objectIn,
  objectsIn,
  optionalCountIn,
  optionalTextIn,
  textIn,
  type Request,
} from "./request";

type JsonObject = Record<string, unknown>;

export const observations: Operations = only(OBSERVATIONS, {
  async omGetLatest({ records, place }, request) {
    const latest = await latestOf(records, textIn(request, "lookupKey"));
    return { result: latest && (await isOfThread(records, latest)) ? place.recordOf(latest) : null };
  },

  async omGetHistory({ records, place }, request) {
    const lookupKey = textIn(request, "lookupKey");
    const latest = await latestOf(records, lookupKey);
    if (latest === null || !(await isOfThread(records, latest))) return { result: [] };
    const skip = optionalCountIn(request, "offset");
    const history = await records.all({
      ...generationsOf(lookupKey),
      ...between(optionalTextIn(request, "from"), optionalTextIn(request, "to")),
      ...(skip === undefined ? {} : { skip }),
      limit: optionalCountIn(request, "limit") ?? 0,
    });
    return { result: history.map((each) => place.recordOf(each)) };
  },

  async omUpdateActive(context, request) {
    const record = await required(context, textIn(request, "id"), false);
    const tokens = Math.max(0, tokensOf(request["tokenCount"]));
    await change(context, record, {
      activeObservations: textIn(request, "observations"),
      lastObservedAt: textIn(request, "lastObservedAt"),
      // They have been observed now.
      pendingMessageTokens: 0,
      observationTokenCount: tokens,
      totalTokensObserved: tokensOf(record["totalTokensObserved"]) + tokens,
      observedMessageIds: request["observedMessageIds"] ?? null,
      updatedAt: textIn(request, "updatedAt"),
    });
    return {};
  },

  /** A chunk of a cycle that is buffered or active already is the same chunk sent again. */
  async omAppendBufferedChunk(context, request) {
    const chunk = objectIn(request, "chunk") as unknown as Chunk;
    const record = await required(context, textIn(request, "id"), true);
    const chunks = chunksOf(record);
    const cycles = [...chunks.map(({ cycleId }) => cycleId), ...activatedIn(record)];
    const isKnown = chunk.cycleId !== undefined && cycles.includes(chunk.cycleId);
    const time = optionalTextIn(request, "lastBufferedAtTime");
    await change(context, record, {
      ...(isKnown ? {} : { bufferedObservationChunks: JSON.stringify([...chunks, chunk]) }),
      ...(time === undefined ? {} : { lastBufferedAtTime: time }),
      updatedAt: textIn(request, "updatedAt"),
    });
    return {};
  },

  async omSwapBuffered(context, request) {
    const record = await required(context, textIn(request, "id"), true);
    const { chunks, appended } = known(chunksOf(record), request);
    if (chunks.length === 0) return { result: summary([]) };

    const count = activated(chunks, {
      activationRatio: numberIn(request, "activationRatio"),
      messageTokensThreshold: numberIn(request, "messageTokensThreshold"),
      currentPendingTokens: numberIn(request, "currentPendingTokens"),
      forceMaxActivation: request["forceMaxActivation"] === true,
    });
    const [active, waiting] = [chunks.slice(0, count), [...chunks.slice(count), ...appended]];
    const result = summary(active);
    const now = textIn(request, "now");
    const time = optionalTextIn(request, "lastObservedAt") ?? active.at(-1)?.lastObservedAt ?? now;
    const before = String(record["activeObservations"] ?? "");
    const boundary = `\n\n--- message boundary (${time}) ---\n\n`;
    await change(context, record, {
      activeObservations: before === "" ? result.observations : before + boundary + result.observations,
      observationTokenCount: tokensOf(record["observationTokenCount"]) + result.observationTokensActivated,
      pendingMessageTokens: Math.max(0, tokensOf(record["pendingMessageTokens"]) - result.messageTokensActivated),
      bufferedObservationChunks: waiting.length === 0 ? null : JSON.stringify(waiting),
      activatedCycleIds: JSON.stringify([...activatedIn(record), ...result.activatedCycleIds].slice(-REMEMBERED)),
      lastObservedAt: time,
      updatedAt: now,
    });
    return { result };
  },

  async omUpdateBufferedReflection(context, request) {
    const record = await required(context, textIn(request, "id"), false);
    const before = String(record["bufferedReflection"] ?? "");
    const reflection = textIn(request, "reflection");
    await change(context, record, {
      bufferedReflection: before === "" ? reflection : `${before}\n\n${reflection}`,
      bufferedReflectionTokens: tokensOf(record["bufferedReflectionTokens"]) + numberIn(request, "tokenCount"),
      bufferedReflectionInputTokens:
        tokensOf(record["bufferedReflectionInputTokens"]) + numberIn(request, "inputTokenCount"),
      reflectedObservationLineCount: numberIn(request, "reflectedObservationLineCount"),
      updatedAt: textIn(request, "updatedAt"),
    });
    return {};
  },

  /** Begins a generation with the reflection in place of the lines that it reflects on. */
  async omSwapBufferedReflection(context, request) {
    const { records, place } = context;
    const current = objectIn(request, "currentRecord");
    const now = textIn(request, "now");
    const given = await found(context, textIn(current, "id"));
    const reflection = String(given["bufferedReflection"] ?? "");
    if (reflection === "") throw refusal("NotFound", "No buffered reflection to swap");
    const record = await generationOf(records, given, false);
    const lines = String(record["activeObservations"] ?? "").split("\n");
    const rest = lines.slice(tokensOf(record["reflectedObservationLineCount"])).join("\n").trim();

    const generation: Fields = {
      ...Object.fromEntries(CARRIED.map((field) => [field, current[field] ?? null])),
      id: textIn(request, "newId"),
      resourceId: record["resourceId"] ?? null,
      generationCount: tokensOf(record["generationCount"]) + 1,
      activeObservations: rest === "" ? reflection : `${reflection}\n\n${rest}`,
      activeObservationsPendingUpdate: null,
      originType: "reflection",
      lastReflectionAt: now,
      pendingMessageTokens: 0,
      observationTokenCount: numberIn(request, "tokenCount"),
      isObserving: false,
      isReflecting: false,
      isBufferingObservation: false,
      isBufferingReflection: false,
      lastBufferedAtTokens: 0,
      lastBufferedAtTime: null,
      createdAt: now,
      updatedAt: now,
    };
    const following = await follow(records, place, record, generation, {
      bufferedReflection: null,
      bufferedReflectionTokens: null,
      bufferedReflectionInputTokens: null,
      reflectedObservationLineCount: null,
    });
    return { result: following };
  },

  async omUpdateConfig(context, request) {
    const record = await required(context, textIn(request, "id"), true);
    const config = merged(configOf(record), jsonObjectIn(request, "config"));
    await change(context, record, { config: JSON.stringify(config), updatedAt: textIn(request, "updatedAt") });
    return {};
  },
});

/** What a generation takes over from the one before. */
const CARRIED = [
  "lookupKey",
  "scope",
  "resourceId",
  "threadId",
  "config",
  "metadata",
  "observedTimezone",
  "lastObservedAt",
  "totalTokensObserved",
];

/** Those created in a time, both ends included; the order of ISO times is that of their texts. */
function between(from: string | undefined, to: string | undefined): { filter?: Filter } {
  const args: Filter[] = [];
  if (from !== undefined) args.push({ op: "gte", field: "createdAt", value: [from] });
  if (to !== undefined) args.push({ op: "lte", field: "createdAt", value: [to] });
  return args.length === 0 ? {} : { filter: { op: "and", args } };
}

async function found({ records, place }: Context, id: string): Promise<Document> {
  const record = await records.find(place, place.keyOf(id));
  if (record === null) throw refusal("NotFound", `Observational memory record not found: ${id}`, { id });
  return record;
}

/** The record with this id, or with `forward` the latest that followed it. */
async function required(context: Context, id: string, forward: boolean): Promise<Document> {
  return await generationOf(context.records, await found(context, id), forward);
}

async function change({ records, place }: Context, record: Document, changes: Record<string, Value>): Promise<void> {
  await records.replace(place.table, record, place.changed(record, changes));
}

const tokensOf = (value: Value | undefined): number =>
  typeof value === "number" && Number.isFinite(value) ? value : 0;

function chunksOf(record: Document): Chunk[] {
  const chunks = parsed(record["bufferedObservationChunks"]);
  return Array.isArray(chunks) ? (chunks as Chunk[]) : [];
}

/** Cycles that became active last: one that is sent again comes soon. */
function activatedIn(record: Document): string[] {
  const cycles = parsed(record["activatedCycleIds"]);
  return Array.isArray(cycles) ? (cycles as string[]) : [];
}

const REMEMBERED = 1_000;

/**
 * The buffered chunks that may become active, with what the caller has counted anew, and those that wait in any case: appended since the
 * caller read. What the caller still knows and another call has swapped meanwhile is not buffered any more.
 */
function known(buffered: Chunk[], request: Request): { chunks: Chunk[]; appended: Chunk[] } {
  if (request["bufferedChunks"] == null) return { chunks: buffered, appended: [] };
  const given = objectsIn(request, "bufferedChunks") as unknown as Chunk[];
  const sent = new Map(given.map((chunk) => [identity(chunk), chunk]));
  return {
    chunks: buffered.flatMap((chunk) => sent.get(identity(chunk)) ?? []),
    appended: buffered.filter((chunk) => !sent.has(identity(chunk))),
  };
}

const identity = ({ id, cycleId }: Chunk): string => id ?? `cycle ${cycleId}`;

function summary(chunks: Chunk[]) {
  const sum = (count: (chunk: Chunk) => number) => chunks.reduce((total, chunk) => total + count(chunk), 0);
  const latest = chunks.at(-1);
  return {
    chunksActivated: chunks.length,
    messageTokensActivated: sum(({ messageTokens }) => messageTokens ?? 0),
    observationTokensActivated: sum(({ tokenCount }) => tokenCount),
    messagesActivated: sum(({ messageIds }) => messageIds?.length ?? 0),
    activatedCycleIds: chunks.flatMap(({ cycleId }) => cycleId || []),
    activatedMessageIds: chunks.flatMap(({ messageIds }) => messageIds ?? []),
    observations: chunks.map((chunk) => chunk.observations).join("\n\n"),
    perChunk: chunks.map((chunk) => ({
      cycleId: chunk.cycleId ?? "",
      messageTokens: chunk.messageTokens ?? 0,
      observationTokens: chunk.tokenCount,
      messageCount: chunk.messageIds?.length ?? 0,
      observations: chunk.observations,
    })),
    // Hints of older chunks are stale.
    ...(latest?.suggestedContinuation == null ? {} : { suggestedContinuation: latest.suggestedContinuation }),
    ...(latest?.currentTask == null ? {} : { currentTask: latest.currentTask }),
  };
}

/** A configuration with another over it, object by object. */
function merged(target: JsonObject, source: JsonObject): JsonObject {
  const entries = Object.entries(source).map(([key, value]) => {
    const before = Object.hasOwn(target, key) ? target[key] : undefined;
    return [key, isObject(before) && isObject(value) ? merged(before, value) : value];
  });
  return { ...target, ...Object.fromEntries(entries) };
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The stored configuration. Throws for one that nothing can be merged into without losing it. */
function configOf(record: Document): JsonObject {
  const stored = record["config"];
  const value = stored == null || stored === "" ? {} : parsed(stored);
  if (isObject(value)) return value;
  throw refusal("Conflict", "The stored configuration is no object, so nothing can be merged into it.", {
    id: String(record["id"]),
  });
}

function parsed(stored: Value | undefined): unknown {
  try {
    return typeof stored === "string" ? JSON.parse(stored) : undefined;
  } catch {
    return undefined;
  }
}
