/**
 * Document ids as Convex makes them: the number of the table, 16 bytes and a check sum, in lower-case Crockford base 32.
 */
import { randomFillSync } from "node:crypto";

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const RANDOM = 16;

const pool = Buffer.alloc(RANDOM * 512);
let used = pool.length;

export function newId(table: number): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const inner = pool.subarray(used, (used += RANDOM));
  const bytes = [...varint(table), ...inner];
  return base32([...bytes, ...checksum(bytes)]);
}

/** The number of the table that an id belongs to; undefined for a text that is no id. */
export function tableOf(id: string): number | undefined {
  const bytes = unbase32(id);
  if (bytes === undefined || bytes.length < RANDOM + 3) return undefined;
  const body = bytes.slice(0, -2);
  const sum = checksum(body);
  if (sum[0] !== bytes.at(-2) || sum[1] !== bytes.at(-1)) return undefined;
  let table = 0;
  let place = 0;
  for (; place < body.length - RANDOM; place++) table |= (body[place]! & 0x7f) << (7 * place);
  return table === 0 ? undefined : table;
}

function varint(number: number): number[] {
  const bytes: number[] = [];
  for (; number > 0x7f; number >>>= 7) bytes.push((number & 0x7f) | 0x80);
  bytes.push(number);
  return bytes;
}

/** Fletcher's, of 16 bits. */
function checksum(bytes: readonly number[]): [number, number] {
  let low = 0;
  let high = 0;
  for (const byte of bytes) {
    low = (low + byte) & 0xff;
    high = (high + low) & 0xff;
  }
  return [low, high];
}

function base32(bytes: readonly number[]): string {
  let text = "";
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xffff;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += ALPHABET[(buffer >> (bits - 5)) & 31];
  }
  return bits > 0 ? text + ALPHABET[(buffer << (5 - bits)) & 31]! : text;
}

function unbase32(text: string): number[] | undefined {
  const bytes: number[] = [];
  let buffer = 0;
  let bits = 0;
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) return undefined;
    buffer = ((buffer << 5) | digit) & 0xffff;
    bits += 5;
    if (bits >= 8) bytes.push((buffer >> (bits -= 8)) & 0xff);
  }
  return bytes;
}
