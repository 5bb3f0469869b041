/**
 * What Convex demands of a document before it is stored: its limits, its names of fields, and the validator of its table.
 */
import { getDocumentSize, type Value } from "convex/values";
import { tableOf } from "./ids";
import type { Tables } from "./store";

// https://docs.convex.dev/production/state/limits
const MAXIMUM_BYTES = 1 << 20;
const MAXIMUM_NESTING = 16;
const MAXIMUM_FIELDS = 1_024;
const MAXIMUM_ELEMENTS = 8_192;
const FIELD_NAME = /^(?!\$)[\x20-\x7e]{1,1024}$/;

/** A validator as `export()` writes it. */
export type ValidatorJSON =
  | { type: "null" | "number" | "bigint" | "boolean" | "string" | "bytes" | "any" | "commitTs" }
  | { type: "literal"; value: Value }
  | { type: "id"; tableName: string }
  | { type: "array"; value: ValidatorJSON }
  | { type: "record"; keys: ValidatorJSON; values: { fieldType: ValidatorJSON; optional: boolean } | ValidatorJSON }
  | { type: "object"; value: Record<string, { fieldType: ValidatorJSON; optional: boolean }> }
  | { type: "union"; value: ValidatorJSON[] };

/** Throws unless Convex can hold a document, whatever its table. */
export function requireDocument(document: Record<string, Value>): void {
  const size = getDocumentSize(document);
  if (size > MAXIMUM_BYTES) {
    throw new Error(`Value is too large (${(size / MAXIMUM_BYTES).toFixed(2)} MiB > maximum size 1 MiB)`);
  }
  const system = Object.keys(document).find((name) => name.startsWith("_") && name !== "_id" && name !== "_creationTime");
  if (system !== undefined) throw new Error("Field name starts with '_', which is only allowed for system fields");
  requireShape(document, 0);
}

function requireShape(value: Value | undefined, depth: number): void {
  if (typeof value !== "object" || value === null || value instanceof ArrayBuffer) return;
  if (depth >= MAXIMUM_NESTING) throw new Error(`Document is too nested (more than maximum nesting ${MAXIMUM_NESTING})`);
  if (Array.isArray(value)) {
    if (value.length > MAXIMUM_ELEMENTS) {
      throw new Error(`Array length is too long (${value.length} > maximum length ${MAXIMUM_ELEMENTS})`);
    }
    for (const each of value) requireShape(each, depth + 1);
    return;
  }
  const names = Object.keys(value);
  if (names.length > MAXIMUM_FIELDS) {
    throw new Error(`Object has too many fields (${names.length} > maximum number ${MAXIMUM_FIELDS})`);
  }
  for (const name of names) {
    if (!FIELD_NAME.test(name)) throw new Error("Field name is empty, too long, not printable ASCII or starts with '$'");
    requireShape((value as Record<string, Value>)[name], depth + 1);
  }
}

/** Where a value is not what a validator wants; null if it is. */
export function flawOf(tables: Tables, validator: ValidatorJSON, value: Value | undefined, at = ""): string | null {
  const wrong = (): string => `Validator error: ${at === "" ? "the value" : at} is not ${validator.type}`;
  switch (validator.type) {
    case "any":
      return null;
    case "null":
      return value === null ? null : wrong();
    case "number":
    case "bigint":
    case "boolean":
    case "string":
      return typeof value === validator.type ? null : wrong();
    case "commitTs":
      return typeof value === "bigint" ? null : wrong();
    case "bytes":
      return value instanceof ArrayBuffer ? null : wrong();
    case "literal":
      return value === validator.value ? null : wrong();
    case "id":
      return typeof value === "string" && tables.numbered(tableOf(value))?.name === validator.tableName ? null : wrong();
    case "array":
      return Array.isArray(value) ? firstFlaw(value, (each) => flawOf(tables, validator.value, each, `${at}[]`)) : wrong();
    case "union":
      return validator.value.some((member) => flawOf(tables, member, value, at) === null) ? null : wrong();
    case "record": {
      const { values } = validator;
      const of = "fieldType" in values ? values.fieldType : values;
      return isObject(value) ? firstFlaw(Object.values(value), (each) => flawOf(tables, of, each, `${at}{}`)) : wrong();
    }
    case "object": {
      if (!isObject(value)) return wrong();
      const unknown = Object.keys(value).find((name) => !Object.hasOwn(validator.value, name));
      if (unknown !== undefined) return `Validator error: Unexpected field in ${at === "" ? "object" : at}`;
      return firstFlaw(Object.entries(validator.value), ([name, { fieldType, optional }]) => {
        const field = Object.hasOwn(value, name) ? value[name] : undefined;
        if (field === undefined) return optional ? null : `Validator error: Missing required field \`${name}\` in object`;
        return flawOf(tables, fieldType, field, `${at}.${name}`);
      });
    }
  }
}

function firstFlaw<T>(values: readonly T[], of: (value: T) => string | null): string | null {
  for (const value of values) {
    const flaw = of(value);
    if (flaw !== null) return flaw;
  }
  return null;
}

const isObject = (value: Value | undefined): value is Record<string, Value> =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof ArrayBuffer);
