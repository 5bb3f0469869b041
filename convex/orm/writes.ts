/**
 * What each kind of write does, one handler an `op`. A write that cannot be applied throws, which rolls the whole commit back.
 */
import { compareValues, getDocumentSize, type Value } from "convex/values";
import { canonicalHash } from "./canonical";
import type { Catalog } from "./catalog";
import { computed } from "./compute";
import { invalid, rangeTooLarge, stale, type Refusal } from "./errors";
import { predicate } from "./filter";
import * as limits from "./limits";
import { unpacked } from "./packed";
import type { Applied, Bound, Document, Expectation, Fields, Key, Op, Unique, Write } from "./protocol";
import { compareBounds, keyOf } from "./range";
import type { Transaction } from "./transaction";

/** A commit under way, and what its deleteRanges have used of their budget. */
export class Commit {
  readonly ranges = { deletes: 0, bytes: 0, documents: 0 };
  /** Answers of the writes that ask for the creation time of a new document. */
  readonly #asking: { table: string; applied: [string, number | null, boolean?] }[] = [];
  /** Keys that were another document's when a write gave them to one. */
  readonly #contested: { position: number; table: string; key: Key }[] = [];

  constructor(readonly transaction: Transaction) {}

  get isRangeBudgetSpent(): boolean {
    const { deletes, bytes, documents } = this.ranges;
    return deletes >= limits.RANGE_DELETES || bytes >= limits.RANGE_BYTES || documents >= limits.RANGE_DOCUMENTS;
  }

  ask(table: string, applied: [string, number | null, boolean?]): void {
    this.#asking.push({ table, applied });
  }

  /**
   * Notes what is to hold of the keys that a write gives to a document, before it is stored: `fields`, which were `old` before.
   *
   * A key that nobody holds at that moment is the document's own: whoever takes it later in this commit finds it held. One that is held,
   * maybe by a document that is to give it up, is looked at again after all writes.
   */
  async claim(position: number, table: string, unique: Unique[], fields: Fields, old: Document | null): Promise<void> {
    for (const { index, key: given } of unique) {
      const key = given ?? this.#newKey(table, index, fields, old);
      if (key === null || (await this.transaction.first(table, { index, key })) === null) continue;
      if (given && old === null) throw this.#taken(position, table, { index, key });
      this.#contested.push({ position, table, key: { index, key } });
    }
  }

  /** The key in an index that a write gives to a document; null if it had it before, or lacks all of the fields. */
  #newKey(table: string, index: string, fields: Fields, old: Document | null): Bound[] | null {
    const names = this.transaction.catalog.fields(table, index).slice(0, -2);
    const key = keyOf(fields, names);
    if (key.every((bound) => bound.length === 0)) return null;
    const before = old && keyOf(old, names);
    return before && key.every((bound, place) => compareBounds(bound, before[place]!) === 0) ? null : key;
  }

  #taken(position: number, table: string, { index, key }: Key): Refusal {
    const fields = this.transaction.catalog.fields(table, index).slice(0, key.length);
    return stale(position, table, { reason: "exists", fields: [...fields] });
  }

  /** Throws if several documents hold a key that is to be one's own, now that all writes are applied. */
  async requireUnique(): Promise<void> {
    for (const { position, table, key } of this.#contested) {
      let holders = 0;
      for await (const _ of this.transaction.scan({ table, index: key.index, eq: key.key })) {
        holders += 1;
        if (holders > 1) throw this.#taken(position, table, key);
      }
    }
  }

  /**
   * Fills in the creation times that were asked for. Convex tells them only to who reads the new document back, so this comes after
   * all writes and takes what room they leave.
   */
  async tellCreationTimes(): Promise<void> {
    const cost = { indexRanges: 1, documentsRead: 1, bytesRead: limits.DOCUMENT_BYTES };
    for (const { table, applied } of this.#asking.slice(0, limits.READ_BACKS)) {
      if (!this.transaction.meter.hasRoom(cost)) return;
      const document = await this.transaction.get(table, applied[0]);
      applied[1] = document?._creationTime ?? null;
    }
  }
}

/** Applies one write; `position` is its place among all writes of the commit, for errors. */
type Handler<O extends Op> = (commit: Commit, write: Write<O>, position: number) => Promise<Applied>;

export async function apply<O extends Op>(commit: Commit, write: Write<O>, position: number): Promise<Applied> {
  requireAssumed(commit.transaction.catalog, write);
  const handler: Handler<O> = handlers[write.op as O];
  return await handler(commit, withArrays(write, position), position);
}

/** Throws unless the indexes that a write names are those that it takes them for. */
function requireAssumed(catalog: Catalog, write: Write): void {
  const { table } = write;
  if (write.op === "deleteRange") catalog.requireAssumed(table, write.index, write.fields);
  if ("at" in write && "index" in write.at) catalog.requireAssumed(table, write.at.index, write.at.fields);
  if ("unique" in write) write.unique?.forEach(({ index, fields }) => catalog.requireAssumed(table, index, fields));
}

/** The write with the arrays that came as bytes. */
function withArrays<O extends Op>(write: Write<O>, position: number): Write<O> {
  if (!("packed" in write) || write.packed === undefined) return write;
  const name = "doc" in write ? "doc" : "set";
  const fields = "doc" in write ? write.doc : write.set;
  return { ...write, [name]: unpacked(fields, write.packed, `write ${position}.${name}`) };
}

