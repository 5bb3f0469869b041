/**
 * The refusals of the wire: one `ConvexError` per code, with the data `docs/wire.md` lists.
 *
 * Messages name tables, indexes, fields, types and numbers. They never repeat what a document holds.
 */
import { ConvexError, type Value } from "convex/values";
import { VERSION } from "./limits";

export type Code =
  | "Version"
  | "Invalid"
  | "UnknownTable"
  | "UnknownIndex"
  | "BadRange"
  | "Stale"
  | "RangeTooLarge"
  | "Limit"
  | "BadDocument";

export type Refusal = ConvexError<{ code: Code; message: string; [key: string]: Value }>;

function refusal(code: Code, message: string, data: Record<string, Value> = {}): Refusal {
  return new ConvexError({ code, message, ...data });
}

export const otherVersion = (): Refusal =>
  refusal("Version", `This deployment speaks version ${VERSION} of the wire.`, { supported: VERSION });

export const invalid = (at: string, expected: string): Refusal => refusal("Invalid", `${at} must be ${expected}.`);

export const unknownTable = (table: string): Refusal =>
  refusal("UnknownTable", `The deployment's schema has no table "${table}".`, { table });

export const unknownIndex = (table: string, index: string): Refusal =>
  refusal("UnknownIndex", `Table "${table}" has no index "${index}".`, { table, index });

export const badRange = (table: string, index: string, why: string): Refusal =>
  refusal("BadRange", `Index "${index}" of table "${table}": ${why}.`, { table, index });

export type Staleness = { reason: "missing" | "exists" } | { reason: "changed"; fields: string[] };

export function stale(write: number, table: string, staleness: Staleness): Refusal {
  const what = {
    missing: "the document is gone",
    exists: "a document with this key exists",
    changed: "the document has changed",
  }[staleness.reason];
  return refusal("Stale", `Write ${write} on table "${table}": ${what}.`, { write, table, ...staleness });
}

export const rangeTooLarge = (write: number, table: string): Refusal =>
  refusal("RangeTooLarge", `Write ${write}: the range in table "${table}" is too large to delete in one commit.`, {
    write,
    table,
  });

export const overLimit = (limit: string, maximum: number, actual: number, where: { table?: string } = {}): Refusal =>
  refusal("Limit", `Too many or too large: ${limit} is ${actual}, the maximum is ${maximum}.`, {
    limit,
    maximum,
    actual,
    ...where,
  });

export const badDocument = (write: number, table: string, why: string): Refusal =>
  refusal("BadDocument", `Write ${write} on table "${table}": ${why}.`, { write, table });
