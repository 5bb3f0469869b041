/**
 * The operations that every table has.
 */
import { convexToJson, jsonToConvex, type JSONValue } from "convex/values";
import type { Bound, Document, Fields } from "../../orm/protocol";
import { invalid, refusal } from "./errors";
import type { Context, Operations } from "./operation";
import { forgetThread, generationFor, moveThread, putGeneration } from "./generations";
import { OBSERVATIONS, placeOf, THREADS, VECTOR_INDEXES, vectorsOf, type Place } from "./places";
import type { Equality, Records } from "./records";
import { idsIn, objectIn, objectsIn, optionalCountIn, optionalTextIn, textIn, type Request } from "./request";

export const anyTable: Operations = {
  async insert(context, request) {
    await store(context, [objectIn(request, "record")]);
    return {};
  },

  async batchInsert(context, request) {
    await store(context, objectsIn(request, "records"));
    return {};
  },

  async patch({ records, place }, request) {
    const changes = objectIn(request, "record");
    await requireDimension(records, place, [changes]);
    const found = await records.find(place, place.keyOf(textIn(request, "id")));
    if (found === null) return { result: false };
    const old = place.table === OBSERVATIONS ? await generationFor(records, found, changes) : found;
    await records.replace(place.table, old, place.changed(old, changes));
    return { result: true };
  },

  async load({ records, place }, request) {
    const { id, ...others } = objectIn(request, "keys");
    const equalities = Object.entries(others).map(([field, value]): Equality => ({ field, value }));
    if (id === undefined && equalities.length === 0) throw invalid("keys", "at least one field and its value");
    const [document] =
      id === undefined
        ? await records.all({ ...records.spanOf(place, equalities), limit: 1 })
        : [await records.find(place, place.keyOf(String(id)))];
    const found = document ? place.recordOf(document) : null;
    return { result: found && equalities.every(({ field, value }) => found[field] === value) ? found : null };
  },

  async loadMany({ records, place }, request) {
    const found: Fields[] = [];
    for (const id of idsIn(request)) {
      const document = await records.find(place, place.keyOf(id));
      if (document) found.push(place.recordOf(document));
    }
    return { result: found };
  },

  async queryTable({ records, place }, request) {
    const span = records.spanOf(place, equalitiesIn(request));
    const pageSize = optionalCountIn(request, "pageSize");
    const limit = optionalCountIn(request, "limit");
    const recordsOf = (documents: Document[]) => documents.map((document) => place.recordOf(document));
    if (pageSize === undefined) {
      if (request["cursor"] != null) throw invalid("pageSize", "given with a cursor");
      const found = await records.all({ ...span, ...(limit === undefined ? {} : { limit }) });
      return { result: recordsOf(found) };
    }
    if (pageSize === 0) throw invalid("pageSize", "1 or more");
    if (limit !== undefined) throw invalid("limit", "absent where there is a pageSize");
    const { documents, next } = await records.page(span, pageSize, positionOf(optionalTextIn(request, "cursor")));
    return { result: recordsOf(documents), hasMore: next !== null, continuationCursor: next && cursorOf(next) };
  },

  clearTable: clear,
  dropTable: clear,

  async deleteMany({ records, place }, request) {
    for (const id of idsIn(request)) {
      const document = await records.find(place, place.keyOf(id));
      if (document) await records.delete(place.table, document);
      // What was observed in a thread ends with it, or it would be there for the next thread with its id.
      if (place.table === THREADS) await forgetThread(records, id);
    }
    return {};
  },
};

async function clear({ records, place }: Context) {
  return { hasMore: await records.deleteSome(records.spanOf(place, [])) };
}

