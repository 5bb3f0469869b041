/**
 * Filters as predicates over documents, in Convex's total order of values.
 */
import { compareValues, type Value } from "convex/values";
import type { Bound, Comparison, Containment, Document, Exists, Filter, Step } from "./protocol";
import { compareBounds } from "./range";

/** What a filter looks at: a document, and the JSON texts of its fields once they are parsed. */
interface Subject {
  document: Document;
  parsed: Map<string, Value | undefined>;
}

type Test = (subject: Subject) => boolean;

/** Says of what a document's field holds whether an edge leads from it to a document. */
export type Existence = (exists: Exists, value: Value | undefined) => boolean;

/** A predicate that says whether a document passes; without a filter all do. */
export function predicate(
  filter: Filter | undefined,
  exists: Existence = () => false,
): (document: Document) => boolean {
  if (filter === undefined) return () => true;
  const test = compile(filter, exists);
  return (document) => test({ document, parsed: new Map() });
}

const HOLDS: Record<Comparison, (order: number) => boolean> = {
  eq: (order) => order === 0,
  ne: (order) => order !== 0,
  lt: (order) => order < 0,
  lte: (order) => order <= 0,
  gt: (order) => order > 0,
  gte: (order) => order >= 0,
};

type Holds = (stored: Value | undefined) => boolean;

const CONTAINS: Record<Containment, (value: Value | undefined) => Holds> = {
  contains: (value) => (stored) =>
    Array.isArray(stored)
      ? stored.some((element) => compareValues(element, value) === 0)
      : typeof value === "string" && typeof stored === "string" && stored.includes(value),
  endswith: (value) => (stored) => typeof value === "string" && typeof stored === "string" && stored.endsWith(value),
  like: (value) => (typeof value === "string" ? fitting(value) : () => false),
};

/** Whether a text fits a pattern: the parts between `%` follow each other in it. Each is looked for once, from the left. */
function fitting(pattern: string): Holds {
  const [first, ...middle] = pattern.split("%");
  const last = middle.pop();
  return (stored) => {
    if (typeof stored !== "string" || last === undefined) return stored === pattern;
    if (!stored.startsWith(first!)) return false;
    let place = first!.length;
    for (const part of middle) {
      const found = stored.indexOf(part, place);
      if (found < 0) return false;
      place = found + part.length;
    }
    return stored.length - last.length >= place && stored.endsWith(last);
  };
}

function compile(filter: Filter, exists: Existence): Test {
  switch (filter.op) {
    case "and": {
      const tests = filter.args.map((each) => compile(each, exists));
      return (subject) => tests.every((test) => test(subject));
    }
    case "or": {
      const tests = filter.args.map((each) => compile(each, exists));
      return (subject) => tests.some((test) => test(subject));
    }
    case "not": {
      const test = compile(filter.arg, exists);
      return (subject) => !test(subject);
    }
    case "in": {
      // Sorted once, so that long lists stay cheap over many documents.
      const values = [...filter.values].sort(compareBounds);
      return (subject) => includes(values, valueAt(subject, filter.field, filter.path));
    }
    case "exists":
      return ({ document }) =>
        exists(filter, Object.hasOwn(document, filter.field) ? document[filter.field] : undefined);
    case "contains":
    case "endswith":
    case "like": {
      const holds = CONTAINS[filter.op](filter.value[0]);
      return (subject) => holds(valueAt(subject, filter.field, filter.path));
    }
    default: {
      const holds = HOLDS[filter.op];
      const value = filter.value[0];
      return (subject) => holds(compareValues(valueAt(subject, filter.field, filter.path), value));
    }
  }
}

function includes(sorted: readonly Bound[], value: Value | undefined): boolean {
  let low = 0;
  let high = sorted.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const order = compareValues(sorted[middle]![0], value);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle - 1;
  }
  return false;
}

function valueAt(subject: Subject, field: string, path: readonly Step[] | undefined): Value | undefined {
  const value = Object.hasOwn(subject.document, field) ? subject.document[field] : undefined;
  if (path === undefined || path.length === 0) return value;
  const root = typeof value === "string" ? parsedText(subject, field, value) : value;
  return path.reduce<Value | undefined>(walk, root);
}

function parsedText({ parsed }: Subject, field: string, text: string): Value | undefined {
  if (!parsed.has(field)) parsed.set(field, parseJson(text));
  return parsed.get(field);
}

function parseJson(text: string): Value | undefined {
  try {
    // JSON's values are all Convex values.
    return JSON.parse(text) as Value;
  } catch {
    return undefined;
  }
}

function walk(value: Value | undefined, step: Step): Value | undefined {
  if (typeof step === "number") return Array.isArray(value) ? value[step] : undefined;
  const isObject = Object.prototype.toString.call(value) === "[object Object]";
  return isObject && Object.hasOwn(value as object, step) ? (value as Record<string, Value>)[step] : undefined;
}
