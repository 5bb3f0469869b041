/**
 * Follows the edges of a read: from its documents to related ones, in the same call and from the same snapshot.
 *
 * Documents that have the same key share what they lead to: it is read once and travels once. What the budget of the call does not
 * reach is answered as a group that is to be gone on with.
 */
import { canonical, hex } from "./canonical";
import type { Catalog } from "./catalog";
import type { Reader } from "./database";
import type { Matcher } from "./exists";
import { predicate } from "./filter";
import type { ReadMeter } from "./meter";
import type { Bound, Document, Follow, Followed } from "./protocol";
import { partsOf, type IndexRequest } from "./range";
import { Walk } from "./walk";

/** Documents that are followed together. */
const BATCH = 64;

type Group = { key: Bound; docs: Document[]; next: Bound[] | null };

/** The request for what documents lead to that have this key. */
export function withKey({ table, index, eq, lower, upper, ranges, order }: Follow, key: Bound): IndexRequest {
  if (!ranges) return { table, index, eq: [key, ...(eq ?? [])], lower, upper, order };
  return { table, index, order, ranges: ranges.map((each) => ({ ...each, eq: [key, ...(each.eq ?? [])] })) };
}

/** One edge, and what it has led to so far. */
class Edge {
  readonly groups = new Map<string, Group>();
  readonly edges: Edge[];
  readonly #fields: readonly string[];
  readonly #matches: (document: Document) => boolean;
  readonly #across: ((document: Document) => Promise<boolean>) | undefined;

  constructor(
    readonly following: Following,
    readonly follow: Follow,
  ) {
    const { catalog } = following;
    catalog.requireAssumed(follow.table, follow.index, follow.fields);
    this.#fields = catalog.fields(follow.table, follow.index);
    this.#matches = predicate(follow.filter);
    this.#across = following.matcher().test(follow.filter);
    this.edges = (follow.follow ?? []).map((each) => new Edge(following, each));
    partsOf(withKey(follow, [null]), this.#fields);
  }

  async from(documents: readonly Document[]): Promise<void> {
    const found: Document[] = [];
    for (const document of documents) {
      const value = Object.hasOwn(document, this.follow.field) ? document[this.follow.field] : undefined;
      if (value === undefined || value === null) continue;
      const identity = typeof value === "string" ? `"${value}` : hex(canonical(value));
      if (this.groups.has(identity)) continue;
      const group = await this.#shared(identity, [value]);
      this.groups.set(identity, group);
      found.push(...group.docs);
    }
    if (found.length === 0) return;
    for (const edge of this.edges) await edge.from(found);
  }

  /** A single document that several edges lead to is read once. */
  async #shared(identity: string, key: Bound): Promise<Group> {
    const { table, index, eq, lower, upper, ranges, filter, limit } = this.follow;
    if (limit !== 1 || eq?.length || lower || upper || ranges || filter) return await this.#group(key);
    const { single } = this.following;
    const place = `${table}.${index} ${identity}`;
    const known = single.get(place);
    if (known) return known;
    const group = await this.#group(key);
    if (group.next === null) single.set(place, group);
    return group;
  }

  async #group(key: Bound): Promise<Group> {
    const { db, meter } = this.following;
    const { index, limit } = this.follow;
    const group: Group = { key, docs: [], next: null };
    if (limit === 0) return group;
    if (meter.isSpent) return { ...group, next: [] };
    if (index === "by_id" && typeof key[0] !== "string") return group;
    const walk = new Walk(db, meter, withKey(this.follow, key), this.#fields);
    for await (const document of walk.documents()) {
      if (this.#across ? await this.#across(document) : this.#matches(document)) group.docs.push(document);
      if (limit !== undefined && group.docs.length >= limit) return group;
    }
    return { ...group, next: walk.next };
  }

  result(sent: Set<string>): Followed {
    const groups = [...this.groups.values()].map(({ key, docs, next }): Followed["groups"][number] => {
      const once = docs.map((document) => {
        if (sent.has(document._id)) return document._id;
        sent.add(document._id);
        return document;
      });
      return [key, once, next];
    });
    return this.edges.length === 0 ? { groups } : { groups, followed: this.edges.map((edge) => edge.result(sent)) };
  }
}

export class Following {
  readonly single = new Map<string, Group>();
  readonly #edges: Edge[];
  #followed = 0;

  constructor(
    readonly db: Reader,
    readonly catalog: Catalog,
    readonly meter: ReadMeter,
    readonly matcher: () => Matcher,
    follow: readonly Follow[],
  ) {
    this.#edges = follow.map((each) => new Edge(this, each));
  }

  /** Follows from documents that have come since the last time, once there are some. */
  async keepUp(documents: readonly Document[], least = BATCH): Promise<void> {
    if (documents.length - this.#followed < least) return;
    const behind = documents.slice(this.#followed);
    this.#followed = documents.length;
    for (const edge of this.#edges) await edge.from(behind);
  }

  /** What all edges from these documents led to. */
  async result(documents: readonly Document[]): Promise<Followed[]> {
    await this.keepUp(documents, 1);
    const sent = new Set(documents.map(({ _id }) => _id));
    return this.#edges.map((edge) => edge.result(sent));
  }
}