const handlers: { [O in Op]: Handler<O> } = {
  async insert(commit, { table, doc, unique = [], returning }, position) {
    const { transaction } = commit;
    await commit.claim(position, table, unique, doc, null);
    const applied: Applied = [await transaction.insert(position, table, doc), null];
    if (returning) commit.ask(table, applied);
    return applied;
  },

  async upsert(commit, write, position) {
    const { table, at, doc, keep = [], greatest = [], identity = [], unique = [], returning } = write;
    const { transaction } = commit;
    const old = await transaction.first(table, at);
    if (old === null) {
      await commit.claim(position, table, unique, doc, null);
      const applied: Applied = [await transaction.insert(position, table, doc), null, true];
      if (returning) commit.ask(table, applied);
      return applied;
    }
    const own = stored(old, identity);
    const replaced = { ...doc, ...stored(old, keep), ...greaterStored(old, doc, greatest), ...own };
    await commit.claim(position, table, unique, replaced, old);
    await transaction.replace(position, table, old, replaced);
    const applied: Applied = [old._id, old._creationTime, false];
    return Object.keys(own).length > 0 ? [...applied, own] : applied;
  },

  async patch(commit, write, position) {
    const { transaction } = commit;
    const { table, set, unset = [], greatest = [], compute = {}, unique = [] } = write;
    const named = [...Object.keys(set), ...unset, ...Object.keys(compute)];
    if (new Set(named).size < named.length) {
      throw invalid(`write ${position}`, "a patch that does one thing with each field: sets, unsets or computes it");
    }
    const matches = predicate(write.where);
    let isMatch = true;
    const found = await change(transaction, write, position, async (old) => {
      isMatch = matches(old);
      if (!isMatch) return;
      const removed = Object.fromEntries(unset.map((field) => [field, undefined]));
      const given = { ...set, ...greaterStored(old, set, greatest), ...removed };
      const changes = { ...given, ...computed(compute, old, position, table) };
      await commit.claim(position, table, unique, { ...old, ...changes } as Fields, old);
      await transaction.patch(position, table, old, changes);
    });
    return found && isMatch;
  },

  async replace(commit, write, position) {
    const { transaction } = commit;
    return await change(transaction, write, position, async (old) => {
      await commit.claim(position, write.table, write.unique ?? [], write.doc, old);
      await transaction.replace(position, write.table, old, write.doc);
    });
  },

  async delete({ transaction }, write, position) {
    return await change(transaction, write, position, async (old) => {
      await transaction.delete(write.table, old);
    });
  },

  async deleteRange(commit, { table, index, eq, lower, upper, ranges: union, filter, limit }, position) {
    const { transaction, ranges } = commit;
    const matches = predicate(filter);
    let deleted = 0;
    const isDone = () => deleted === limit || commit.isRangeBudgetSpent;
    const stopped = (): Applied => {
      if (limit === undefined) throw rangeTooLarge(position, table);
      return [deleted, true];
    };
    const request = { table, index, eq, lower, upper, ranges: union };
    transaction.requireFits(request);
    if (isDone()) return stopped();
    for await (const document of transaction.scan(request)) {
      ranges.documents += 1;
      ranges.bytes += getDocumentSize(document);
      if (matches(document)) {
        await transaction.delete(table, document);
        ranges.deletes += 1;
        deleted += 1;
      }
      if (isDone()) return stopped();
    }
    return [deleted, false];
  },
};

/** Changes the document a write aims at, if it is there and is what the write expects; says whether it was there. */
async function change(
  transaction: Transaction,
  write: Write<"patch" | "replace" | "delete">,
  position: number,
  apply: (old: Document) => Promise<void>,
): Promise<boolean> {
  const old = await transaction.find(write.table, write.at);
  if (old === null) {
    if (write.missing === "skip") return false;
    throw stale(position, write.table, { reason: "missing" });
  }
  const fields = await unexpected(old, write.expect ?? {});
  if (fields.length > 0) throw stale(position, write.table, { reason: "changed", fields });
  await apply(old);
  return true;
}

/** Those of some fields that are stored, as they are. */
function stored(old: Document, names: string[]): Fields {
  const kept = names.filter((field) => !field.startsWith("_") && Object.hasOwn(old, field));
  return Object.fromEntries(kept.map((field) => [field, old[field]!]));
}

/** Those of some fields of which more is stored than given, as they are stored. */
function greaterStored(old: Document, given: Fields, greatest: string[]): Fields {
  const greater = greatest.filter(
    (field) =>
      !field.startsWith("_") &&
      Object.hasOwn(old, field) &&
      Object.hasOwn(given, field) &&
      compareValues(old[field], given[field]) > 0,
  );
  return Object.fromEntries(greater.map((field) => [field, old[field]!]));
}

async function meets(value: Value | undefined, expectation: Expectation): Promise<boolean> {
  if ("sha256" in expectation) return (await canonicalHash(value)) === expectation.sha256;
  const expected = "in" in expectation ? expectation.in : [expectation.is];
  return expected.some(([one]) => compareValues(value, one) === 0);
}

/** The fields that are not what is expected of them. */
async function unexpected(document: Document, expect: Record<string, Expectation>): Promise<string[]> {
  const fields: string[] = [];
  for (const [field, expectation] of Object.entries(expect)) {
    const value = Object.hasOwn(document, field) ? document[field] : undefined;
    if (!(await meets(value, expectation))) fields.push(field);
  }
  return fields;
}
