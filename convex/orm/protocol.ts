/**
 * The wire of `docs/wire.md` in TypeScript: the shape of every request, checked, and of every answer.
 *
 * A parser takes an unchecked value and the place it has in the request, and returns it typed or throws `Invalid`.
 * What needs the schema (tables, indexes, the length of a range) is checked where it is used.
 */
import type { Value } from "convex/values";
import { invalid, otherVersion, overLimit } from "./errors";
import * as limits from "./limits";
import type { Width } from "./packed";

/** A value that may be missing: `[]` is a missing field, `[value]` is `value`. */
export type Bound = [] | [Value];

/** A document as it is stored, `_id` and `_creationTime` included. */
export type Document = { _id: string; _creationTime: number; [field: string]: Value };

/** A document as it is sent to be stored, without the system fields. */
export type Fields = Record<string, Value>;

type Parser<T> = (value: unknown, at: string) => T;
type Parsed<P> = P extends Parser<infer T> ? T : never;

// --- the parts shapes are made of

function isObject(value: unknown): value is Record<string, unknown> {
  return Object.prototype.toString.call(value) === "[object Object]";
}

const text: Parser<string> = (value, at) => {
  if (typeof value !== "string") throw invalid(at, "a string");
  return value;
};

const flag: Parser<boolean> = (value, at) => {
  if (typeof value !== "boolean") throw invalid(at, "a boolean");
  return value;
};

const whole: Parser<number> = (value, at) => {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw invalid(at, "a whole number, 0 or more");
  }
  return value;
};

const number: Parser<number> = (value, at) => {
  if (typeof value !== "number" || !Number.isFinite(value)) throw invalid(at, "a number");
  return value;
};

// Convex has checked that arguments are Convex values before a function sees them.
const fields: Parser<Fields> = (value, at) => {
  if (!isObject(value)) throw invalid(at, "an object");
  return value as Fields;
};

const bytes: Parser<ArrayBuffer> = (value, at) => {
  if (!(value instanceof ArrayBuffer)) throw invalid(at, "bytes");
  return value;
};

function oneOf<T extends string>(...words: T[]): Parser<T> {
  return (value, at) => {
    const word = words.find((candidate) => candidate === value);
    if (word === undefined) throw invalid(at, `one of ${words.map((each) => `"${each}"`).join(", ")}`);
    return word;
  };
}

function optional<T>(parse: Parser<T>): Parser<T | undefined> {
  return (value, at) => (value === undefined ? undefined : parse(value, at));
}

function list<T>(parse: Parser<T>): Parser<T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) throw invalid(at, "an array");
    return value.map((element, position) => parse(element, `${at}[${position}]`));
  };
}

function mapping<T>(parse: Parser<T>): Parser<Record<string, T>> {
  return (value, at) => {
    if (!isObject(value)) throw invalid(at, "an object");
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, parse(each, `${at}.${name}`)]));
  };
}

type OptionalNames<S> = { [K in keyof S]: undefined extends Parsed<S[K]> ? K : never }[keyof S];
type Shape<S> = { [K in Exclude<keyof S, OptionalNames<S>>]: Parsed<S[K]> } & {
  [K in OptionalNames<S>]?: Parsed<S[K]>;
};

/** An object with these fields and no others. */
function shape<S extends Record<string, Parser<unknown>>>(parsers: S): Parser<Shape<S>> {
  return (value, at) => {
    if (!isObject(value)) throw invalid(at, "an object");
    if (!Object.keys(value).every((name) => Object.hasOwn(parsers, name))) {
      throw invalid(at, `an object of ${Object.keys(parsers).join(", ")} and nothing else`);
    }
    const entries = Object.entries(parsers).map(([name, parse]) => [name, parse(value[name], `${at}.${name}`)]);
    return Object.fromEntries(entries) as Shape<S>;
  };
}

