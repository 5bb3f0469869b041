/**
 * Answers one read: its range through its filter, from `skip` to `limit`, as far as the budget of the call goes.
 *
 * A document is read only when it is needed, and `next` is the key of the last one read, so a read that is sent again goes on
 * behind it.
 */
import type { Catalog } from "./catalog";
import { changesOf } from "./changes";
import type { Reader } from "./database";
import { digestAll, digestOf, type Digest } from "./digest";
import { Matcher } from "./exists";
import { predicate } from "./filter";
import { Following } from "./follow";
import { fieldOf, Folding } from "./fold";
import type { ReadMeter } from "./meter";
import { Packer } from "./packed";
import type { Bound, Document, Read, Result } from "./protocol";
import { compareBounds, partsOf, scan, type IndexRequest } from "./range";
import { Found } from "./texts";
import { Walk } from "./walk";

export async function answer(db: Reader, catalog: Catalog, meter: ReadMeter, read: Read): Promise<Result> {
  const logged = await changesOf(db, catalog, meter, read);
  if (logged !== undefined) return logged;
  const { search } = read;
  const fields = catalog.fields(read.table, read.index);
  const walk = search ? new Found(db, catalog, meter, { ...read, search }) : new Walk(db, meter, read, fields);
  const matcher = () => matcherOf(db, catalog, meter);
  const matches = matcher().test(read.filter);
  const collector = new Collector(matches ? { ...read, filter: undefined } : read);
  const following = read.follow && new Following(db, catalog, meter, matcher, read.follow);
  const result = async (next: Result["next"]): Promise<Result> => {
    const answered = await collector.result(next);
    return following ? { ...answered, followed: await following.result(answered.docs) } : answered;
  };
  if (collector.isDone) return await result(null);
  for await (const document of walk.documents()) {
    if (matches && !(await matches(document))) continue;
    const { count } = collector;
    const isTaken = collector.take(document);
    if (walk instanceof Walk) {
      if (isTaken) walk.take();
      if (read.select && !read.sort && collector.count > count) collector.last = walk.place;
      // Followed some at a time, so that a call ends with few documents whose edges are left for the next.
      if (following && !read.sort) await following.keepUp(collector.documents);
    }
    if (collector.isDone) return await result(null);
  }
  if (search && walk.next) return { docs: [], count: 0, skipped: 0, more: false, next: walk.next };
  return await result(walk.next);
}

/** What tells which documents fulfil conditions on others. */
export function matcherOf(db: Reader, catalog: Catalog, meter: ReadMeter): Matcher {
  async function* counted(request: IndexRequest): AsyncGenerator<Document> {
    const fields = catalog.fields(request.table, request.index);
    for (const range of partsOf(request, fields).flat()) {
      meter.ranges += 1;
      for await (const document of scan(db, request.table, request.index, fields, range, "asc")) {
        meter.read(document);
        yield document;
      }
    }
  }
  return new Matcher(counted, catalog);
}

/** Takes documents in scan order and keeps of them what a read asks for. */
class Collector {
  readonly #read: Read;
  readonly #matches: (document: Document) => boolean;
  readonly documents: Document[] = [];
  readonly #digests: Digest[] = [];
  readonly #packer: Packer | undefined;
  readonly #folding: Folding | undefined;
  /** With `select`, which leaves the key out: where the last document that was answered is. */
  last: Bound[] | undefined;
  #count = 0;
  #skipped = 0;
  #more = false;

  constructor(read: Read) {
    this.#read = read;
    this.#matches = predicate(read.filter);
    this.#packer = read.pack && new Packer(read.pack);
    this.#folding = read.fold && new Folding(read.fold);
  }

  /** Whether no further document can change the answer. */
  get isDone(): boolean {
    if (this.#read.sort) return this.#read.limit === 0;
    return this.#more || (this.#isFull && !this.#read.peek);
  }

  get #isFull(): boolean {
    return this.#read.limit !== undefined && !this.#read.sort && this.#count >= this.#read.limit;
  }

  /** How many matches are part of the answer. */
  get count(): number {
    return this.#count;
  }

  /** Takes a document, and says whether it is a match. */
  take(document: Document): boolean {
    if (!this.#matches(document)) return false;
    if (this.#skipped < (this.#read.skip ?? 0)) {
      this.#skipped += 1;
    } else if (this.#isFull) {
      this.#more = true;
    } else {
      this.#count += 1;
      this.#keep(document);
    }
    return true;
  }

  #keep(document: Document): void {
    const { count, digest, select, sort } = this.#read;
    if (count) return;
    if (this.#folding) return this.#folding.take(document);
    if (select && !sort) return void this.documents.push(selected(document, select));
    if (this.#packer || digest) this.#digests.push(digestOf(document));
    if (this.#packer) this.#packer.take(document);
    else if (!digest) this.documents.push(document);
  }

  async result(next: Result["next"]): Promise<Result> {
    const { sort, select, limit } = this.#read;
    if (sort) {
      const first = this.documents.sort((one, other) => compareBy(one, other, sort)).slice(0, limit);
      const docs = select ? first.map((document) => selected(document, select)) : first;
      return { docs, count: docs.length, skipped: 0, more: false, next };
    }
    const found = { count: this.#count, skipped: this.#skipped, more: this.#more, next };
    if (this.#packer) {
      const { docs, rounded } = this.#packer;
      return { docs, ...found, rounded, digests: this.#digests };
    }
    if (this.#folding) return { docs: [], ...found, groups: this.#folding.groups };
    switch (this.#read.digest) {
      case "each":
        return { docs: [], ...found, digests: this.#digests };
      case "all":
        return { docs: [], ...found, digest: await digestAll(this.#digests) };
      default:
        return { docs: this.documents, ...found, ...(this.last && { last: this.last }) };
    }
  }
}

function compareBy(one: Document, other: Document, sort: NonNullable<Read["sort"]>): number {
  for (const { field, order } of sort) {
    const difference = compareBounds(fieldOf(one, field), fieldOf(other, field));
    if (difference !== 0) return order === "asc" ? difference : -difference;
  }
  return 0;
}

/** The document with no other fields than these. */
function selected(document: Document, fields: string[]): Document {
  const kept = fields.filter((field) => Object.hasOwn(document, field));
  return Object.fromEntries(kept.map((field) => [field, document[field]!])) as Document;
}
