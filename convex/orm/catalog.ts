/**
 * What the deployment's schema declares, as requests need it: which tables there are and the fields of their indexes.
 *
 * A function cannot ask Convex for the schema it runs under, but `schema.ts` is deployed together with the functions
 * that import it, so the two always agree.
 */
import type { GenericSchema, SchemaDefinition } from "convex/server";
import type { GenericValidator } from "convex/values";
import type { Log } from "./changes";
import { SYSTEM_TABLES } from "./database";
import { badDocument, otherIndex, unknownIndex, unknownTable } from "./errors";

const BUILT_IN: [string, string[]][] = [
  ["by_creation_time", ["_creationTime", "_id"]],
  ["by_id", ["_id"]],
];

/** A native vector index, as a schema declares it. */
export interface VectorIndex {
  indexDescriptor: string;
  vectorField: string;
  dimensions: number;
  filterFields: string[];
}

/** A text search index, as a schema declares it. */
export interface SearchIndex {
  indexDescriptor: string;
  searchField: string;
  filterFields: string[];
}

/** The indexes of a table that convex/server's types keep to themselves. */
type Declared = { vectorIndexes: VectorIndex[]; searchIndexes: SearchIndex[] };

export class Catalog {
  readonly #tables: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;
  readonly #validators: ReadonlyMap<string, GenericValidator>;
  readonly #declared: ReadonlyMap<string, Declared>;
  readonly #changeLogs: ReadonlyMap<string, Log>;

  constructor(schema: SchemaDefinition<GenericSchema, boolean>) {
    const declaring = Object.entries(schema.tables).map(([table, definition]): [string, Map<string, string[]>] => {
      const declared = definition[" indexes"]().map((index): [string, string[]] => [
        index.indexDescriptor,
        [...index.fields, "_creationTime", "_id"],
      ]);
      return [table, new Map([...declared, ...BUILT_IN])];
    });
    const system = SYSTEM_TABLES.map((table): [string, Map<string, string[]>] => [table, new Map(BUILT_IN)]);
    this.#tables = new Map([...declaring, ...system]);
    this.#validators = new Map(
      Object.entries(schema.tables).map(([table, definition]): [string, GenericValidator] => [
        table,
        definition.validator,
      ]),
    );
    this.#declared = new Map(
      Object.entries(schema.tables).map(([table, definition]) => [table, definition as unknown as Declared]),
    );
    this.#changeLogs = new Map(Object.keys(schema.tables).flatMap((table) => this.#logOf(table)));
  }

  requireTable(table: string): void {
    if (!this.#tables.has(table)) throw unknownTable(table);
  }

  /** Throws for a table that no commit writes. */
  requireWritable(write: number, table: string): void {
    this.requireTable(table);
    if (SYSTEM_TABLES.includes(table)) throw badDocument(write, table, "Convex writes it itself, it can only be read");
  }

  /** All fields of an index in order, with `_creationTime` and `_id` at the end. */
  fields(table: string, index: string): readonly string[] {
    this.requireTable(table);
    const fields = this.#tables.get(table)?.get(index);
    if (fields === undefined) throw unknownIndex(table, index);
    return fields;
  }

  /**
   * Throws unless an index is what a request takes it for: `assumed` are its declared fields, in order; a built-in index has none.
   * Unless the two agree, a range of the index means other documents than the caller has in mind.
   */
  requireAssumed(table: string, index: string, assumed: readonly string[] = []): void {
    const fields = this.fields(table, index);
    const declared = BUILT_IN.some(([name]) => name === index) ? [] : fields.slice(0, -2);
    if (assumed.length !== declared.length || assumed.some((field, place) => field !== declared[place])) {
      throw otherIndex(table, index, [...assumed], declared);
    }
  }

  /** The vector index of this name. */
  vectorIndex(table: string, index: string): VectorIndex {
    const found = this.vectorIndexes(table).find(({ indexDescriptor }) => indexDescriptor === index);
    if (found === undefined) throw unknownIndex(table, index);
    return found;
  }

  vectorIndexes(table: string): readonly VectorIndex[] {
    this.requireTable(table);
    return this.#declared.get(table)?.vectorIndexes ?? [];
  }

  /** The text search index of this name. */
  searchIndex(table: string, index: string): SearchIndex {
    this.requireTable(table);
    const found = this.#declared.get(table)?.searchIndexes.find(({ indexDescriptor }) => indexDescriptor === index);
    if (found === undefined) throw unknownIndex(table, index);
    return found;
  }

  /** The table that has a log of the changes of this one. */
  changeLog(table: string): Log | undefined {
    return this.#changeLogs.get(table);
  }

  get changeLogs(): Iterable<Log> {
    return this.#changeLogs.values();
  }

  #logOf(table: string): [string, Log][] {
    const log = `${table}_changes`;
    const fields = this.#tables.get(log)?.get("by_key");
    const validator = this.#validators.get(log);
    if (fields === undefined || validator?.kind !== "object" || !Object.hasOwn(validator.fields, "ids")) return [];
    return [[table, { table: log, by: fields.slice(0, -2) }]];
  }

  /** All indexes of a table, by name, with all their fields in order. */
  indexes(table: string): ReadonlyMap<string, readonly string[]> {
    this.requireTable(table);
    return this.#tables.get(table) ?? new Map();
  }

  /** What a table's documents must be, without Convex's own fields. */
  validator(table: string): GenericValidator | undefined {
    return this.#validators.get(table);
  }
}