/** An object whose field `op` says which shape it has. */
function tagged<S extends Record<string, Parser<{ op: string }>>>(shapes: S): Parser<Parsed<S[keyof S]>> {
  const parseOp = oneOf(...Object.keys(shapes));
  return (value, at) => {
    const op = parseOp(isObject(value) ? value["op"] : undefined, `${at}.op`);
    return shapes[op]!(value, at) as Parsed<S[keyof S]>;
  };
}

const bound: Parser<Bound> = (value, at) => {
  if (!Array.isArray(value) || value.length > 1) throw invalid(at, "a bound: [] or [value]");
  return value as Bound;
};

// --- filters

const COMPARISONS = ["eq", "ne", "lt", "lte", "gt", "gte"] as const;

export type Step = string | number;
export type Comparison = (typeof COMPARISONS)[number];
const CONTAINMENTS = ["contains", "endswith", "like"] as const;
export type Containment = (typeof CONTAINMENTS)[number];
export type Filter =
  | { op: "and" | "or"; args: Filter[] }
  | { op: "not"; arg: Filter }
  | { op: Comparison; field: string; path?: Step[] | undefined; value: Bound }
  | { op: Containment; field: string; path?: Step[] | undefined; value: Bound }
  | { op: "in"; field: string; path?: Step[] | undefined; values: Bound[] }
  | Exists;

/** An edge leads from the document to another. */
export type Exists = { op: "exists" } & Follow;

const step: Parser<Step> = (value, at) => {
  if (typeof value !== "string" && typeof value !== "number") throw invalid(at, "a string or a number");
  return value;
};

// Called through a function so that filters can hold filters.
const filter: Parser<Filter> = (value, at) => anyFilter(value, at);

function comparison<Op extends Comparison | Containment>(op: Op) {
  return shape({ op: oneOf(op), field: text, path: optional(list(step)), value: bound });
}

const anyFilter: Parser<Filter> = tagged({
  and: shape({ op: oneOf("and"), args: list(filter) }),
  or: shape({ op: oneOf("or"), args: list(filter) }),
  not: shape({ op: oneOf("not"), arg: filter }),
  eq: comparison("eq"),
  ne: comparison("ne"),
  lt: comparison("lt"),
  lte: comparison("lte"),
  gt: comparison("gt"),
  gte: comparison("gte"),
  contains: comparison("contains"),
  endswith: comparison("endswith"),
  like: comparison("like"),
  in: shape({ op: oneOf("in"), field: text, path: optional(list(step)), values: list(bound) }),
  exists: (value, at) => exists(value, at),
});

// --- read

const edge = shape({ value: bound, inclusive: flag });

/** One end of a range. */
export type Edge = Parsed<typeof edge>;

const simpleRange = { eq: optional(list(bound)), lower: optional(edge), upper: optional(edge) };

/** A range, or in its place several that are in order and have nothing in common. */
const range = { ...simpleRange, ranges: optional(list(shape(simpleRange))) };

/** The declared fields that a request takes an index to have. */
const indexFields = optional(list(text));

const pack = shape({ field: text, length: whole });

const term = shape({ op: oneOf("count", "sum", "min", "max"), field: optional(text) });
const fold = shape({ by: list(text), of: list(term) });

/** From each document to those of a range whose first index field is what `field` of the document holds. */
export type Follow = {
  field: string;
  table: string;
  index: string;
  fields?: string[] | undefined;
  eq?: Bound[] | undefined;
  lower?: Edge | undefined;
  upper?: Edge | undefined;
  ranges?: { eq?: Bound[] | undefined; lower?: Edge | undefined; upper?: Edge | undefined }[] | undefined;
  order?: Order | undefined;
  filter?: Filter | undefined;
  limit?: number | undefined;
  follow?: Follow[] | undefined;
};

// Called through a function so that edges can lead to edges.
const follow: Parser<Follow> = (value, at) => anyFollow(value, at);

