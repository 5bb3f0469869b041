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

/** Documents with an array of numbers as float32, and whether a number lost precision by it. */
export class Packer {
  readonly docs: Document[] = [];
  rounded = false;

  constructor(readonly pack: Pack) {}

  /** Takes a document, unless its field is no array of so many numbers. */
  take(document: Document): void {
    const { field, length } = this.pack;
    const numbers = Object.hasOwn(document, field) ? document[field] : undefined;
    if (!Array.isArray(numbers) || numbers.length !== length) return;
    const floats = new Float32Array(length);
    let rounded = false;
    for (let place = 0; place < length; place++) {
      const number = numbers[place];
      if (typeof number !== "number") return;
      floats[place] = number;
      rounded ||= !Object.is(number, floats[place]);
    }
    this.rounded ||= rounded;
    this.docs.push({ ...document, [field]: floats.buffer });
  }
}

export const isNumbers = (value: Value | undefined): value is number[] =>
  Array.isArray(value) && value.every((element) => typeof element === "number");
