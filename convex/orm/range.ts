/**
 * From a range of the wire to the index ranges Convex can scan.
 *
 * A Convex range is equalities on the first fields and at most one lower and one upper edge on the next. "Behind this index key"
 * is not of that form, so it becomes one range per field of the key, from the last field to the first: the documents that agree with the
 * key up to a field and are beyond it there. In this order the ranges follow each other in scan order and do not overlap.
 */
import { compareValues, type Value } from "convex/values";
import type { Reader } from "./database";
import { badRange, overLimit } from "./errors";
import * as limits from "./limits";
import type { Bound, Document, Edge, Fields, Order } from "./protocol";

/** Equalities on the first fields of an index and edges on the field after them. */
export interface Range {
  eq: readonly Bound[];
  lower?: Edge | undefined;
  upper?: Edge | undefined;
}

export interface IndexRequest {
  table: string;
  index: string;
  eq?: Bound[] | undefined;
  lower?: Edge | undefined;
  upper?: Edge | undefined;
  /** In the place of these three: several ranges in index order that have nothing in common. */
  ranges?: { eq?: Bound[] | undefined; lower?: Edge | undefined; upper?: Edge | undefined }[] | undefined;
  order?: Order | undefined;
  after?: Bound[] | undefined;
  /** How many leading fields of the index, the equalities of each range, its order leaves out: then ranges are merged. */
  merge?: number | undefined;
  /** One document for each value of so many leading fields; then `after` may be such values alone. */
  distinct?: number | undefined;
}

export const compareBounds = (left: Bound, right: Bound): number => compareValues(left[0], right[0]);

/** The ranges that answer a request, in scan order. Empty ones are left out. */
export function rangesOf(request: IndexRequest, fields: readonly string[]): Range[] {
  return partsOf(request, fields).flat();
}

/** The same for each range of a union, in scan order; those that are merged go on behind the same place each. */
export function partsOf(request: IndexRequest, fields: readonly string[]): Range[][] {
  const wholes = wholesOf(request);
  requireFits(request, wholes, fields);
  const { after, merge = 0 } = request;
  const order = request.order ?? "asc";
  const parts = wholes.map((whole) => {
    const key = after?.length ? [...whole.eq.slice(0, merge), ...after.slice(merge)] : undefined;
    return (key ? behind(whole, key, order) : [whole]).filter((range) => !isEmpty(range));
  });
  return order === "asc" ? parts : parts.reverse();
}

function wholesOf({ eq = [], lower, upper, ranges }: IndexRequest): Range[] {
  return ranges?.map((each) => ({ ...each, eq: each.eq ?? [] })) ?? [{ eq, lower, upper }];
}

function requireFits(request: IndexRequest, wholes: Range[], fields: readonly string[]): void {
  const { table, index, after, merge, distinct, ranges } = request;
  const has = `it has ${fields.length} fields (${fields.join(", ")})`;
  if (ranges && (request.eq ?? request.lower ?? request.upper)) {
    throw badRange(table, index, "several ranges beside equalities and bounds");
  }
  const maximum = merge === undefined ? limits.UNION_RANGES : limits.MERGED_RANGES;
  if (wholes.length > maximum) throw overLimit("ranges", maximum, wholes.length, { table });
  for (const { eq, lower, upper } of wholes) {
    if (eq.length > fields.length) throw badRange(table, index, `${eq.length} equalities, but ${has}`);
    if (eq.length === fields.length && (lower ?? upper)) throw badRange(table, index, `a bound after the last field, ${has}`);
    if (merge !== undefined && eq.length !== merge) throw badRange(table, index, "merged ranges of other equalities");
  }
  if (wholes.some((whole, place) => place > 0 && !isBefore(wholes[place - 1]!, whole))) {
    throw badRange(table, index, "its ranges overlap, or are not in the index's order");
  }
  if ((distinct ?? 0) > fields.length) throw badRange(table, index, `distinct by ${distinct} fields, but ${has}`);
  if (after?.length && after.length !== fields.length && after.length !== distinct) {
    throw badRange(table, index, `"after" has ${after.length} values, but ${has}`);
  }
}