const following = {
  field: text,
  table: text,
  index: text,
  fields: indexFields,
  ...range,
  order: optional(oneOf("asc", "desc")),
  filter: optional(filter),
  limit: optional(whole),
  follow: optional(list(follow)),
};

const anyFollow: Parser<Follow> = shape(following);

const exists: Parser<Exists> = shape({ op: oneOf("exists"), ...following });

const textSearch = shape({
  index: text,
  field: text,
  text,
  filter: optional(list(shape({ field: text, value: bound }))),
});

/** Documents whose text has one of some words, best first. */
export type TextSearch = Parsed<typeof textSearch>;

const anyRead = shape({
  table: text,
  index: text,
  fields: indexFields,
  ...range,
  order: optional(oneOf("asc", "desc")),
  after: optional(list(bound)),
  filter: optional(filter),
  skip: optional(whole),
  limit: optional(whole),
  peek: optional(flag),
  count: optional(flag),
  pack: optional(pack),
  digest: optional(oneOf("each", "all")),
  since: optional(text),
  follow: optional(list(follow)),
  merge: optional(whole),
  select: optional(list(text)),
  distinct: optional(whole),
  fold: optional(fold),
  sort: optional(list(shape({ field: text, order: oneOf("asc", "desc") }))),
  search: optional(textSearch),
});

/** A read, whose kinds of answers exclude each other. */
const read: Parser<Parsed<typeof anyRead>> = (value, at) => {
  const parsed = anyRead(value, at);
  const { count, pack, digest, select, fold, peek, merge, distinct } = parsed;
  const kinds = [count, pack, digest, select, fold].filter(Boolean).length;
  if (kinds > 1 || (peek && (pack || digest || fold))) {
    throw invalid(at, "a read with one of count, pack, digest, select and fold, and with peek only without pack, digest and fold");
  }
  if (parsed.since !== undefined && digest !== "each") throw invalid(at, "changes since a version as digests of each");
  if (parsed.sort && (kinds > (select ? 1 : 0) || peek || parsed.skip || distinct !== undefined)) {
    throw invalid(at, "a read that sorts documents, all that match or the first");
  }
  if (merge !== undefined && distinct !== undefined) throw invalid(at, "a read with one of merge and distinct");
  if (parsed.follow?.length && (kinds > 0 || distinct !== undefined)) {
    throw invalid(at, "a read of whole documents, from which edges lead");
  }
  if (parsed.search) requireSearch(parsed, at);
  return parsed;
};

function requireSearch({ table: _, index, filter, limit, follow, search, after, ...others }: Parsed<typeof anyRead>, at: string) {
  const isPlain = Object.values(others).every((each) => each === undefined);
  if (!isPlain || index !== "by_creation_time" || (after?.length ?? 0) > 0) {
    throw invalid(at, "a search for whole documents of a whole table, from which edges may lead");
  }
  if (limit === undefined || limit < 1 || limit > limits.TEXT_RESULTS) {
    throw invalid(`${at}.limit`, `1 to ${limits.TEXT_RESULTS}`);
  }
  requireAtMost("filter", limits.TEXT_CLAUSES, search?.filter?.length ?? 0);
}

export type Term = Parsed<typeof term>;
export type Fold = Parsed<typeof fold>;

/** A field, an array of so many numbers. */
export type Pack = Parsed<typeof pack>;
export type Order = "asc" | "desc";
export type Read = Parsed<typeof read>;
export type Result = {
  docs: Document[];
  count: number;
  skipped: number;
  more: boolean;
  next: Bound[] | null;
  rounded?: boolean;
  digests?: [string, string][];
  digest?: string;
  /** Of a digest of everything, where the table has a log of its changes. */
  version?: string;
  /** Of digests since a version: what is not in the range any more. */
  gone?: string[];
  last?: Bound[];
  groups?: [Bound[], Partial[]][];
  followed?: Followed[];
};

