/**
 * What each kind of write does, one handler an `op`. A write that cannot be applied throws, which rolls the whole commit back.
 */
import { compareValues, getDocumentSize, type Value } from "convex/values";
import { canonicalHash } from "./canonical";
import type { Catalog } from "./catalog";
import { computed } from "./compute";
import { invalid, rangeTooLarge, stale, type Refusal } from "./errors";
import { Matcher } from "./exists";
import { predicate } from "./filter";
import * as limits from "./limits";
import { unpacked } from "./packed";
import type {
  Applied,
  Bound,
  Document,
  Expectation,
  Fields,
  Filter,
  Key,
  Op,
  Ties as Told,
  Unique,
  Write,
} from "./protocol";
import { compareBounds, keyOf } from "./range";
import type { Schedule } from "./schedule";
import { step } from "./recount";
import { Ties } from "./ties";
import type { Transaction } from "./transaction";

/** A commit under way, and what its deleteRanges have used of their budget. */
export class Commit {
  readonly ranges = { deletes: 0, bytes: 0, documents: 0 };
  /** Answers of the writes that ask for the creation time of a new document. */
  readonly #asking: { table: string; applied: [string, number | null, boolean?] }[] = [];

  /** The ids of the documents that writes have inserted or replaced by a key, by the position of the write. */
  readonly #ids = new Map<number, string>();

  /** Keys that were another document's when a write gave them to one. */
  readonly #contested: { position: number; table: string; key: Key }[] = [];

  /** What holds between its documents and others. */
  readonly ties: Ties;

  constructor(
    readonly transaction: Transaction,
    told: Told,
    readonly schedule: Schedule,
  ) {
    this.ties = new Ties(transaction, told, (...claim) => this.claim(...claim));
  }

  get isRangeBudgetSpent(): boolean {
    const { deletes, bytes, documents } = this.ranges;
    return deletes >= limits.RANGE_DELETES || bytes >= limits.RANGE_BYTES || documents >= limits.RANGE_DOCUMENTS;
  }

  wrote(position: number, applied: Applied): void {
    if (Array.isArray(applied) && typeof applied[0] === "string") this.#ids.set(position, applied[0]);
  }