/** Stores records whole, all or none; of several with one key the last. */
async function store({ records, place }: Context, given: Fields[]): Promise<void> {
  await requireDimension(records, place, given);
  const last = new Map(given.map((record) => [JSON.stringify(place.keyOfRecord(record)), record]));
  const writes: { old: Document | null; fields: Fields }[] = [];
  for (const record of last.values()) {
    const old = await records.find(place, place.keyOfRecord(record));
    const fields = place.documentOf(record, old);
    records.require(place.table, fields);
    writes.push({ old, fields });
  }
  for (const { old, fields } of writes) {
    if (place.table === OBSERVATIONS) {
      await putGeneration(records, place, old, fields);
      continue;
    }
    await records.put(place.table, old, fields);
    const owner = fields["resourceId"];
    if (place.table === THREADS && old !== null && old["resourceId"] !== owner) {
      await moveThread(records, String(fields["id"]), String(owner));
    }
  }
}

/** Throws if one of the vectors has another dimension than the index they go to; the npm client needs no index for vectors. */
async function requireDimension(records: Records, place: Place, given: Fields[]): Promise<void> {
  if (place.indexName === undefined) return;
  const indexes = placeOf(records.catalog, VECTOR_INDEXES);
  const dimension = (await records.find(indexes, indexes.keyOf(place.indexName)))?.["dimension"];
  const actual = given.map(lengthOf).find((length) => length !== undefined && length !== dimension);
  if (dimension === undefined || actual === undefined) return;
  throw refusal("Invalid", `Vector index "${place.indexName}" has ${dimension} dimensions, the vector has ${actual}.`, {
    indexName: place.indexName,
    dimension,
    actual,
  });
}

const lengthOf = ({ embedding }: Fields): number | undefined =>
  Array.isArray(embedding) ? embedding.length : undefined;

/** The equalities of a query: its filters, and those that an index hint names. */
function equalitiesIn(request: Request): Equality[] {
  const filters = request["filters"] == null ? [] : objectsIn(request, "filters");
  const hint = request["indexHint"] == null ? {} : objectIn(request, "indexHint");
  const equalities = filters.map((filter): Equality => {
    if (filter["value"] === undefined) throw invalid("a filter", "a field and the value it must have");
    return { field: textIn(filter, "field"), value: filter["value"] };
  });
  const hinted = Object.entries(HINTS).filter(([name]) => hint[name] !== undefined);
  return [...equalities, ...hinted.map(([name, field]): Equality => ({ field, value: hint[name]! }))];
}

const HINTS = { workflowName: "workflow_name", runId: "run_id" };

const cursorOf = (key: Bound[]): string => JSON.stringify(convexToJson(key));

function positionOf(cursor: string | undefined): Bound[] {
  if (cursor === undefined) return [];
  try {
    const key = jsonToConvex(JSON.parse(cursor) as JSONValue);
    if (Array.isArray(key) && key.every((bound) => Array.isArray(bound) && bound.length <= 1)) return key as Bound[];
  } catch {
    // What follows says it.
  }
  throw invalid("cursor", "one that a page of this query ended with");
}

/**
 * `mastra_vector_indexes` names two things to the npm client: the list of vector indexes, and the vectors of an index called
 * `indexes`. What the request holds tells which: only vectors have embeddings, are read by pages, or are cleared; only the list is read
 * whole. An id is looked for in the list first.
 */
export async function meant(records: Records, place: Place, request: Request): Promise<Place> {
  if (place.table !== VECTOR_INDEXES) return place;
  const vectors = vectorsOf(records.catalog, "indexes");
  const sent = [request["record"], ...(Array.isArray(request["records"]) ? request["records"] : [])];
  const isVector = sent.some((record) => typeof record === "object" && record !== null && "embedding" in record);
  const ofVectors = ["clearTable", "dropTable"].includes(String(request["op"]));
  if (isVector || ofVectors || request["pageSize"] !== undefined) return vectors;
  const ids = [idIn(request["keys"]), request["id"], ...(Array.isArray(request["ids"]) ? request["ids"] : [])];
  const known = ids.filter((id): id is string => typeof id === "string");
  for (const id of known) if (await records.find(place, place.keyOf(id))) return place;
  return known.length > 0 ? vectors : place;
}

const idIn = (keys: Request[string]) =>
  typeof keys === "object" && keys !== null && "id" in keys ? keys["id"] : undefined;
