/**
 * Queries as the npm package writes them for the backend: an index range or a whole table, filters and a limit, and pages of them.
 */
import { compareValues, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { END, keyOf } from "./keys";
import { valueAt, type Stored, type TableDefinition } from "./store";
import type { Transaction } from "./transaction";

interface RangeExpression {
  type: "Eq" | "Gt" | "Gte" | "Lt" | "Lte";
  fieldPath: string;
  value: JSONValue;
}

export interface QueryJSON {
  source:
    | { type: "IndexRange"; indexName: string; range: RangeExpression[]; order: "asc" | "desc" | null }
    | { type: "FullTableScan"; tableName: string; order: "asc" | "desc" | null };
  operators: ({ filter: FilterJSON } | { limit: number })[];
}

/** Documents of a query, one at a time, in the order of its index. */
export class Scan {
  readonly table: TableDefinition;
  readonly index: string;
  readonly #place: number;
  #lower: string;
  #upper: string;
  readonly #begin: string;
  readonly #end: string;
  readonly #descends: boolean;
  readonly #operators: { filter?: FilterJSON; limit?: number }[];
  readonly #passed: number[];
  #isDone = false;
  #isClosed = false;
  /** The key of the last document that was read, whether or not it passed the filters. */
  position: string | undefined;
  rows = 0;
  bytes = 0;

  constructor(
    readonly transaction: Transaction,
    { source, operators }: QueryJSON,
    after?: string,
    until?: string,
  ) {
    const { tables } = transaction.options;
    const [tableName = "", index = ""] =
      source.type === "IndexRange" ? source.indexName.split(".") : [source.tableName, "by_creation_time"];
    this.table = tables.get(tableName);
    this.index = index;
    this.#place = this.table.indexes.findIndex(({ name }) => name === index);
    if (this.#place < 0) throw new Error(`Index ${tableName}.${index} not found.`);
    const { fields } = this.table.indexes[this.#place]!;
    const [lower, upper] = source.type === "IndexRange" ? intervalOf(source.range, fields) : ["", END];
    this.#descends = source.order === "desc";
    this.#lower = this.#descends ? greater(lower, until) : greater(lower, after && `${after}\u0000`);
    this.#upper = this.#descends ? lesser(upper, after) : lesser(upper, until && `${until}\u0000`);
    [this.#begin, this.#end] = [this.#lower, this.#upper];
    this.#operators = operators;
    this.#passed = operators.map(() => 0);
  }

  /** The next document that the filters let through, counted; undefined after the last. */
  next(): Stored | undefined {
    for (let found = this.read(); found !== undefined; found = this.read()) {
      const passes = this.#passes(found);
      if (passes) return found;
      if (passes === undefined) this.#isDone = true;
    }
    return undefined;
  }

  /** The next document of the range, counted. */
  read(): Stored | undefined {
    if (this.#isDone || this.#operators.some(({ limit }, place) => limit !== undefined && this.#passed[place]! >= limit)) {
      return undefined;
    }
    const tree = this.transaction.trees.get(this.table.name, this.index);
    const found = this.#descends ? tree.last(this.#lower, this.#upper) : tree.first(this.#lower, this.#upper);
    if (found === undefined) {
      this.#isDone = true;
      this.#lower = this.#upper;
      return undefined;
    }
    const [key, stored] = found;
    if (this.#descends) this.#upper = key;
    else this.#lower = `${key}\u0000`;
    this.position = key;
    this.rows += 1;
    this.bytes += stored.size;
    this.transaction.meter.read(stored.size);
    return stored;
  }

  /** Whether a document passes all filters and limits. */
  #passes(document: Stored): boolean {
    for (const [place, { filter }] of this.#operators.entries()) {
      if (filter !== undefined && isFalse(evaluate(filter, document.value))) return false;
      this.#passed[place]! += 1;
    }
    return true;
  }

  passes(document: Stored): boolean {
    return this.#passes(document);
  }

  /** Notes what has been read: the range up to the last document, or all of it where it was read to its end. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const [lower, upper] = this.#isDone
      ? [this.#begin, this.#end]
      : this.#descends
        ? [this.#upper, this.#end]
        : [this.#begin, this.#lower];
    this.transaction.reads.add(this.table.name, this.index, lower, upper);
  }
}

const greater = (left: string, right: string | undefined): string => (right !== undefined && right > left ? right : left);
const lesser = (left: string, right: string | undefined): string => (right !== undefined && right < left ? right : left);

/** The keys of a range: from the first string on, before the second. */
function intervalOf(range: readonly RangeExpression[], fields: readonly string[]): [string, string] {
  const equal: (Value | undefined)[] = [];
  let lower: string | undefined;
  let upper: string | undefined;
  for (const { type, fieldPath, value } of range) {
    const bounded = lower !== undefined || upper !== undefined;
    if (fieldPath !== fields[equal.length] || (type === "Eq" && bounded)) {
      throw new Error(`Index range does not match the index's fields (${fields.join(", ")}) at "${fieldPath}"`);
    }
    const key = keyOf([...equal, literal(value)]);
    if (type === "Eq") equal.push(literal(value));
    else if (type === "Gt" || type === "Gte") lower = type === "Gt" ? key + END : key;
    else upper = type === "Lte" ? key + END : key;
  }
  const prefix = keyOf(equal);
  return [lower ?? prefix, upper ?? prefix + END];
}

// --- pages

export interface PageRequest {
  query: QueryJSON;
  cursor: string | null;
  endCursor: string | null;
  pageSize: number;
  maximumRowsRead?: number | null;
  maximumBytesRead?: number | null;
}

const END_CURSOR = "_end_cursor";

export function pageOf(transaction: Transaction, request: PageRequest): JSONValue {
  if (transaction.paginated) {
    throw new Error("This query or mutation function ran multiple paginated queries. Convex only supports a single one.");
  }
  transaction.paginated = true;
  transaction.meter.add("databaseQueries", 1);
  const { query, cursor, pageSize } = request;
  const endCursor = request.endCursor ?? transaction.journal;
  if (cursor === END_CURSOR) return { page: [], isDone: true, continueCursor: END_CURSOR, splitCursor: null, pageStatus: null };
  const until = endCursor === null || endCursor === END_CURSOR ? undefined : decode(endCursor);
  const scan = new Scan(transaction, query, cursor === null ? undefined : decode(cursor), until);
  const page: JSONValue[] = [];
  const isFull = () =>
    (endCursor === null && page.length >= pageSize) ||
    scan.rows >= (request.maximumRowsRead ?? Infinity) ||
    scan.bytes >= (request.maximumBytesRead ?? Infinity);
  let isDone = false;
  while (!isFull()) {
    const found = scan.read();
    if (found === undefined) {
      isDone = true;
      break;
    }
    if (scan.passes(found)) page.push(JSON.parse(found.json) as JSONValue);
  }
  scan.close();
  const here = scan.position === undefined ? cursor : encode(scan.position);
  const continueCursor = isDone ? (until === undefined ? END_CURSOR : endCursor) : here;
  transaction.journal = continueCursor;
  return { page, isDone: isDone && until === undefined, continueCursor, splitCursor: null, pageStatus: null };
}

const encode = (key: string): string => Buffer.from(key, "latin1").toString("base64url");
const decode = (cursor: string): string => Buffer.from(cursor, "base64url").toString("latin1");

// --- filters

export type FilterJSON = { [operator: string]: JSONValue };

const literal = (value: JSONValue): Value | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) && "$undefined" in value
    ? undefined
    : jsonToConvex(value);

const isFalse = (value: unknown): boolean => value !== true;

const COMPARISONS: Record<string, (order: number) => boolean> = {
  $eq: (order) => order === 0,
  $neq: (order) => order !== 0,
  $lt: (order) => order < 0,
  $lte: (order) => order <= 0,
  $gt: (order) => order > 0,
  $gte: (order) => order >= 0,
};

const ARITHMETIC: Record<string, (left: number, right: number) => number> = {
  $add: (left, right) => left + right,
  $sub: (left, right) => left - right,
  $mul: (left, right) => left * right,
  $div: (left, right) => left / right,
  $mod: (left, right) => left % right,
};

/** What an expression is for a document. */
export function evaluate(expression: FilterJSON, document: Record<string, Value>): Value | undefined {
  const [operator, operand] = Object.entries(expression)[0]!;
  const of = (each: JSONValue) => evaluate(each as FilterJSON, document);
  const all = () => operand as JSONValue[];
  if (operator in COMPARISONS) return COMPARISONS[operator]!(compareValues(of(all()[0]!), of(all()[1]!)));
  if (operator in ARITHMETIC) return ARITHMETIC[operator]!(of(all()[0]!) as number, of(all()[1]!) as number);
  switch (operator) {
    case "$and":
      return all().every((each) => of(each) === true);
    case "$or":
      return all().some((each) => of(each) === true);
    case "$not":
      return of(operand) !== true;
    case "$neg":
      return -(of(operand) as number);
    case "$field":
      return valueAt(document, operand as string);
    case "$literal":
      return literal(operand);
  }
  throw new Error(`Unknown operator ${operator}`);
}
