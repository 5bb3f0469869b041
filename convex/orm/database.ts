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

export const readerOf = (db: GenericDatabaseReader<AnyDataModel>): Reader => db as unknown as Reader;
export const writerOf = (db: GenericDatabaseWriter<AnyDataModel>): Writer => db as unknown as Writer;