/** Whether all keys of one range are less than those of the other. */
function isBefore(one: Range, other: Range): boolean {
  for (let place = 0; ; place++) {
    const [end, start] = [upperAt(one, place), lowerAt(other, place)];
    if (end === undefined || start === undefined) return isEmpty(one) || isEmpty(other);
    const order = compareBounds(end.value, start.value);
    if (order !== 0) return order < 0;
    if (!end.inclusive || !start.inclusive) return true;
  }
}

const upperAt = ({ eq, upper }: Range, place: number): Edge | undefined =>
  place < eq.length ? { value: eq[place]!, inclusive: true } : place === eq.length ? upper : undefined;

const lowerAt = ({ eq, lower }: Range, place: number): Edge | undefined =>
  place < eq.length ? { value: eq[place]!, inclusive: true } : place === eq.length ? lower : undefined;

function behind(range: Range, key: readonly Bound[], order: Order): Range[] {
  const forward = order === "asc" ? 1 : -1;
  const first = range.eq.slice(0, key.length).findIndex((bound, position) => compareBounds(bound, key[position]!) !== 0);
  if (first !== -1) {
    // The key lies outside of the equalities: all of the range is behind it, or nothing.
    return compareBounds(range.eq[first]!, key[first]!) * forward > 0 ? [range] : [];
  }
  const ranges: Range[] = [];
  for (let position = key.length - 1; position >= range.eq.length; position--) {
    const beyond: Edge = { value: key[position]!, inclusive: false };
    if (position > range.eq.length) {
      if (!isWithin(key[range.eq.length]!, range)) continue;
      ranges.push({ eq: key.slice(0, position), [order === "asc" ? "lower" : "upper"]: beyond });
    } else {
      ranges.push(
        order === "asc"
          ? { ...range, lower: narrower(range.lower, beyond, 1) }
          : { ...range, upper: narrower(range.upper, beyond, -1) },
      );
    }
  }
  return ranges;
}

/** The edge that lets less through; `side` is 1 for lower edges and -1 for upper ones. */
function narrower(left: Edge | undefined, right: Edge, side: 1 | -1): Edge {
  if (left === undefined) return right;
  const order = compareBounds(left.value, right.value) * side;
  if (order !== 0) return order > 0 ? left : right;
  return left.inclusive ? right : left;
}

function isWithin(value: Bound, { lower, upper }: Range): boolean {
  return (
    !isEmpty({ eq: [], lower, upper: { value, inclusive: true } }) &&
    !isEmpty({ eq: [], lower: { value, inclusive: true }, upper })
  );
}

function isEmpty({ lower, upper }: Range): boolean {
  if (lower === undefined || upper === undefined) return false;
  const order = compareBounds(lower.value, upper.value);
  return order > 0 || (order === 0 && !(lower.inclusive && upper.inclusive));
}

/** The documents of one range in index order; each is read when it is asked for. */
export function scan(
  db: Reader,
  table: string,
  index: string,
  fields: readonly string[],
  range: Range,
  order: Order,
): AsyncIterable<Document> {
  return db
    .query(table)
    .withIndex(index, (builder) => {
      const next = fields[range.eq.length] ?? "";
      let ranged = range.eq.reduce((built, bound, position) => built.eq(fields[position]!, bound[0]), builder);
      if (range.lower) ranged = ranged[range.lower.inclusive ? "gte" : "gt"](next, range.lower.value[0]);
      if (range.upper) ranged = ranged[range.upper.inclusive ? "lte" : "lt"](next, range.upper.value[0]);
      return ranged;
    })
    .order(order);
}

/** Where a document is in an index: its value for each of the fields. */
export const keyOf = (document: Document | Fields, fields: readonly string[]): Bound[] =>
  fields.map((field) => {
    const value = field.split(".").reduce<Value | undefined>(member, document);
    return value === undefined ? [] : [value];
  });

function member(value: Value | undefined, name: string): Value | undefined {
  const isObject = Object.prototype.toString.call(value) === "[object Object]";
  return isObject && Object.hasOwn(value as object, name) ? (value as Record<string, Value>)[name] : undefined;
}
