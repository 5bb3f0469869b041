/**
 * Conditions on other documents: whether an edge leads from a document to one that fulfils a filter.
 *
 * A filter is evaluated at once, and looking for other documents takes time. So a filter that comes upon an edge of which nothing is known
 * yet notes it, the edge is looked along, and the filter is evaluated again: only what decides is looked for, and once for each key.
 */
import type { Value } from "convex/values";
import { canonical, hex } from "./canonical";
import type { Catalog } from "./catalog";
import { overLimit } from "./errors";
import { predicate } from "./filter";
import { withKey } from "./follow";
import * as limits from "./limits";
import type { Document, Exists, Filter } from "./protocol";
import type { IndexRequest } from "./range";

/** Reads a range, and counts what it reads. */
export type Scan = (request: IndexRequest) => AsyncIterable<Document>;

type Need = { exists: Exists; value: Value; place: string };
type Test = (document: Document) => Promise<boolean>;

/** Most documents that are looked at for one filter in a call, so that Convex's own limit is never met. */
const LOOKED_AT = limits.TRANSACTION_DOCUMENTS_READ - 2 * limits.READ_DOCUMENTS;

/** A filter, as a test of documents. */
export class Matcher {
  readonly #known = new Map<Exists, Map<string, boolean>>();
  readonly #tests = new Map<Exists, Test>();
  #needs: Need[] = [];
  #looked = 0;

  constructor(
    readonly scan: Scan,
    readonly catalog: Catalog,
  ) {}

  /** The test of a filter; undefined for one that says nothing of other documents. */
  test(filter: Filter | undefined): Test | undefined {
    const edges = edgesOf(filter);
    if (edges.length === 0) return undefined;
    for (const exists of edges) {
      this.catalog.requireAssumed(exists.table, exists.index, exists.fields);
      const plain = predicate(exists.filter);
      this.#known.set(exists, new Map());
      this.#tests.set(exists, this.test(exists.filter) ?? ((document) => Promise.resolve(plain(document))));
    }
    const passes = predicate(filter, (exists, value) => this.#holds(exists, value));
    return async (document) => {
      for (;;) {
        this.#needs = [];
        const passed = passes(document);
        const needs = this.#needs;
        if (needs.length === 0) return passed;
        for (const need of needs) this.#known.get(need.exists)!.set(need.place, await this.#look(need));
      }
    };
  }

  #holds(exists: Exists, value: Value | undefined): boolean {
    if (value === undefined || value === null) return false;
    const place = typeof value === "string" ? `"${value}` : hex(canonical(value));
    const known = this.#known.get(exists)!.get(place);
    if (known === undefined) this.#needs.push({ exists, value, place });
    return known ?? false;
  }

  async #look({ exists, value }: Need): Promise<boolean> {
    const test = this.#tests.get(exists)!;
    for await (const document of this.scan(withKey(exists, [value]))) {
      this.#looked += 1;
      if (this.#looked > LOOKED_AT) throw overLimit("documentsRead", LOOKED_AT, this.#looked);
      if (await test(document)) return true;
    }
    return false;
  }
}

/** The edges that a filter speaks of, but for those that other documents are to fulfil. */
function edgesOf(filter: Filter | undefined): Exists[] {
  if (filter === undefined) return [];
  switch (filter.op) {
    case "exists":
      return [filter];
    case "and":
    case "or":
      return filter.args.flatMap(edgesOf);
    case "not":
      return edgesOf(filter.arg);
    default:
      return [];
  }
}
