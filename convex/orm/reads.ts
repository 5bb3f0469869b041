/**
 * Answers one read: its range through its filter, from `skip` to `limit`, as far as the budget of the call goes.
 *
 * A document is read only when it is needed, and `next` is the key of the last one read, so a read that is sent again goes on
 * behind it.
 */
import type { Catalog } from "./catalog";
import type { Reader } from "./database";
import { digestAll, digestOf, type Digest } from "./digest";
import { Matcher } from "./exists";
import { predicate } from "./filter";
import { Following } from "./follow";
import type { ReadMeter } from "./meter";
import { Packer } from "./packed";
import type { Document, Read, Result } from "./protocol";
import { keyOf, rangesOf, scan, type IndexRequest } from "./range";

export async function answer(db: Reader, catalog: Catalog, meter: ReadMeter, read: Read): Promise<Result> {
  const fields = catalog.fields(read.table, read.index);
  const ranges = rangesOf(read, fields);
  const matcher = () => matcherOf(db, catalog, meter);
  const matches = matcher().test(read.filter);
  const collector = new Collector(matches ? { ...read, filter: undefined } : read);
  let last: Document | undefined;
  const next = () => (last === undefined ? (read.after ?? []) : keyOf(last, fields));
  const following = read.follow && new Following(db, catalog, meter, matcher, read.follow);
  const result = async (behind: Result["next"]): Promise<Result> => {
    const answered = await collector.result(behind);
    return following ? { ...answered, followed: await following.result(answered.docs) } : answered;
  };
  if (collector.isDone) return await result(null);
  for (const range of ranges) {
    if (meter.isSpent) return await result(next());
    meter.ranges += 1;
    for await (const document of scan(db, read.table, read.index, fields, range, read.order ?? "asc")) {
      meter.read(document);
      last = document;
      if (!matches || (await matches(document))) collector.take(document);
      // Followed some at a time, so that a call ends with few documents whose edges are left for the next.
      if (following) await following.keepUp(collector.documents);
      if (collector.isDone) return await result(null);
      if (meter.isSpent) return await result(next());
    }
  }
  return await result(null);
}

/** What tells which documents fulfil conditions on others. */
export function matcherOf(db: Reader, catalog: Catalog, meter: ReadMeter): Matcher {
  async function* counted(request: IndexRequest): AsyncGenerator<Document> {
    const fields = catalog.fields(request.table, request.index);
    for (const range of rangesOf(request, fields)) {
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
  #count = 0;
  #skipped = 0;
  #more = false;

  constructor(read: Read) {
    this.#read = read;
    this.#matches = predicate(read.filter);
    this.#packer = read.pack && new Packer(read.pack);
  }

  /** Whether no further document can change the answer. */
  get isDone(): boolean {
    return this.#more || (this.#isFull && !this.#read.peek);
  }

  get #isFull(): boolean {
    return this.#read.limit !== undefined && this.#count >= this.#read.limit;
  }

  take(document: Document): void {
    if (!this.#matches(document)) return;
    if (this.#skipped < (this.#read.skip ?? 0)) {
      this.#skipped += 1;
    } else if (this.#isFull) {
      this.#more = true;
    } else {
      this.#count += 1;
      this.#keep(document);
    }
  }

  #keep(document: Document): void {
    const { count, digest } = this.#read;
    if (count) return;
    if (this.#packer || digest) this.#digests.push(digestOf(document));
    if (this.#packer) this.#packer.take(document);
    else if (!digest) this.documents.push(document);
  }

  async result(next: Result["next"]): Promise<Result> {
    const found = { count: this.#count, skipped: this.#skipped, more: this.#more, next };
    if (this.#packer) {
      const { docs, rounded } = this.#packer;
      return { docs, ...found, rounded, digests: this.#digests };
    }
    switch (this.#read.digest) {
      case "each":
        return { docs: [], ...found, digests: this.#digests };
      case "all":
        return { docs: [], ...found, digest: await digestAll(this.#digests) };
      default:
        return { docs: this.documents, ...found };
    }
  }
}