/**
 * What an edge led to: for each key that documents had, the documents behind it, and where to go on. A document that came before in the
 * same result comes as its id.
 */
export type Followed = {
  groups: [Bound, (Document | string)[], Bound[] | null][];
  followed?: Followed[];
};

/** What a fold has made of some documents: a number of them, a sum, or the least or greatest of some values. */
export type Partial = number | Sum | Bound;
export type Sum = { n: number; exact?: [string, number]; int64?: string; odd?: number };

// --- commit

const key = shape({ index: text, fields: indexFields, key: list(bound) });
const id = shape({ id: text });

export type Key = Parsed<typeof key>;

/** A key that no two documents are to hold after the commit: the one given, else the written document's own in the index. */
const unique = optional(list(shape({ index: text, fields: indexFields, key: optional(list(bound)) })));

export type Unique = NonNullable<Parsed<typeof unique>>[number];
export type Target = Parsed<typeof id> | Key;

const target: Parser<Target> = (value, at) => (isObject(value) && "id" in value ? id(value, at) : key(value, at));

const is = shape({ is: bound });
const hash = shape({ sha256: text });
const among = shape({ in: list(bound) });

export type Expectation = Parsed<typeof is> | Parsed<typeof hash> | Parsed<typeof among>;

const expectation: Parser<Expectation> = (value, at) => {
  if (isObject(value) && "sha256" in value) return hash(value, at);
  return isObject(value) && "in" in value ? among(value, at) : is(value, at);
};

/** What a field is to hold, to be computed of what the document holds. */
export type Operand =
  | { op: "value"; value: Bound }
  | { op: "field"; field: string; default?: Bound | undefined }
  | { op: "add" | "sub" | "mul" | "div"; left: Operand; right: Operand; whole?: boolean | undefined }
  | { op: "least" | "greatest"; left: Operand; right: Operand }
  | { op: "append" | "remove"; field: string; value: Bound }
  | { op: "now"; form: "milliseconds" | "text" };

const operand: Parser<Operand> = (value, at) => anyOperand(value, at);

const held: Parser<Bound> = (value, at) => {
  if (bound(value, at).length === 0) throw invalid(at, "a value");
  return value as Bound;
};

function twofold<Op extends "add" | "sub" | "mul" | "div">(op: Op) {
  return shape({ op: oneOf(op), left: operand, right: operand, whole: optional(flag) });
}

const anyOperand: Parser<Operand> = tagged({
  value: shape({ op: oneOf("value"), value: held }),
  field: shape({ op: oneOf("field"), field: text, default: optional(bound) }),
  add: twofold("add"),
  sub: twofold("sub"),
  mul: twofold("mul"),
  div: twofold("div"),
  least: shape({ op: oneOf("least"), left: operand, right: operand }),
  greatest: shape({ op: oneOf("greatest"), left: operand, right: operand }),
  append: shape({ op: oneOf("append"), field: text, value: held }),
  remove: shape({ op: oneOf("remove"), field: text, value: held }),
  now: shape({ op: oneOf("now"), form: oneOf("milliseconds", "text") }),
});

const width: Parser<Width> = (value, at) => {
  if (value !== 4 && value !== 8) throw invalid(at, "4 or 8");
  return value;
};
const packed = optional(mapping(width));

/** Fields that are to hold the id of a document that an earlier write of the commit inserts, by its position. */
const refs = optional(mapping(whole));

const changing = {
  table: text,
  at: target,
  expect: optional(mapping(expectation)),
  missing: optional(oneOf("fail", "skip")),
};

