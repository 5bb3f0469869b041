/**
 * Arrays of numbers as bytes on the wire: little-endian floats instead of JSON numbers. Documents always hold arrays.
 */
import type { Value } from "convex/values";
import { invalid } from "./errors";
import type { Document, Fields, Pack } from "./protocol";

/** Bytes of one number: 4 for float32, 8 for float64. */
export type Width = 4 | 8;

const ARRAYS = { 4: Float32Array, 8: Float64Array };

/** The fields with those named in `packed` unpacked. */
export function unpacked(fields: Fields, packed: Record<string, Width> | undefined, at: string): Fields {
  const arrays = Object.entries(packed ?? {}).map(([name, width]): [string, Value] => {
    const bytes = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (!(bytes instanceof ArrayBuffer) || bytes.byteLength % width !== 0) {
      throw invalid(`${at}.${name}`, `bytes of ${width} for each number`);
    }
    return [name, Array.from(new ARRAYS[width](bytes))];
  });
  return arrays.length === 0 ? fields : { ...fields, ...Object.fromEntries(arrays) };
}

/**
 * The documents whose field is an array of so many numbers, with it as float32; says whether a number lost precision by it. Others
 * are left out.
 */
export function withPacked(documents: Document[], { field, length }: Pack): { docs: Document[]; rounded: boolean } {
  let rounded = false;
  const docs = documents.flatMap((document): Document[] => {
    const numbers = Object.hasOwn(document, field) ? document[field] : undefined;
    if (!isNumbers(numbers) || numbers.length !== length) return [];
    const floats = Float32Array.from(numbers);
    rounded ||= numbers.some((number, position) => !Object.is(number, floats[position]));
    return [{ ...document, [field]: floats.buffer }];
  });
  return { docs, rounded };
}

export const isNumbers = (value: Value | undefined): value is number[] =>
  Array.isArray(value) && value.every((element) => typeof element === "number");
