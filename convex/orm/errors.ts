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
  | "OtherIndex"
  | "BadRange"
  | "Stale"
  | "Withdrawn"
  | "RangeTooLarge"
  | "Limit"
  | "BadDocument"
  | "NoFunction";

export type Refusal = ConvexError<{ code: Code; message: string; [key: string]: Value }>;

function refusal(code: Code, message: string, data: Record<string, Value> = {}): Refusal {
  return new ConvexError({ code, message, ...data });
}

export const otherVersion = (): Refusal =>
  refusal(
    "Version",
    `These functions speak version ${VERSION} of the wire, the request another. Update the library, or copy its functions with ` +
      "`python -m convexorm functions convex` and deploy them with `npx convex deploy`.",
    { supported: VERSION },
  );

export const invalid = (at: string, expected: string): Refusal => refusal("Invalid", `${at} must be ${expected}.`);

export const unknownTable = (table: string): Refusal =>
  refusal("UnknownTable", `The deployment's schema has no table "${table}".`, { table });

export const unknownIndex = (table: string, index: string): Refusal =>
  refusal("UnknownIndex", `Table "${table}" has no index "${index}".`, { table, index });

/** An index of this name is deployed, but is not what the request takes it for. */
export const otherIndex = (table: string, index: string, assumed: string[], deployed: string[]): Refusal =>
  refusal(
    "OtherIndex",
    `Index "${index}" of table "${table}" is deployed on ${listed(deployed)}, the request assumes ${listed(assumed)}.`,
    { table, index, assumed, deployed },
  );

const listed = (words: string[]): string => `[${words.join(", ")}]`;

export const badRange = (table: string, index: string, why: string): Refusal =>
  refusal("BadRange", `Index "${index}" of table "${table}": ${why}.`, { table, index });

export type Staleness =
  | { reason: "missing"; fields?: string[] }
  | { reason: "exists"; relation: string }
  | { reason: "changed" | "exists"; fields: string[] };

export function stale(write: number, table: string, staleness: Staleness): Refusal {
  const what = {
    missing: "the document is gone",
    exists: "a document with this key exists",
    changed: "the document has changed",
  }[staleness.reason];
  return refusal("Stale", `Write ${write} on table "${table}": ${what}.`, { write, table, ...staleness });
}

export const withdrawn = (): Refusal =>
  refusal("Withdrawn", "This commit has been withdrawn; nothing of it is written.");

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

/** With a `field` it is this one that something is wrong with. */
export const badDocument = (write: number, table: string, why: string, field?: string): Refusal => {
  const at = `Write ${write} on table "${table}":`;
  if (field === undefined) return refusal("BadDocument", `${at} ${why}.`, { write, table });
  return refusal("BadDocument", `${at} field "${field}" ${why}.`, { write, table, field, why });
};

export const noFunction = (write: number, path: string): Refusal =>
  refusal("NoFunction", `Write ${write}: the deployment has no mutation or action "${path}" that could be scheduled.`, {
    write,
    path,
  });
