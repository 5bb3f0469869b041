/**
 * Documents and their indexes in memory, as immutable trees: a snapshot is the set of trees at one moment.
 */
import { getConvexSize, getDocumentSize, jsonToConvex, type JSONValue, type Value } from "convex/values";
import type { Schema } from "./functions";
import { keyOf } from "./keys";
import { Tree } from "./tree";
import type { ValidatorJSON } from "./documents";

export interface IndexDefinition {
  name: string;
  /** All of its fields, with Convex's own at the end. */
  fields: string[];
}

export interface VectorIndexDefinition {
  indexDescriptor: string;
  vectorField: string;
  dimensions: number;
  filterFields: string[];
}

export interface SearchIndexDefinition {
  indexDescriptor: string;
  searchField: string;
  filterFields: string[];
}

export interface TableDefinition {
  name: string;
  number: number;
  indexes: IndexDefinition[];
  vectorIndexes: VectorIndexDefinition[];
  searchIndexes: SearchIndexDefinition[];
  documentType: ValidatorJSON | undefined;
}

export type DocumentValue = Record<string, Value> & { _id: string; _creationTime: number };

/** A document as it is kept: its JSON, from which everything else is made when it is asked for. */
export class Stored {
  #value: DocumentValue | undefined;
  #size: number | undefined;
  #keys: readonly string[] | undefined;

  constructor(
    readonly table: TableDefinition,
    readonly json: string,
    value?: DocumentValue,
  ) {
    this.#value = value;
  }

  get value(): DocumentValue {
    return (this.#value ??= jsonToConvex(JSON.parse(this.json) as JSONValue) as DocumentValue);
  }

  /** What reading it counts. */
  get size(): number {
    return (this.#size ??= getDocumentSize(this.value));
  }

  /** What writing it counts. */
  get written(): number {
    return getConvexSize(this.value);
  }

  /** Its key in each index of its table. */
  get keys(): readonly string[] {
    return (this.#keys ??= this.table.indexes.map(({ fields }) =>
      keyOf(fields.map((field) => valueAt(this.value, field))),
    ));
  }

  /** Lets go of what can be made of the JSON again. */
  rest(): void {
    void this.keys;
    void this.size;
    this.#value = undefined;
  }
}

/** What a field, or a place in one, holds. */
export function valueAt(value: Value | undefined, path: string): Value | undefined {
  let found = value;
  for (const name of path.split(".")) {
    const isObject = typeof found === "object" && found !== null && !Array.isArray(found) && !(found instanceof ArrayBuffer);
    found = isObject && Object.hasOwn(found as object, name) ? (found as Record<string, Value>)[name] : undefined;
  }
  return found;
}

/** The trees of a moment, by table and index. */
export type Snapshot = ReadonlyMap<string, Tree<Stored>>;

/** A document before and after; null is none. */
export interface Change {
  before: Stored | null;
  after: Stored | null;
}

export const indexName = (table: string, index: string): string => `${table}.${index}`;

const FIRST_TABLE = 10_001;
/** The tables of Convex's own, and their numbers. */
export const SYSTEM_TABLES = { _storage: 9_999, _scheduled_functions: 10_000 };
export type SystemTable = keyof typeof SYSTEM_TABLES;

export const isSystemTable = (name: string): name is SystemTable => Object.hasOwn(SYSTEM_TABLES, name);

const BUILT_IN: IndexDefinition[] = [
  { name: "by_id", fields: ["_id"] },
  { name: "by_creation_time", fields: ["_creationTime", "_id"] },
];

/** The tables of a schema, and those that come without one. */
export class Tables {
  readonly validated: boolean;
  readonly #byName = new Map<string, TableDefinition>();
  readonly #byNumber = new Map<number, TableDefinition>();

  /** `numbers` are those that tables had before. */
  constructor(
    schema: Schema | undefined,
    readonly numbers: Map<string, number> = new Map(),
  ) {
    for (const name of Object.keys(SYSTEM_TABLES)) this.#add(name, [], [], [], undefined);
    this.validated = schema?.schemaValidation ?? true;
    for (const [name, definition] of Object.entries(schema?.tables ?? {})) {
      const { indexes, vectorIndexes, searchIndexes, documentType } = (definition as unknown as Exporting).export();
      this.#add(
        name,
        indexes.map((index) => ({ name: index.indexDescriptor, fields: [...index.fields, "_creationTime", "_id"] })),
        vectorIndexes,
        searchIndexes,
        documentType,
      );
    }
  }

  get(name: string): TableDefinition {
    return this.#byName.get(name) ?? this.#add(name, [], [], [], undefined);
  }

  numbered(number: number | undefined): TableDefinition | undefined {
    return number === undefined ? undefined : this.#byNumber.get(number);
  }

  #add(
    name: string,
    declared: IndexDefinition[],
    vectorIndexes: VectorIndexDefinition[],
    searchIndexes: SearchIndexDefinition[],
    documentType: ValidatorJSON | undefined,
  ): TableDefinition {
    const number = this.#numberOf(name);
    const table = { name, number, indexes: [...BUILT_IN, ...declared], vectorIndexes, searchIndexes, documentType };
    this.#byName.set(name, table);
    this.#byNumber.set(number, table);
    return table;
  }

  #numberOf(name: string): number {
    if (isSystemTable(name)) return SYSTEM_TABLES[name];
    const known = this.numbers.get(name) ?? Math.max(FIRST_TABLE - 1, ...this.numbers.values()) + 1;
    this.numbers.set(name, known);
    return known;
  }
}

/** What a table says of itself to the deployment. */
interface Exporting {
  export(): {
    indexes: { indexDescriptor: string; fields: string[] }[];
    vectorIndexes: VectorIndexDefinition[];
    searchIndexes: SearchIndexDefinition[];
    documentType: ValidatorJSON;
  };
}

/** Trees under change: those of a snapshot until one of them is changed. */
export class Trees {
  #changed = new Map<string, Tree<Stored>>();
  #owner = {};

  constructor(readonly base: Snapshot) {}

  get(table: string, index: string): Tree<Stored> {
    const name = indexName(table, index);
    return this.#changed.get(name) ?? this.base.get(name) ?? EMPTY;
  }

  apply({ before, after }: Change): void {
    const table = (before ?? after)!.table;
    table.indexes.forEach(({ name }, place) => {
      const [old, now] = [before?.keys[place], after?.keys[place]];
      let tree = this.get(table.name, name);
      if (old !== undefined && old !== now) tree = tree.delete(old, this.#owner);
      if (now !== undefined) tree = tree.set(now, after!, this.#owner);
      this.#changed.set(indexName(table.name, name), tree);
    });
  }

  /** What brings it back to where it is now. */
  savepoint(): () => void {
    const changed = new Map(this.#changed);
    // What the trees share with the savepoint is not to be changed in place.
    this.#owner = {};
    return () => {
      this.#changed = changed;
      this.#owner = {};
    };
  }

  snapshot(): Snapshot {
    return this.#changed.size === 0 ? this.base : new Map([...this.base, ...this.#changed]);
  }
}

const EMPTY = Tree.empty<Stored>();