const writes = {
  insert: shape({
    op: oneOf("insert"),
    table: text,
    doc: fields,
    packed,
    unique,
    returning: optional(flag),
    refs,
  }),
  upsert: shape({
    op: oneOf("upsert"),
    table: text,
    at: key,
    doc: fields,
    packed,
    keep: optional(list(text)),
    greatest: optional(list(text)),
    identity: optional(list(text)),
    unique,
    returning: optional(flag),
    refs,
  }),
  patch: shape({
    op: oneOf("patch"),
    ...changing,
    set: fields,
    packed,
    unset: optional(list(text)),
    greatest: optional(list(text)),
    compute: optional(mapping(operand)),
    where: optional(filter),
    unique,
    refs,
  }),
  replace: shape({ op: oneOf("replace"), ...changing, doc: fields, packed, unique }),
  delete: shape({ op: oneOf("delete"), ...changing, tells: optional(flag) }),
  deleteRange: shape({
    op: oneOf("deleteRange"),
    table: text,
    index: text,
    fields: indexFields,
    ...range,
    filter: optional(filter),
    limit: optional(whole),
    tells: optional(flag),
  }),
  recount: shape({ op: oneOf("recount"), table: text, limit: whole }),
  schedule: shape({ op: oneOf("schedule"), path: text, args: fields, delay: optional(number), at: optional(number) }),
  cancel: shape({ op: oneOf("cancel"), id: text }),
};

export type Op = keyof typeof writes;
export type Write<O extends Op = Op> = { [K in O]: Parsed<(typeof writes)[K]> }[O];

/** What a deletion has done to documents of a table, by their ids: deleted them, or taken a field out of them. */
export type Gone = [table: string, field: string | null, ids: string[]];

export type Applied =
  | [string, number | null]
  | [string, number | null, boolean]
  | [string, number | null, boolean, Fields]
  | boolean
  | [number, boolean]
  | [number, boolean, Gone[]];

const chunk = list<Write>(tagged(writes));

const rule = shape({
  relation: text,
  table: text,
  index: text,
  fields: indexFields,
  key: text,
  field: text,
  action: oneOf("cascade", "restrict", "nullify"),
  null: optional(flag),
  unique,
  where: optional(filter),
  filter: optional(filter),
});

/** What deleting a document does to those of another table whose `field` is its `key`. */
export type Rule = Parsed<typeof rule>;

const check = shape({ field: text, table: text, index: text, fields: indexFields });

/** A field that has to lead to a document once the commit is applied. */
export type Check = Parsed<typeof check>;

/** For each table what deleting its documents does to others, and which of its fields have to lead somewhere. */
export type Ties = { rules: Record<string, Rule[]>; checks: Record<string, Check[]> };

const rules = optional(mapping(list(rule)));
const checks = optional(mapping(list(check)));
/** A count, or the sum of a field `of` documents, for each value of the fields `by`, kept with every write. */
const counter = shape({ table: text, name: text, by: list(text), of: optional(text) });
export type Counter = Parsed<typeof counter>;

const commitId: Parser<string> = (value, at) => {
  const name = text(value, at);
  const length = [...name].length;
  if (length === 0 || length > limits.COMMIT_ID_CHARACTERS) {
    throw invalid(at, `1 to ${limits.COMMIT_ID_CHARACTERS} characters`);
  }
  return name;
};

// --- search

const search = shape({
  version: whole,
  table: text,
  index: text,
  field: text,
  dimensions: whole,
  vector: bytes,
  limit: whole,
  filter: optional(list(shape({ field: text, value: bound }))),
});

export type Search = Parsed<typeof search> & { numbers: number[] };

// --- requests

function requireVersion(request: unknown): void {
  const version = isObject(request) ? request["version"] : undefined;
  if (typeof version !== "number" && typeof version !== "bigint") throw invalid("version", "a number");
  if (version !== limits.VERSION) throw otherVersion();
}

function requireAtMost(limit: string, maximum: number, actual: number): void {
  if (actual > maximum) throw overLimit(limit, maximum, actual);
}

const lengthOf = (value: unknown): number => (Array.isArray(value) ? value.length : 0);

