/**
 * What holds between documents of different tables in one commit: what deleting one does to those that refer to it, and which fields have
 * to lead to a document.
 *
 * Deleting cascades at once. What forbids a commit (documents that forbid to delete what they refer to, fields that lead nowhere) is
 * looked at once all its writes are applied, so the order of the writes does not matter.
 */
import { compareValues, getDocumentSize, type Value } from "convex/values";
import { canonical, hex } from "./canonical";
import { rangeTooLarge, stale } from "./errors";
import { predicate } from "./filter";
import * as limits from "./limits";
import type { Bound, Document, Fields, Gone, Key, Rule, Ties as Told, Unique } from "./protocol";
import type { Transaction } from "./transaction";

/** Notes the keys that are to be a document's own, which was `old` before. */
type Claim = (position: number, table: string, unique: Unique[], fields: Fields, old: Document) => Promise<void>;
type Restriction = { position: number; table: string; rule: Rule; value: Value };
type Lead = { position: number; table: string; id: string; field: string; target: string; key: Key };

export class Ties {
  readonly #removed = new Set<string>();
  readonly #restrictions: Restriction[] = [];
  readonly #leads = new Map<string, Lead[]>();

  constructor(
    readonly transaction: Transaction,
    readonly told: Told,
    readonly claim: Claim,
  ) {
    const { catalog } = transaction;
    for (const rules of Object.values(told.rules)) {
      for (const { table, index, fields, unique = [] } of rules) {
        catalog.requireAssumed(table, index, fields);
        for (const one of unique) catalog.requireAssumed(table, one.index, one.fields);
      }
    }
    for (const checks of Object.values(told.checks)) {
      for (const { table, index, fields } of checks) catalog.requireAssumed(table, index, fields);
    }
  }

  /** Whether this commit has deleted the document with this id. */
  hasRemoved(id: string): boolean {
    return this.#removed.has(id);
  }

  readonly #done: { table: string; field: string | null; id: string }[] = [];

  /** How many documents were deleted, and fields taken out, so far. */
  get done(): number {
    return this.#done.length;
  }

  /** What was deleted, and taken out, since so many were `done`. */
  gone(since: number): Gone[] {
    const found = new Map<string, Gone>();
    for (const { table, field, id } of this.#done.slice(since)) {
      const place = `${table}.${field ?? ""}`;
      const gone = found.get(place);
      if (gone === undefined) found.set(place, [table, field, [id]]);
      else gone[2].push(id);
    }
    return [...found.values()];
  }

  #ranges = 0;
  #bytes = 0;

  /** Throws where rules do more than one commit may. */
  #spend(position: number, table: string, bytes: number): void {
    this.#ranges += 1;
    this.#bytes += bytes;
    if (this.#ranges > limits.RANGE_DELETES || this.#bytes > limits.RANGE_BYTES) throw rangeTooLarge(position, table);
  }

  /** Deletes a document, and does to those that refer to it what the rules say; answers how many were deleted. */
  async remove(position: number, table: string, document: Document): Promise<number> {
    if (this.#removed.has(document._id)) return 0;
    this.#removed.add(document._id);
    this.#done.push({ table, field: null, id: document._id });
    await this.transaction.delete(table, document);
    let removed = 1;
    const rules = Object.hasOwn(this.told.rules, table) ? this.told.rules[table]! : [];
    for (const rule of rules) {
      const value = Object.hasOwn(document, rule.key) ? document[rule.key] : undefined;
      if (value === undefined || value === null || !predicate(rule.where)(document)) continue;
      if (rule.action === "restrict") {
        this.#restrictions.push({ position, table, rule, value });
        continue;
      }
      // Read to its end before anything is changed, which would change the range.
      const referring: Document[] = [];
      this.#spend(position, table, 0);
      for await (const each of this.#referring(rule, value)) {
        if (this.#removed.has(each._id)) continue;
        this.#spend(position, table, getDocumentSize(each));
        referring.push(each);
      }
      for (const each of referring) {
        if (rule.action === "cascade") removed += await this.remove(position, rule.table, each);
        else await this.#nullify(position, rule, each);
      }
    }
    return removed;
  }

  /** The documents that a rule is about, whose field is this value. */
  async *#referring({ table, index, filter }: Rule, value: Value): AsyncGenerator<Document> {
    const matches = predicate(filter);
    for await (const each of this.transaction.scan({ table, index, eq: [[value]] })) if (matches(each)) yield each;
  }

  async #nullify(position: number, rule: Rule, document: Document): Promise<void> {
    if (this.#removed.has(document._id)) return;
    this.#done.push({ table: rule.table, field: rule.field, id: document._id });
    const changes = { [rule.field]: rule.null ? null : undefined };
    await this.claim(position, rule.table, rule.unique ?? [], { ...document, ...changes } as Fields, document);
    await this.transaction.patch(position, rule.table, document, changes);
  }

  /** Notes the fields that a write sets in a document and that have to lead somewhere. */
  note(position: number, table: string, id: string, fields: Fields): void {
    if (!Object.hasOwn(this.told.checks, table)) return;
    for (const { field, table: target, index } of this.told.checks[table]!) {
      const value: Value | undefined = Object.hasOwn(fields, field) ? fields[field] : undefined;
      if (value === undefined || value === null) continue;
      const lead = { position, table, id, field, target, key: { index, key: [[value]] as Bound[] } };
      const place = `${target}.${index} ${hex(canonical(value))}`;
      const leads = this.#leads.get(place);
      if (leads === undefined) this.#leads.set(place, [lead]);
      else leads.push(lead);
    }
  }

  /** Throws for what forbids the commit, now that all writes are applied. */
  async hold(): Promise<void> {
    for (const { position, table, rule, value } of this.#restrictions) {
      for await (const _ of this.#referring(rule, value)) {
        throw stale(position, table, { reason: "exists", relation: rule.relation });
      }
    }
    for (const leads of this.#leads.values()) {
      const { target, key } = leads[0]!;
      if ((await this.#led(target, key)) === null) for (const lead of leads) await this.#hold(lead);
    }
  }

  /** Throws for what leads nowhere, unless the same commit has deleted it, too, or taken it out. */
  async #hold({ position, table, id, field, key }: Lead): Promise<void> {
    if (this.#removed.has(id)) return;
    const document = await this.transaction.get(table, id);
    const held = document !== null && Object.hasOwn(document, field) ? document[field] : undefined;
    if (compareValues(held, key.key[0]![0]) === 0) throw stale(position, table, { reason: "missing", fields: [field] });
  }

  async #led(target: string, key: Key): Promise<Document | null> {
    const [value] = key.key[0]!;
    if (key.index !== "by_id") return await this.transaction.first(target, key);
    return typeof value === "string" ? await this.transaction.get(target, value) : null;
  }
}
