/**
 * The three functions of a native vector store, over the schema they are deployed with: a search is an action, reads are a query,
 * writes a mutation.
 *
 * All are internal: only a caller with the deployment's admin key reaches them.
 */
import {
  internalActionGeneric,
  internalMutationGeneric,
  internalQueryGeneric,
  type GenericSchema,
  type SchemaDefinition,
} from "convex/server";
import { v, type Value } from "convex/values";
import { Catalog } from "../../orm/catalog";
import { readerOf, writerOf, type Reader } from "../../orm/database";
import * as limits from "../../orm/limits";
import { ReadMeter } from "../../orm/meter";
import type { Document, Fields } from "../../orm/protocol";
import { answer } from "../../orm/reads";
import { fieldsOf } from "../../orm/transaction";
import { invalid } from "../storage/errors";
import { answered } from "../storage/payloads";
import { Records } from "../storage/records";
import { config, Index, isObject } from "./config";

const DESCRIBED = 10_000;

// The npm client also knows alternatives, under a key `$or` that Convex lets no arguments have.
const clause = v.object({ field: v.string(), value: v.union(v.string(), v.number(), v.boolean(), v.null()) });

export function vectorFunctions(schema: SchemaDefinition<GenericSchema, boolean>) {
  const catalog = new Catalog(schema);

  /** The ids and scores of the nearest vectors, best first. */
  const query = internalActionGeneric({
    args: {
      config,
      vector: v.array(v.number()),
      limit: v.optional(v.number()),
      filter: v.optional(clause),
    },
    handler: async (ctx, { config: given, vector, limit, filter }) => {
      const index = new Index(given);
      index.requireDimension(vector);
      if (limit !== undefined && !(Number.isInteger(limit) && limit >= 1 && limit <= limits.SEARCH_RESULTS)) {
        throw invalid("limit", `a whole number from 1 to ${limits.SEARCH_RESULTS}`);
      }
      const hits = await ctx.vectorSearch(index.table, index.vectorIndex, {
        vector,
        ...(limit === undefined ? {} : { limit }),
        ...(filter === undefined ? {} : { filter: (builder) => builder.eq(filter.field, filter.value as never) }),
      });
      return hits.map(({ _id, _score }) => ({ id: String(_id), score: _score }));
    },
  });

  const read = internalQueryGeneric({
    args: {
      op: v.union(v.literal("getByConvexIds"), v.literal("describe"), v.literal("listByIds")),
      config,
      ids: v.optional(v.array(v.string())),
      includeVector: v.optional(v.boolean()),
      countLimit: v.optional(v.number()),
    },
    handler: async ({ db }, { op, config: given, ids, includeVector, countLimit }) =>
      await READS[op]({ db: readerOf(db), catalog, index: new Index(given), ids, includeVector, countLimit }),
  });

  const write = internalMutationGeneric({
    args: {
      op: v.union(v.literal("upsert"), v.literal("updateById"), v.literal("deleteByIds")),
      config,
      ids: v.optional(v.array(v.string())),
      vectors: v.optional(v.array(v.array(v.number()))),
      metadata: v.optional(v.any()),
      id: v.optional(v.string()),
      vector: v.optional(v.array(v.number())),
    },
    handler: async ({ db }, { op, config: given, ...request }) => {
      const records = new Records(writerOf(db), catalog);
      await WRITES[op](records, new Index(given), request);
      await records.log();
      return { ok: true };
    },
  });

  return { query, read, write };
}

interface Reading {
  db: Reader;
  catalog: Catalog;
  index: Index;
  ids: string[] | undefined;
  includeVector: boolean | undefined;
  countLimit: number | undefined;
}