/** The reads of a `read` request. */
export function parseReads(request: unknown): { reads: Read[]; share: number } {
  requireVersion(request);
  if (isObject(request)) requireAtMost("reads", limits.READS, lengthOf(request["reads"]));
  const { reads, share = 1 } = shape({ version: whole, reads: list(read), share: optional(whole) })(request, "request");
  if (reads.length === 0) throw invalid("request.reads", "one read or more");
  if (share < 1 || share > limits.READ_SHARES) throw invalid("request.share", `1 to ${limits.READ_SHARES}`);
  return { reads, share };
}

/** The id and the chunks of writes of a `commit` request; without writes the commit is withdrawn. */
export function parseCommit(request: unknown): {
  commitId: string;
  writes?: Write[][];
  counters?: Counter[];
  ties: Ties;
} {
  requireVersion(request);
  if (isObject(request) && "withdraw" in request) {
    const withdrawal = shape({ version: whole, commitId, withdraw: flag })(request, "request");
    if (!withdrawal.withdraw) throw invalid("request.withdraw", "true");
    return { commitId: withdrawal.commitId, ties: { rules: {}, checks: {} } };
  }
  if (isObject(request) && Array.isArray(request["writes"])) {
    // Before the writes are looked at one by one.
    const lengths = request["writes"].map(lengthOf);
    requireAtMost("chunk", limits.CHUNK_WRITES, Math.max(0, ...lengths));
    requireAtMost(
      "writes",
      limits.WRITES,
      lengths.reduce((sum, length) => sum + length, 0),
    );
  }
  const commit = shape({
    version: whole,
    commitId,
    writes: list(chunk),
    counters: optional(list(counter)),
    rules,
    checks,
  });
  const { commitId: id, writes, counters = [], ...told } = commit(request, "request");
  if (writes.flat().some(({ op }) => op === "recount") && writes.flat().length > 1) {
    throw invalid("request.writes", "a recount alone, or other writes");
  }
  return { commitId: id, writes, counters, ties: { rules: told.rules ?? {}, checks: told.checks ?? {} } };
}

/** What is asked about a stored file: an id, or nothing about any. */
export function parseFile(request: unknown): string {
  requireVersion(request);
  return shape({ version: whole, id: text })(request, "request").id;
}

/** What is to be done in storage: make room for a file, or delete one. */
export function parseStorage(request: unknown): { op: "upload" } | { op: "delete"; id: string } {
  requireVersion(request);
  const { version: _, ...rest } = isObject(request) ? request : {};
  return tagged({
    upload: shape({ op: oneOf("upload") }),
    delete: shape({ op: oneOf("delete"), id: text }),
  })(rest, "request");
}

/** A `search` request, with its vector as numbers. */
const describe = shape({ version: whole });

export function parseDescribe(request: unknown): void {
  requireVersion(request);
  describe(request, "request");
}

export function parseSearch(request: unknown): Search {
  requireVersion(request);
  const parsed = search(request, "request");
  if (parsed.limit < 1 || parsed.limit > limits.SEARCH_RESULTS) {
    throw invalid("request.limit", `1 to ${limits.SEARCH_RESULTS}`);
  }
  requireAtMost("filter", limits.SEARCH_CLAUSES, parsed.filter?.length ?? 0);
  const { least, most } = limits.VECTOR_DIMENSIONS;
  const dimensions = parsed.vector.byteLength / Float64Array.BYTES_PER_ELEMENT;
  if (!Number.isInteger(dimensions) || dimensions < least || dimensions > most) {
    throw invalid("request.vector", `${least} to ${most} float64`);
  }
  if (dimensions !== parsed.dimensions) throw invalid("request.vector", "as long as the index has dimensions");
  const view = new DataView(parsed.vector);
  const numbers = Array.from({ length: dimensions }, (_, position) =>
    view.getFloat64(position * Float64Array.BYTES_PER_ELEMENT, true),
  );
  if (!numbers.every(Number.isFinite)) throw invalid("request.vector", "finite numbers");
  return { ...parsed, numbers };
}
