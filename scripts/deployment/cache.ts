/**
 * Convex's cache of queries: a query asked again is answered without running it, until something is written.
 *
 * Convex looks at what a query has read; here any write empties the cache, so it answers less often from it, never wrongly.
 */
import { getConvexSize, type Value } from "convex/values";

/** Bytes of answers kept; the least recently asked ones make room. */
const BYTES = 64 << 20;

export class QueryCache {
  readonly #answers = new Map<string, { answer: Value; bytes: number }>();
  #bytes = 0;
  #version = 0;

  /** Something was written: nothing that was read before is known to be so now. */
  invalidate(): void {
    this.#version += 1;
    this.#answers.clear();
    this.#bytes = 0;
  }

  /** The answer of a query, run only if it is not known. */
  async answer(key: string, run: () => Promise<Value>): Promise<Value> {
    const known = this.#answers.get(key);
    if (known !== undefined) {
      this.#answers.delete(key);
      this.#answers.set(key, known);
      return known.answer;
    }
    const version = this.#version;
    const answer = await run();
    if (version === this.#version) this.#keep(key, answer);
    return answer;
  }

  #keep(key: string, answer: Value): void {
    if (this.#answers.has(key)) return;
    const bytes = key.length + getConvexSize(answer);
    if (bytes > BYTES) return;
    this.#answers.set(key, { answer, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#answers) {
      if (this.#bytes <= BYTES) return;
      this.#answers.delete(oldest);
      this.#bytes -= entry.bytes;
    }
  }
}
