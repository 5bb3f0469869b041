/**
 * Text search, as Convex's own indexes have it: the documents of a table whose text has one of some words, the last of which may be
 * the beginning of one, ranked by BM25.
 *
 * There is no index of words here: what a text holds is kept with the document once it was looked for.
 */
import { compareValues, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { END, keyOf } from "./keys";
import { evaluate, type FilterJSON } from "./queries";
import { valueAt, type SearchIndexDefinition, type Stored, type TableDefinition } from "./store";
import type { Transaction } from "./transaction";

type SearchFilter = { type: "Search"; fieldPath: string; value: string } | { type: "Eq"; fieldPath: string; value: JSONValue };

export interface SearchJSON {
  source: { type: "Search"; indexName: string; filters: SearchFilter[] };
  operators: ({ filter: FilterJSON } | { limit: number })[];
}

const MAXIMUM_WORDS = 16;
const MAXIMUM_FILTERS = 8;
const MAXIMUM_RESULTS = 1_024;
/** Different words that one search looks for, those that the last one begins among them. */
const MAXIMUM_TERMS = 64;
/** What a word counts that only begins with what is looked for. */
const PREFIX = 0.5;
const [K1, B] = [1.2, 0.75];
/** Bytes from which a word is passed over. */
const LONG = 32;

/** The documents of a search, best first, one at a time. */
export class TextScan {
  #found: Stored[] | undefined;
  #next = 0;
  readonly #passed: number[];

  constructor(
    readonly transaction: Transaction,
    readonly query: SearchJSON,
  ) {
    this.#passed = query.operators.map(() => 0);
  }

  /** The next document that the filters let through, counted; undefined after the last. */
  next(): Stored | undefined {
    this.#found ??= this.#search();
    for (;;) {
      const isFull = this.query.operators.some((each, place) => "limit" in each && this.#passed[place]! >= each.limit);
      if (isFull) return undefined;
      if (this.#next === MAXIMUM_RESULTS) {
        throw new Error(`Search query scanned too many documents (fetched ${MAXIMUM_RESULTS}).`);
      }
      const stored = this.#found[this.#next++];
      if (stored === undefined) return undefined;
      this.transaction.meter.read(stored.size);
      if (this.#passes(stored)) return stored;
    }
  }

  #passes(stored: Stored): boolean {
    for (const [place, operator] of this.query.operators.entries()) {
      if ("filter" in operator && evaluate(operator.filter, stored.value) !== true) return false;
      this.#passed[place]! += 1;
    }
    return true;
  }

  /** What was found depends on every document of the table. */
  close(): void {}

  #search(): Stored[] {
    const { indexName, filters } = this.query.source;
    const [tableName = "", name = ""] = indexName.split(".");
    const table = this.transaction.options.tables.get(tableName);
    const index = table.searchIndexes.find(({ indexDescriptor }) => indexDescriptor === name);
    if (index === undefined) throw new Error(`Index ${indexName} not found.`);
    this.transaction.reads.add(table.name, "by_creation_time", "", END);
    const words = wordsOf(textOf(index, filters)).slice(0, MAXIMUM_WORDS);
    const equal = equalitiesOf(index, filters);
    if (words.length === 0) return [];
    return ranked(documentsOf(this.transaction, table), index, words)
      .filter(({ value }) => equal.every(([field, wanted]) => compareValues(valueAt(value, field), wanted) === 0))
      .slice(0, MAXIMUM_RESULTS);
  }
}

function textOf({ searchField }: SearchIndexDefinition, filters: readonly SearchFilter[]): string {
  const [search, ...more] = filters.filter((each) => each.type === "Search");
  if (search === undefined || more.length > 0 || search.fieldPath !== searchField) {
    throw new Error(`A search has one search filter, on "${searchField}"`);
  }
  return search.value as string;
}

function equalitiesOf({ filterFields }: SearchIndexDefinition, filters: readonly SearchFilter[]): [string, Value | undefined][] {
  const equal = filters.filter((each) => each.type === "Eq");
  if (equal.length > MAXIMUM_FILTERS) throw new Error(`A search has at most ${MAXIMUM_FILTERS} filter conditions`);
  return equal.map(({ fieldPath, value }) => {
    if (!filterFields.includes(fieldPath)) throw new Error(`"${fieldPath}" is no filter field of the index`);
    const isMissing = typeof value === "object" && value !== null && "$undefined" in value;
    return [fieldPath, isMissing ? undefined : jsonToConvex(value)];
  });
}

function* documentsOf(transaction: Transaction, table: TableDefinition): Iterable<Stored> {
  const tree = transaction.trees.get(table.name, "by_creation_time");
  for (let entry = tree.first("", END); entry !== undefined; entry = tree.first(`${entry[0]}\u0000`, END)) yield entry[1];
}

/** How often each word is in the field of a document, and how many words there are; by field. */
const counts = new WeakMap<Stored, Map<string, { words: Map<string, number>; length: number }>>();

function countsOf(stored: Stored, field: string) {
  const known = counts.get(stored) ?? new Map();
  counts.set(stored, known);
  let found = known.get(field);
  if (found === undefined) {
    const text = valueAt(stored.value, field);
    const all = typeof text === "string" ? wordsOf(text) : [];
    const words = new Map<string, number>();
    for (const word of all) words.set(word, (words.get(word) ?? 0) + 1);
    found = { words, length: all.length };
    known.set(field, found);
    stored.rest();
  }
  return found as { words: Map<string, number>; length: number };
}

/** The documents that have one of the words, best first; of those alike the newest first. */
function ranked(documents: Iterable<Stored>, { searchField }: SearchIndexDefinition, words: readonly string[]): Stored[] {
  const all = [...documents].map((stored) => ({ stored, ...countsOf(stored, searchField) }));
  const held = new Map<string, number>();
  for (const each of all) for (const word of each.words.keys()) held.set(word, (held.get(word) ?? 0) + 1);
  const last = words.at(-1)!;
  const exact = words.filter((word) => held.has(word));
  const begun = [...held.keys()].filter((word) => word.startsWith(last) && !exact.includes(word));
  const bytes = (word: string) => keyOf([word]);
  const inOrder = (some: Iterable<string>) => [...some].sort((one, other) => (bytes(one) < bytes(other) ? -1 : 1));
  const terms = [...inOrder(new Set(exact)), ...inOrder(begun)].slice(0, MAXIMUM_TERMS);
  const weights = terms.map((word): [string, number] => {
    const rarity = Math.log(1 + (all.length - held.get(word)! + 0.5) / (held.get(word)! + 0.5)) * (1 + K1);
    return [word, (exact.includes(word) ? 1 : PREFIX) * rarity];
  });
  const mean = all.reduce((sum, { length }) => sum + length, 0) / all.length;
  return all
    .map(({ stored, words: own, length }) => ({ stored, score: Math.trunc(scoreOf(weights, own, length, mean) * 1_000_000) }))
    .filter(({ score, stored }) => score > 0 || weights.some(([word]) => countsOf(stored, searchField).words.has(word)))
    .sort((one, other) => other.score - one.score || other.stored.value._creationTime - one.stored.value._creationTime)
    .map(({ stored }) => stored);
}

function scoreOf(weights: [string, number][], own: Map<string, number>, length: number, mean: number): number {
  const norm = K1 * (1 - B + (B * normOf(length)) / mean);
  return weights.reduce((sum, [word, weight]) => {
    const often = own.get(word) ?? 0;
    return often === 0 ? sum : sum + (weight * often) / (often + norm);
  }, 0);
}

/** How long a text of so many words is taken to be: Convex keeps a byte of it, exact up to 40. */
function normOf(length: number): number {
  let [base, step] = [40, 2];
  if (length <= base) return length;
  while (length >= base + 8 * step) [base, step] = [base + 8 * step, 2 * step];
  return base + Math.floor((length - base) / step) * step;
}

function wordsOf(text: string): string[] {
  const found = text.match(/[\p{Alphabetic}\p{N}]+/gu) ?? [];
  return found
    .filter((word) => Buffer.byteLength(word) < LONG)
    .map((word) => [...word].map((letter) => letter.toLowerCase()).join(""));
}
