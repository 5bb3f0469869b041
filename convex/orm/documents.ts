/**
 * What Convex demands of every document, whatever the schema says.
 *
 * Checked here before anything is written, so that a bad document is refused with its write's position and the same words
 * everywhere a document can be written.
 */
import { getDocumentSize, type Value } from "convex/values";
import type { VectorIndex } from "./catalog";
import * as limits from "./limits";
import type { Fields } from "./protocol";

const FIELD_NAME = /^[\x20-\x7e]+$/;

/** Why Convex would refuse a document, or null if it would not. The reason repeats no content. */
export function flawOf(fields: Fields): string | null {
  return shapeFlawOf(fields) ?? sizeFlaw(fields);
}

/** The same, whatever the document's size. */
export function shapeFlawOf(fields: Fields): string | null {
  const system = Object.keys(fields).find((name) => name.startsWith("_"));
  if (system !== undefined) return "a field name starts with an underscore, which Convex keeps for itself";
  return flawIn(fields, 0);
}

/** Why a vector index could not find a document by its vector, or null if it can. */
export function vectorFlawOf(fields: Fields, indexes: readonly VectorIndex[]): string | null {
  const unfit = indexes.find(({ vectorField }) => {
    const vector = Object.hasOwn(fields, vectorField) ? fields[vectorField] : undefined;
    return Array.isArray(vector) && !fitsFloat32(vector);
  });
  return unfit === undefined
    ? null
    : `field "${unfit.vectorField}" holds numbers that no vector index can: beyond float32, or all too small for it`;
}

/** Whether float32 holds the direction of a vector, to its precision. What is no number is for the schema to refuse. */
function fitsFloat32(vector: readonly Value[]): boolean {
  const { least, most } = limits.VECTOR_NUMBERS;
  const numbers = vector.filter((each) => typeof each === "number");
  const largest = numbers.reduce((found, each) => Math.max(found, Math.abs(each)), 0); // NaN if one of them is
  return largest === 0 || (largest >= least && largest <= most);
}

/** Sizes count the bytes Convex adds for `_id` and `_creationTime`. */
function sizeFlaw(fields: Fields): string | null {
  const size = getDocumentSize(fields);
  return size > limits.DOCUMENT_BYTES ? `it has ${size} bytes, the maximum is ${limits.DOCUMENT_BYTES}` : null;
}

/** Why Convex would not hold a value that begins `depth` levels down in one of at most `levels`, or null if it would. */
export function flawIn(
  value: Value | undefined,
  depth: number,
  levels: number = limits.DOCUMENT_NESTING,
): string | null {
  if (typeof value !== "object" || value === null || value instanceof ArrayBuffer) return null;
  if (depth >= levels) return `it is nested deeper than ${levels} levels`;
  if (Array.isArray(value)) {
    if (value.length > limits.ARRAY_ELEMENTS) {
      return `an array has ${value.length} elements, the maximum is ${limits.ARRAY_ELEMENTS}`;
    }
    return firstFlaw(value, depth, levels);
  }
  const names = Object.keys(value);
  if (names.length > limits.OBJECT_FIELDS) {
    return `an object has ${names.length} fields, the maximum is ${limits.OBJECT_FIELDS}`;
  }
  return names.some((name) => !isFieldName(name))
    ? `a field name is empty, longer than ${limits.FIELD_NAME_LENGTH}, not printable ASCII or starts with "$"`
    : firstFlaw(Object.values(value), depth, levels);
}

function firstFlaw(values: (Value | undefined)[], depth: number, levels: number): string | null {
  for (const value of values) {
    const flaw = flawIn(value, depth + 1, levels);
    if (flaw !== null) return flaw;
  }
  return null;
}

function isFieldName(name: string): boolean {
  return FIELD_NAME.test(name) && !name.startsWith("$") && name.length <= limits.FIELD_NAME_LENGTH;
}