  /** The fields of a write, with the ids of the documents that others have written before it. */
  withIds(fields: Fields, refs: Record<string, number> | undefined, at: string): Fields {
    const ids = Object.entries(refs ?? {}).map(([field, place]): [string, string] => {
      const id = this.#ids.get(place);
      if (id === undefined) throw invalid(`${at}.refs.${field}`, "the position of an insert or upsert before it");
      return [field, id];
    });
    return ids.length === 0 ? fields : { ...fields, ...Object.fromEntries(ids) };
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
  if ("table" in write) {
    commit.transaction.catalog.requireWritable(position, write.table);
    requireAssumed(commit.transaction.catalog, write);
  }
  const handler: Handler<O> = handlers[write.op as O];
  const applied = await handler(commit, withRefs(commit, withArrays(write, position), position), position);
  commit.wrote(position, applied);
  return applied;
}

/** The write with the ids of what the commit has written before it. */
function withRefs<O extends Op>(commit: Commit, write: Write<O>, position: number): Write<O> {
  if (!("refs" in write) || write.refs === undefined) return write;
  const name = "doc" in write ? "doc" : "set";
  const fields = "doc" in write ? write.doc : write.set;
  return { ...write, [name]: commit.withIds(fields, write.refs, `write ${position}`) };
}

/** Throws unless the indexes that a write names are those that it takes them for. */
function requireAssumed(catalog: Catalog, write: Extract<Write, { table: string }>): void {
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

/** The test of a filter, which may speak of other documents. */
function matcherOf(transaction: Transaction, filter: Filter | undefined): (document: Document) => Promise<boolean> {
  const plain = predicate(filter);
  const across = new Matcher((request) => transaction.scan(request), transaction.catalog).test(filter);
  return across ?? ((document) => Promise.resolve(plain(document)));
}

const handlers: { [O in Op]: Handler<O> } = {
  async insert(commit, { table, doc, unique = [], returning }, position) {
    const { transaction } = commit;
    await commit.claim(position, table, unique, doc, null);
    const id = await transaction.insert(position, table, doc);
    commit.ties.note(position, table, id, doc);
    const applied: Applied = [id, null];
    if (returning) commit.ask(table, applied);
    return applied;
  },

  async upsert(commit, write, position) {
    const { table, at, doc, keep = [], greatest = [], identity = [], unique = [], returning } = write;
    const { transaction } = commit;
    const old = await transaction.first(table, at);
    if (old === null) {
      await commit.claim(position, table, unique, doc, null);
      const id = await transaction.insert(position, table, doc);
      commit.ties.note(position, table, id, doc);
      const applied: Applied = [id, null, true];
      if (returning) commit.ask(table, applied);
      return applied;
    }
    const own = stored(old, identity);
    const replaced = { ...doc, ...stored(old, keep), ...greaterStored(old, doc, greatest), ...own };
    commit.ties.note(position, table, old._id, doc);
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
    const matches = matcherOf(transaction, write.where);
    let isMatch = true;
    const found = await change(commit, write, position, async (old) => {
      isMatch = await matches(old);
      if (!isMatch) return;
      const removed = Object.fromEntries(unset.map((field) => [field, undefined]));
      const given = { ...set, ...greaterStored(old, set, greatest), ...removed };
      const values = computed(compute, old, position, table);
      const changes = { ...given, ...values };
      commit.ties.note(position, table, old._id, { ...set, ...values } as Fields);
      await commit.claim(position, table, unique, { ...old, ...changes } as Fields, old);
      await transaction.patch(position, table, old, changes);
    });
    return found && isMatch;
  },

  async replace(commit, write, position) {
    return await change(commit, write, position, async (old) => {
      await commit.claim(position, write.table, write.unique ?? [], write.doc, old);
      commit.ties.note(position, write.table, old._id, write.doc);
      await commit.transaction.replace(position, write.table, old, write.doc);
    });
  },

  async delete(commit, write, position) {
    const { ties } = commit;
    const done = ties.done;
    const removed = "id" in write.at && ties.hasRemoved(write.at.id);
    const there = removed || (await change(commit, write, position, async (old) => void (await ties.remove(position, write.table, old))));
    return there && write.tells ? [1, false, ties.gone(done)] : there;
  },

  async deleteRange(commit, { table, index, eq, lower, upper, ranges: union, filter, limit, tells }, position) {
    const { transaction, ranges, ties } = commit;
    const matches = matcherOf(transaction, filter);
    const done = ties.done;
    let deleted = 0;
    const isDone = () => deleted === limit || commit.isRangeBudgetSpent;
    const answer = (more: boolean): Applied => (tells ? [deleted, more, ties.gone(done)] : [deleted, more]);
    const stopped = (): Applied => {
      if (limit === undefined) throw rangeTooLarge(position, table);
      return answer(true);
    };
    const request = { table, index, eq, lower, upper, ranges: union };
    transaction.requireFits(request);
    if (isDone()) return stopped();
    for await (const document of transaction.scan(request)) {
      ranges.documents += 1;
      ranges.bytes += getDocumentSize(document);
      if (await matches(document)) {
        const removed = await ties.remove(position, table, document);
        ranges.deletes += removed;
        if (removed > 0) deleted += 1;
      }
      if (isDone()) return stopped();
    }
    return answer(false);
  },

  async recount({ transaction }, { table, limit }) {
    transaction.catalog.requireTable(table);
    return await step(transaction, table, Math.min(Math.max(limit, 1), limits.RANGE_DELETES));
  },

  async schedule({ schedule }, write, position) {
    return [await schedule.add(write, position), null];
  },

  async cancel({ schedule }, { id }) {
    return await schedule.cancel(id);
  },
};

/** Changes the document a write aims at, if it is there and is what the write expects; says whether it was there. */
async function change(
  { transaction }: Commit,
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
      compareValues(old[field], Object.hasOwn(given, field) ? given[field] : undefined) > 0,
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
