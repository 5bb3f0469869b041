/**
 * Counts what Convex would bill: calls, bytes of their bodies, documents and bytes read and written; and conflicts, by the table in
 * which they were.
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
}

const zero = (): Metrics => ({
  calls: 0,
  requestBytes: 0,
  responseBytes: 0,
  documentsRead: 0,
  bytesRead: 0,
  documentsWritten: 0,
  bytesWritten: 0,
  conflicts: {},
});

export class Tally {
  counts = zero();

  reset(): void {
    this.counts = zero();
  }

  call(requestBytes: number, responseBytes: number): void {
    this.counts.calls += 1;
    this.counts.requestBytes += requestBytes;
    this.counts.responseBytes += responseBytes;
  }

  transaction(used: Usage, { committed }: { committed: boolean }): void {
    this.counts.documentsRead += used.documentsRead;
    this.counts.bytesRead += used.bytesRead;
    if (!committed) return;
    this.counts.documentsWritten += used.documentsWritten;
    this.counts.bytesWritten += used.bytesWritten;
  }

  conflict(table: string): void {
    this.counts.conflicts[table] = (this.counts.conflicts[table] ?? 0) + 1;
  }
}
