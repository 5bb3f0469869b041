/**
 * Counts what Convex would bill: calls, bytes of their bodies, documents and bytes read and written; and conflicts, by the table in
 * which they were. `most` is the largest that one call, or one run of a function, has used of each of Convex's limits.
 *
 * Reads count whether a transaction commits or rolls back, writes only when it commits. A mutation that is run again counts once.
 */
import type { Usage } from "./meter";

export interface Metrics {
  calls: number;
  requestBytes: number;
  responseBytes: number;
  documentsRead: number;
  bytesRead: number;
  documentsWritten: number;
  bytesWritten: number;
  conflicts: Record<string, number>;
  /** Milliseconds that queries and mutations have taken apart from their system calls. */
  userTime: number;
  most: Record<Limited, number>;
  /** The sync protocol: queries that are kept answered now, those that were run again for commits, and messages to clients. */
  sync: { subscriptions: number; reruns: number; messages: number; bytes: number };
}

export type Limited =
  | "requestBytes"
  | "responseBytes"
  | "documentsRead"
  | "bytesRead"
  | "indexRanges"
  | "documentsWritten"
  | "bytesWritten"
  | "userTime";

const zero = (): Metrics => ({
  calls: 0,
  requestBytes: 0,
  responseBytes: 0,
  documentsRead: 0,
  bytesRead: 0,
  documentsWritten: 0,
  bytesWritten: 0,
  conflicts: {},
  userTime: 0,
  most: {
    requestBytes: 0,
    responseBytes: 0,
    documentsRead: 0,
    bytesRead: 0,
    indexRanges: 0,
    documentsWritten: 0,
    bytesWritten: 0,
    userTime: 0,
  },
  sync: { subscriptions: 0, reruns: 0, messages: 0, bytes: 0 },
});

export class Tally {
  #counts = zero();
  /** How many queries are kept answered. */
  subscriptions = (): number => 0;

  get counts(): Metrics {
    this.#counts.sync.subscriptions = this.subscriptions();
    return this.#counts;
  }

  reset(): void {
    this.#counts = zero();
  }

  call(requestBytes: number, responseBytes: number): void {
    this.#counts.calls += 1;
    this.#counts.requestBytes += requestBytes;
    this.#counts.responseBytes += responseBytes;
    this.#raise({ requestBytes, responseBytes });
  }

  transaction(used: Usage, userTime: number, { committed }: { committed: boolean }): void {
    const { documentsRead, bytesRead, databaseQueries: indexRanges, documentsWritten, bytesWritten } = used;
    this.#raise({ documentsRead, bytesRead, indexRanges, documentsWritten, bytesWritten, userTime });
    this.#counts.userTime += userTime;
    this.#counts.documentsRead += used.documentsRead;
    this.#counts.bytesRead += used.bytesRead;
    if (!committed) return;
    this.#counts.documentsWritten += used.documentsWritten;
    this.#counts.bytesWritten += used.bytesWritten;
  }

  message(bytes: number): void {
    this.#counts.sync.messages += 1;
    this.#counts.sync.bytes += bytes;
  }

  rerun(): void {
    this.#counts.sync.reruns += 1;
  }

  conflict(table: string): void {
    this.#counts.conflicts[table] = (this.#counts.conflicts[table] ?? 0) + 1;
  }

  #raise(used: Partial<Record<Limited, number>>): void {
    const { most } = this.#counts;
    for (const [limit, amount] of Object.entries(used) as [Limited, number][]) most[limit] = Math.max(most[limit], amount);
  }
}