const READS: Record<"getByConvexIds" | "describe" | "listByIds", (reading: Reading) => Promise<Value>> = {
  /** The documents with these Convex ids, in the order of the ids. */
  async getByConvexIds({ db, index, ids, includeVector }) {
    const found: Value[] = [];
    for (const id of required(ids, "ids")) {
      const document = db.normalizeId(index.table, id) === null ? null : await db.get(index.table, id);
      if (document) found.push(shown(index, document, includeVector === true));
    }
    return found;
  },

  /** How many vectors there are, as far as one call can read. */
  async describe({ db, catalog, index, countLimit }) {
    const limit = Math.max(1, Math.min(countLimit ?? DESCRIBED, DESCRIBED));
    const span = { table: index.table, index: "by_creation_time", count: true, limit, peek: true };
    const { count, more, next } = await answer(db, catalog, new ReadMeter(), span);
    return { count, countIsLimited: more || next !== null };
  },

  /** The documents with these record ids, null where there is none. */
  async listByIds({ db, index, ids }) {
    const found: Value[] = [];
    for (const id of required(ids, "ids")) {
      const document = await firstOf(db, index, id);
      found.push(document && shown(index, document, true));
    }
    return found;
  },
};

interface Writing {
  ids?: string[];
  vectors?: number[][];
  metadata?: Value;
  id?: string;
  vector?: number[];
}

type Write = (records: Records, index: Index, request: Writing) => Promise<void>;

const WRITES: Record<"upsert" | "updateById" | "deleteByIds", Write> = {
  /** Stores vectors whole, all or none; without metadata a vector has none. */
  async upsert(records, index, request) {
    const ids = required(request.ids, "ids");
    const vectors = required(request.vectors, "vectors");
    if (vectors.length !== ids.length) throw invalid("vectors", `as many as the ${ids.length} ids`);
    if (new Set(ids).size !== ids.length) throw invalid("ids", "different from each other");
    const metadata = metadataOfAll(request.metadata, ids.length);
    for (const [position, id] of ids.entries()) {
      const vector = vectors[position]!;
      index.requireDimension(vector);
      const old = await firstOf(records.db, index, id);
      const kept = old === null ? {} : index.withoutMetadata(fieldsOf(old));
      const about = metadata === undefined ? {} : index.fieldsOf(metadata[position]!);
      await records.put(index.table, old, { ...kept, [index.id]: id, [index.vector]: vector, ...about });
    }
  },

  /** Changes a vector, or adds to its metadata; nothing where there is none with this id. */
  async updateById(records, index, { id, vector, metadata }) {
    if (vector) index.requireDimension(vector);
    if (metadata !== undefined && !isObject(metadata)) throw invalid("metadata", "an object");
    const old = await firstOf(records.db, index, required(id, "id"));
    if (old === null || (vector === undefined && metadata === undefined)) return;
    const fields = fieldsOf(old);
    const about =
      metadata === undefined
        ? fields
        : { ...index.withoutMetadata(fields), ...index.fieldsOf({ ...index.metadataOf(fields), ...metadata }) };
    await records.put(index.table, old, { ...about, ...(vector === undefined ? {} : { [index.vector]: vector }) });
  },

  async deleteByIds(records, index, { ids }) {
    for (const id of new Set(required(ids, "ids"))) {
      const document = await firstOf(records.db, index, id);
      if (document) await records.delete(index.table, document);
    }
  },
};

function required<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw invalid(name, "given");
  return value;
}

function metadataOfAll(metadata: Value | undefined, length: number): Fields[] | undefined {
  if (metadata === undefined) return undefined;
  if (Array.isArray(metadata) && metadata.length === length && metadata.every(isObject)) return metadata;
  throw invalid("metadata", `an array of ${length} objects, one for each id`);
}

async function firstOf(db: Reader, index: Index, id: string): Promise<Document | null> {
  const range = db.query(index.table).withIndex(index.idIndex, (builder) => builder.eq(index.id, id));
  for await (const document of range.order("asc")) return document;
  return null;
}

/** A document as the client reads it. */
function shown(index: Index, document: Document, includeVector: boolean): Fields {
  const { [index.vector]: vector, [index.metadata]: metadata, ...others } = document;
  return {
    ...others,
    ...(metadata === undefined ? {} : { [index.metadata]: answered("metadata", metadata) }),
    ...(includeVector && vector !== undefined ? { [index.vector]: vector } : {}),
  };
}
