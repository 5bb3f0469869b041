/**
 * Counts what Convex would bill: calls, bytes of their bodies, documents and bytes read and written.
 *
 * convex-test keeps a tracker for each transaction. A nested transaction starts from the counts of its parent and hands them back, so
 * the outermost one has the total when it ends. Reads count whether it commits or rolls back, writes only when it commits.
 */
import { TransactionMetricsTracker } from "convex-test/dist/transactionMetrics.js";

export interface Metrics {
  calls: number;
  requestBytes: number;
  responseBytes: number;
  documentsRead: number;
  bytesRead: number;
  documentsWritten: number;
  bytesWritten: number;
}

const zero = (): Metrics => ({
  calls: 0,
  requestBytes: 0,
  responseBytes: 0,
  documentsRead: 0,
  bytesRead: 0,
  documentsWritten: 0,
  bytesWritten: 0,
});

let counted = zero();

export const metrics = (): Metrics => ({ ...counted });

export function resetMetrics(): void {
  counted = zero();
}

export function countCall(requestBytes: number, responseBytes: number): void {
  counted.calls += 1;
  counted.requestBytes += requestBytes;
  counted.responseBytes += responseBytes;
}

/** Counts every transaction of this process from now on; calls `onWrite` when one has written something. */
export function countTransactions(onWrite: () => void = () => undefined): void {
  const depths = new WeakMap<TransactionMetricsTracker, number>();
  const deepen = (tracker: TransactionMetricsTracker, by: number): number => {
    const depth = (depths.get(tracker) ?? 0) + by;
    depths.set(tracker, depth);
    return depth;
  };
  const tracker = TransactionMetricsTracker.prototype;
  const { startTransaction, commit, rollback } = tracker;
  tracker.startTransaction = function (...limits) {
    deepen(this, 1);
    startTransaction.apply(this, limits);
  };
  tracker.commit = function () {
    if (deepen(this, -1) === 0 && count(this, { committed: true })) onWrite();
    commit.apply(this);
  };
  tracker.rollback = function () {
    if (deepen(this, -1) === 0) count(this, { committed: false });
    rollback.apply(this);
  };
}

/** Counts a transaction that has ended; says whether it has written. */
function count(tracker: TransactionMetricsTracker, { committed }: { committed: boolean }): boolean {
  const { documentsRead, bytesRead, documentsWritten, bytesWritten } = tracker.getTransactionMetrics();
  counted.documentsRead += documentsRead.used;
  counted.bytesRead += bytesRead.used;
  if (!committed) return false;
  counted.documentsWritten += documentsWritten.used;
  counted.bytesWritten += bytesWritten.used;
  return documentsWritten.used > 0;
}
