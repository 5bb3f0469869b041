/**
 * Generations of observational memory: whose they are, which is the latest, and how one follows another.
 *
 * Those with one lookup key belong to the resource of the latest one. A generation that has a successor is closed: what is noted in it goes
 * to the latest one or is refused. What was observed in a thread goes with the thread.
 */
import type { Document, Fields } from "../../orm/protocol";
import { refusal } from "./errors";
import { OBSERVATIONS, placeOf, THREADS, type Place } from "./places";
import type { Records } from "./records";

/** Fields that are about the memory, whichever generation it has. */
const FORWARDED: ReadonlySet<string> = new Set([
  "pendingMessageTokens",
  "isObserving",
  "isBufferingObservation",
  "lastBufferedAtTokens",
  "updatedAt",
]);

/** What waits to become active, and what is known of what did. */
const WAITING = ["bufferedObservationChunks", "lastBufferedAtTime", "lastBufferedAtTokens"];
const KNOWN = ["activatedCycleIds", "claims", "isObserving", "isBufferingObservation"];

/** The span of a memory's generations, the latest first. */
export const generationsOf = (lookupKey: string) => ({
  table: OBSERVATIONS,
  index: "by_lookup_key",
  eq: [[lookupKey] as [string]],
  order: "desc" as const,
});

export async function latestOf(records: Records, lookupKey: string): Promise<Document | null> {
  const [latest] = await records.all({ ...generationsOf(lookupKey), limit: 1 });
  return latest ?? null;
}

/** Whether the generations with a key are those of the thread that there is: one with another resource's memory has none. */
export async function isOfThread(records: Records, latest: Document): Promise<boolean> {
  const threadId = latest["threadId"];
  if (typeof threadId !== "string") return true;
  const place = placeOf(records.catalog, THREADS);
  const thread = await records.find(place, place.keyOf(threadId));
  return thread === null || thread["resourceId"] === latest["resourceId"];
}

/** The record itself, or where it has a successor, and `forward`, the latest; throws where that is not to be. */
export async function current(records: Records, record: Document, forward: boolean): Promise<Document> {
  const latest = await latestOf(records, String(record["lookupKey"]));
  if (latest === null || latest["_id"] === record["_id"]) return record;
  if (forward && latest["resourceId"] === record["resourceId"]) return latest;
  throw refusal("Conflict", "This generation of observational memory has a successor.", {
    id: String(record["id"]),
    successor: String(latest["id"]),
  });
}

/** The generation that a change of some fields of a record is meant for. */
export async function generationFor(records: Records, record: Document, changes: Fields): Promise<Document> {
  const isForwarded = Object.keys(changes).every((field) => FORWARDED.has(field));
  return isForwarded ? await current(records, record, true) : record;
}

/** Stores a generation whole. One that begins a memory, or follows another, is refused where there is one already. */
export async function putGeneration(records: Records, place: Place, old: Document | null, fields: Fields): Promise<void> {
  const latest = await latestOf(records, String(fields["lookupKey"]));
  for (const other of [old, latest]) {
    if (other !== null && other["resourceId"] !== fields["resourceId"]) {
      throw refusal("Conflict", "This observational memory is another resource's.", { id: String(other["id"]) });
    }
  }
  // A copy says what waits in it; who begins a memory or a generation does not.
  const isCopy = old !== null || fields["bufferedObservationChunks"] !== undefined;
  if (isCopy) return await records.put(place.table, old, fields);
  if (fields["originType"] !== "reflection") {
    if (latest === null) return await records.insert(place.table, fields);
    throw refusal("Exists", "There is observational memory already.", { id: String(latest["id"]) });
  }
  if (latest === null) {
    if (fields["threadId"] == null) return await records.insert(place.table, fields);
    throw refusal("NotFound", "The memory of this thread is gone: what was reflected on was deleted.");
  }
  if (Number(latest["generationCount"]) >= Number(fields["generationCount"])) {
    throw refusal("Conflict", "This generation of observational memory has a successor.", { id: String(latest["id"]) });
  }
  await follow(records, place, latest, fields);
}

/** Inserts the generation after another, to which what waits in that goes over. */
export async function follow(
  records: Records,
  place: Place,
  record: Document,
  fields: Fields,
  changes: Fields = {},
): Promise<Fields> {
  const hasWaiting = record["bufferedObservationChunks"] != null;
  const carried = [...KNOWN, ...(hasWaiting ? WAITING : [])].filter((field) => record[field] !== undefined);
  const following = { ...fields, ...Object.fromEntries(carried.map((field) => [field, record[field]!])) };
  await records.insert(place.table, place.documentOf(following, null));
  const left = { ...changes, bufferedObservationChunks: null, updatedAt: fields["updatedAt"]! };
  await records.replace(place.table, record, place.changed(record, left));
  return following;
}

// -- with their thread -----------------------------------------------------------------------------------------------

async function ofThread(records: Records, threadId: string): Promise<{ place: Place; found: Document[] } | null> {
  if (records.catalog.validator(OBSERVATIONS) === undefined) return null;
  const place = placeOf(records.catalog, OBSERVATIONS);
  return { place, found: await records.all(generationsOf(`thread:${threadId}`)) };
}

/** Deletes what was observed in a thread. */
export async function forgetThread(records: Records, threadId: string): Promise<void> {
  const generations = await ofThread(records, threadId);
  for (const each of generations?.found ?? []) await records.delete(OBSERVATIONS, each);
}

/** Gives what was observed in a thread to another resource. */
export async function moveThread(records: Records, threadId: string, resourceId: string): Promise<void> {
  const generations = await ofThread(records, threadId);
  if (generations === null) return;
  for (const each of generations.found) {
    const changes = { resourceId, updatedAt: new Date().toISOString() };
    await records.replace(OBSERVATIONS, each, generations.place.changed(each, changes));
  }
}
