/**
 * The entries of the cache: a value, a counter, or the head of a list, and the elements of lists beside them.
 *
 * A list may have more elements than one mutation deletes. While that goes on, over several calls, its entry is of the kind
 * `deleted`: as good as gone, and the key's next writer has to wait for the rest.
 */
import { getDocumentSize, type Value } from "convex/values";
import type { RangeBuilder, Writer } from "../../orm/database";
import { flawIn, flawOf } from "../../orm/documents";
import type { Document, Fields } from "../../orm/protocol";
import { refusal } from "../storage/errors";

const ENTRIES = "mastra_cache";
const ELEMENTS = "mastra_cache_list_items";

// One call of an operation that the client repeats until nothing is left.
const BATCH_DELETES = 1_000;
const BATCH_BYTES = 6 << 20;

// What Convex lets a function read and return.
const ANSWER_BYTES = 15 << 20;
const ANSWER_ELEMENTS = 8_000;
const ANSWER_LEVELS = 64;
const LEVELS_AROUND = 2;

export type Kind = "value" | "list" | "counter" | "deleted";

export interface Entry extends Document {
  key: string;
  keyPrefix: string;
  kind: Kind;
  expiresAt: number | null;
}

/** What is under a key: `rest` says that an older entry is being deleted, and that the request is to be sent again. */
export interface Found {
  entry: Entry | null;
  rest: boolean;
}

export class Entries {
  /** Whether anything has been written: an error from then on must undo it. */
  hasWritten = false;
  #deletes = 0;
  #bytes = 0;

  constructor(
    readonly db: Writer,
    readonly now: number,
  ) {}

  /**
   * The entry under a key, unless its time is over, in which case it is deleted. With a prefix only its own: prefixes and keys may
   * spell the same together, "t" with "1x" and "t1" with "x".
   */
  async live(key: string, keyPrefix?: string): Promise<Found> {
    const entry = await this.#entry(key, keyPrefix);
    if (entry === null || (entry.kind !== "deleted" && !this.#isOver(entry))) return { entry, rest: false };
    return { entry: null, rest: await this.delete(key, entry.keyPrefix) };
  }

  /** Deletes what is under a key as far as one call goes; says whether there is more. */
  async delete(key: string, keyPrefix?: string): Promise<boolean> {
    const entry = await this.#entry(key, keyPrefix);
    const prefix = keyPrefix ?? entry?.keyPrefix;
    const rest = await this.#deleteAll(ELEMENTS, "by_key_index", (builder) => builder.eq("key", key), prefix);
    if (entry === null) return rest;
    this.hasWritten = true;
    if (!rest) await this.db.delete(ENTRIES, entry._id);
    else if (entry.kind !== "deleted") await this.db.patch(ENTRIES, entry._id, { kind: "deleted" });
    return rest;
  }

  /** Deletes what has exactly this prefix as far as one call goes; says whether there is more. */
  async clear(keyPrefix: string): Promise<boolean> {
    const hasPrefix = (builder: RangeBuilder) => builder.eq("keyPrefix", keyPrefix);
    // Elements last: a list without its entry is empty.
    const rest = await this.#deleteAll(ENTRIES, "by_key_prefix", hasPrefix);
    return rest || (await this.#deleteAll(ELEMENTS, "by_key_prefix", hasPrefix));
  }

  async put(old: Entry | null, fields: Fields): Promise<void> {
    this.#require(fields);
    this.hasWritten = true;
    if (old === null) await this.db.insert(ENTRIES, fields);
    else await this.db.replace(ENTRIES, old._id, fields);
  }

  /** Writes what goes on: its partner, if it has one, is prolonged as well. */
  async prolong(old: Entry | null, fields: Fields): Promise<void> {
    const partner = old?.["partner"];
    if (old === null || typeof partner !== "string") return await this.put(old, fields);
    const other = await this.#entry(partner, old.keyPrefix);
    await this.put(old, { ...fields, partner });
    if (other === null || other["partner"] !== old.key || other.kind === "deleted" || this.#isOver(other)) return;
    await this.db.patch(ENTRIES, other._id, { expiresAt: fields["expiresAt"] ?? null });
  }

  async append(element: Fields): Promise<void> {
    this.#require(element);
    this.hasWritten = true;
    await this.db.insert(ELEMENTS, element);
  }

  /** The elements of a list between two positions, both included. */
  async elements({ key, keyPrefix }: Entry, from: number, to: number): Promise<Value[]> {
    const found: Value[] = [];
    let bytes = 0;
    const range = (builder: RangeBuilder) => builder.eq("key", key).gte("index", from).lte("index", to);
    for await (const element of this.#scan(ELEMENTS, "by_key_index", range)) {
      if (element["keyPrefix"] !== keyPrefix) continue;
      bytes += getDocumentSize(element);
      if (found.push(decoded(element["value"])) > ANSWER_ELEMENTS || bytes > ANSWER_BYTES) {
        throw refusal("TooLarge", `The elements asked for are more than Convex lets one call answer; ask for fewer.`, {
          maximumElements: ANSWER_ELEMENTS,
          maximumBytes: ANSWER_BYTES,
        });
      }
    }
    return found;
  }

  async #entry(key: string, keyPrefix: string | undefined): Promise<Entry | null> {
    for await (const entry of this.#scan(ENTRIES, "by_key", (builder) => builder.eq("key", key))) {
      if (keyPrefix === undefined || entry["keyPrefix"] === keyPrefix) return entry as Entry;
    }
    return null;
  }

  #isOver({ expiresAt }: Entry): boolean {
    return expiresAt !== null && expiresAt <= this.now;
  }

  async #deleteAll(
    table: string,
    index: string,
    range: (builder: RangeBuilder) => RangeBuilder,
    keyPrefix?: string,
  ): Promise<boolean> {
    for await (const document of this.#scan(table, index, range)) {
      if (keyPrefix !== undefined && document["keyPrefix"] !== keyPrefix) continue;
      if (this.#deletes >= BATCH_DELETES || this.#bytes >= BATCH_BYTES) return true;
      this.#deletes += 1;
      this.#bytes += getDocumentSize(document);
      this.hasWritten = true;
      await this.db.delete(table, document._id);
    }
    return false;
  }

  #scan(table: string, index: string, range: (builder: RangeBuilder) => RangeBuilder): AsyncIterable<Document> {
    return this.db.query(table).withIndex(index, range).order("asc");
  }

  #require(fields: Fields): void {
    const flaw = flawOf(fields);
    if (flaw !== null) throw refusal("BadDocument", `The cache cannot hold this: ${flaw}.`);
  }
}

/** JSON text of a value; what is not there is null. */
export const encoded = (value: Value | undefined): string => JSON.stringify(value ?? null);

/** The value of JSON text. Other writers may have stored what Convex does not let a function return. */
export function decoded(text: Value | undefined): Value {
  const value = JSON.parse(typeof text === "string" ? text : "null") as Value;
  const flaw = flawIn(value, LEVELS_AROUND, ANSWER_LEVELS);
  if (flaw === null) return value;
  throw refusal("BadDocument", `Convex does not let a function return the cached value: ${flaw}.`);
}
