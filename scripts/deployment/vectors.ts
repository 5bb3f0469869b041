/**
 * Vector search, exactly: the documents of a table that have a vector in the index, by cosine similarity.
 */
import type { Backend } from "./backend";
import { END } from "./keys";
import { evaluate, type FilterJSON } from "./queries";
import { valueAt } from "./store";

interface VectorQuery {
  indexName: string;
  vector: number[];
  limit: number;
  expressions: FilterJSON | null;
}

const MAXIMUM_RESULTS = 256;

/** The ids and scores of the nearest, best first; a document without a vector of the right length is passed over. */
export function nearest(backend: Backend, query: VectorQuery): { _id: string; _score: number }[] {
  const { indexName, vector, limit, expressions } = query;
  const [tableName = "", name = ""] = indexName.split(".");
  const table = backend.tables.get(tableName);
  const index = table.vectorIndexes.find(({ indexDescriptor }) => indexDescriptor === name);
  if (index === undefined) throw new Error(`Index ${indexName} not found.`);
  if (vector.length !== index.dimensions) {
    throw new Error(`The index has ${index.dimensions} dimensions, the vector has ${vector.length}`);
  }
  if (limit < 1 || limit > MAXIMUM_RESULTS) throw new Error(`Vector queries can have a limit of 1 to ${MAXIMUM_RESULTS}`);
  requireFilterFields(expressions, index.filterFields);
  const found: { _id: string; _score: number }[] = [];
  const tree = backend.tree(table.name, "by_creation_time");
  for (let entry = tree.first("", END); entry !== undefined; entry = tree.first(`${entry[0]}\u0000`, END)) {
    const { value } = entry[1];
    const stored = valueAt(value, index.vectorField);
    if (!Array.isArray(stored) || stored.length !== index.dimensions) continue;
    if (expressions !== null && evaluate(expressions, value) !== true) continue;
    found.push({ _id: value._id, _score: cosine(vector, stored as number[]) });
    entry[1].rest();
  }
  return found.sort((left, right) => right._score - left._score).slice(0, limit);
}

function requireFilterFields(expression: FilterJSON | null, fields: readonly string[]): void {
  if (expression === null) return;
  const { $or, $eq } = expression as { $or?: FilterJSON[]; $eq?: FilterJSON[] };
  for (const each of $or ?? []) requireFilterFields(each, fields);
  const field = $eq?.map((each) => each["$field"]).find((each) => typeof each === "string");
  if (field !== undefined && !fields.includes(field as string)) throw new Error(`"${field}" is no filter field of the index`);
}

function cosine(left: readonly number[], right: readonly number[]): number {
  let product = 0;
  let [leftSquares, rightSquares] = [0, 0];
  for (let place = 0; place < left.length; place++) {
    const [a, b] = [left[place]!, right[place]!];
    product += a * b;
    leftSquares += a * a;
    rightSquares += b * b;
  }
  return leftSquares === 0 || rightSquares === 0 ? 0 : product / (Math.sqrt(leftSquares) * Math.sqrt(rightSquares));
}
