/**
 * Vector search: the nearest documents by a native vector index, which Convex offers to actions only.
 *
 * An action has no database, so the documents are read through `read`, in as many calls as its budget takes.
 */
import { makeFunctionReference, type AnyDataModel, type GenericActionCtx } from "convex/server";
import { getDocumentSize } from "convex/values";
import type { Catalog } from "./catalog";
import { invalid, otherIndex, overLimit, unknownIndex } from "./errors";
import { RESULT_BYTES, VERSION } from "./limits";
import { isNumbers } from "./packed";
import type { Bound, Document, Read, Result, Search } from "./protocol";

/** The function `read` of a module. */
export const readAt = (module: string) =>
  makeFunctionReference<"query", { version: number; reads: Read[] }, { results: Result[] }>(`${module}:read`);

type ReadFunction = ReturnType<typeof readAt>;
type ActionCtx = GenericActionCtx<AnyDataModel>;
type Found = { _id: string; _score: number };

/**
 * Scores and documents, best first. The index chooses the documents; the scores are those of the documents as they are read, which
 * leaves out what has been deleted since the search.
 */
export async function hits(
  ctx: ActionCtx,
  catalog: Catalog,
  read: ReadFunction,
  request: Search,
): Promise<[number, Document][]> {
  requireAssumed(catalog, request);
  const query = { ...request, numbers: nearOne(request.numbers) };
  const found = await nearest(ctx, query);
  const documents = await documentsById(ctx, read, request.table, found);
  return found
    .flatMap(({ _id }): [number, Document][] => {
      const document = documents.get(_id);
      const vector = document?.[request.field];
      if (document === undefined || !isNumbers(vector) || vector.length !== request.dimensions) return [];
      return [[cosine(query.numbers, nearOne(vector)), document]];
    })
    .sort(([left], [right]) => right - left);
}

/** Throws unless the index is on the field, of the dimensions, and with the filter fields that the request takes it to have. */
function requireAssumed(catalog: Catalog, { table, index, field, dimensions, filter = [] }: Search): void {
  const deployed = catalog.vectorIndex(table, index);
  const filtered = [...new Set(filter.map((each) => each.field))];
  const isAssumed =
    deployed.vectorField === field &&
    deployed.dimensions === dimensions &&
    filtered.every((each) => deployed.filterFields.includes(each));
  if (isAssumed) return;
  const words = (vectorField: string, numbers: number, filterFields: string[]) => [
    vectorField,
    `${numbers} dimensions`,
    ...filterFields.map((each) => `filter ${each}`),
  ];
  const own = words(deployed.vectorField, deployed.dimensions, deployed.filterFields);
  throw otherIndex(table, index, words(field, dimensions, filtered), own);
}

/** A vector of the same direction whose largest number is near to one, so that no square of its numbers is beyond a float. */
function nearOne(vector: number[]): number[] {
  const largest = vector.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
  return largest === 0 ? vector : vector.map((each) => each / largest);
}

/** The cosine of two vectors, 0 where one of them is all zeros and has no direction. */
function cosine(left: number[], right: number[]): number {
  const product = (a: number[], b: number[]) => a.reduce((sum, each, place) => sum + each * b[place]!, 0);
  const lengths = Math.sqrt(product(left, left)) * Math.sqrt(product(right, right));
  return lengths === 0 ? 0 : product(left, right) / lengths;
}

async function documentsById(
  ctx: ActionCtx,
  read: ReadFunction,
  table: string,
  found: Found[],
): Promise<Map<string, Document>> {
  const documents = new Map<string, Document>();
  let missing = found.map(({ _id }) => _id);
  let bytes = 0;
  while (missing.length > 0) {
    const reads = missing.map((id): Read => ({ table, index: "by_id", eq: [[id]], limit: 1 }));
    const { results } = await ctx.runQuery(read, { version: VERSION, reads });
    for (const document of results.flatMap((result) => result.docs)) {
      documents.set(document._id, document);
      bytes += getDocumentSize(document);
    }
    if (bytes > RESULT_BYTES) throw overLimit("resultBytes", RESULT_BYTES, bytes);
    missing = missing.filter((_, position) => results[position]!.next !== null);
  }
  return documents;
}

/** The part of a vector filter builder that is used, for fields that are only known at run time. */
interface FilterBuilder {
  eq(field: string, value: Bound[0]): unknown;
  or(...clauses: unknown[]): unknown;
}

/** `ctx.vectorSearch`, for tables and indexes that are only known at run time. */
type VectorSearch = (
  table: string,
  index: string,
  query: { vector: number[]; limit: number; filter?: (builder: FilterBuilder) => unknown },
) => Promise<Found[]>;

async function nearest(ctx: ActionCtx, { table, index, numbers, limit, filter }: Search): Promise<Found[]> {
  const vectorSearch = ctx.vectorSearch as unknown as VectorSearch;
  const anyOf = (builder: FilterBuilder) =>
    builder.or(...(filter ?? []).map(({ field, value }) => builder.eq(field, value[0])));
  try {
    return await vectorSearch(table, index, { vector: numbers, limit, ...(filter?.length ? { filter: anyOf } : {}) });
  } catch (error) {
    throw refusalOf(error, table, index);
  }
}

/** Convex tells what is wrong with a vector search only in words. */
function refusalOf(error: unknown, table: string, index: string): unknown {
  const words = error instanceof Error ? error.message : "";
  if (/dimension/i.test(words)) return invalid("request.vector", "as long as the index has dimensions");
  if (/filter/i.test(words)) return invalid("request.filter", "on filter fields of the index");
  return /index/i.test(words) ? unknownIndex(table, index) : error;
}
