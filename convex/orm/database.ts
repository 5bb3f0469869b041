/**
 * What these functions use of `ctx.db`, typed for tables and indexes that are only known at run time.
 *
 * The generic builders type `ctx.db` by a data model; theirs knows no index and leaves `_id` out of index ranges, although Convex
 * takes it there as the last field of every index. The casts below are the only ones: each states what Convex does.
 */
import type { AnyDataModel, GenericDatabaseReader, GenericDatabaseWriter } from "convex/server";
import type { Value } from "convex/values";
import type { Document, Fields, Order } from "./protocol";

export interface RangeBuilder {
  eq(field: string, value: Value | undefined): RangeBuilder;
  gt(field: string, value: Value | undefined): RangeBuilder;
  gte(field: string, value: Value | undefined): RangeBuilder;
  lt(field: string, value: Value | undefined): RangeBuilder;
  lte(field: string, value: Value | undefined): RangeBuilder;
}

export interface SearchBuilder {
  search(field: string, text: string): SearchBuilder;
  eq(field: string, value: Value | undefined): SearchBuilder;
}

export interface Reader {
  get(table: string, id: string): Promise<Document | null>;
  normalizeId(table: string, id: string): string | null;
  query(table: string): {
    withIndex(
      index: string,
      range: (builder: RangeBuilder) => RangeBuilder,
    ): { order(order: Order): AsyncIterable<Document> };
    withSearchIndex(index: string, search: (builder: SearchBuilder) => SearchBuilder): AsyncIterable<Document>;
  };
}

export interface Writer extends Reader {
  insert(table: string, fields: Fields): Promise<string>;
  /** A field set to undefined is removed. */
  patch(table: string, id: string, changes: Record<string, Value | undefined>): Promise<void>;
  replace(table: string, id: string, fields: Fields): Promise<void>;
  delete(table: string, id: string): Promise<void>;
}

/** The tables that Convex has of itself, which functions only read. */
export const SYSTEM_TABLES: readonly string[] = ["_storage", "_scheduled_functions"];

/** Reads tables of the schema, and those of Convex's own. */
export function readerOf(db: GenericDatabaseReader<AnyDataModel>): Reader {
  const [own, system] = [db as unknown as Reader, systemOf(db)];
  const of = (table: string): Reader => (SYSTEM_TABLES.includes(table) ? system : own);
  return {
    get: (table, id) => of(table).get(table, id),
    normalizeId: (table, id) => of(table).normalizeId(table, id),
    query: (table) => of(table).query(table),
  };
}

/** Reads the tables of Convex's own. */
export const systemOf = (db: GenericDatabaseReader<AnyDataModel>): Reader => db.system as unknown as Reader;
export const writerOf = (db: GenericDatabaseWriter<AnyDataModel>): Writer => db as unknown as Writer;
