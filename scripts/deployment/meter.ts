/**
 * What one function has read and written, held to Convex's limits on a transaction.
 */

// https://docs.convex.dev/production/state/limits
const MiB = 1 << 20;
const LIMITS = {
  bytesRead: 16 * MiB,
  documentsRead: 32_000,
  databaseQueries: 4_096,
  bytesWritten: 16 * MiB,
  documentsWritten: 16_000,
  functionsScheduled: 1_000,
  scheduledFunctionArgsBytes: 16 * MiB,
};

const WORDS: Record<keyof typeof LIMITS, string> = {
  bytesRead: "Too many bytes read",
  documentsRead: "Too many documents read",
  databaseQueries: "Too many reads",
  bytesWritten: "Too many bytes written",
  documentsWritten: "Too many writes",
  functionsScheduled: "Too many functions scheduled",
  scheduledFunctionArgsBytes: "Too large total size of the arguments of scheduled functions",
};

export type Usage = Record<keyof typeof LIMITS, number>;

export class Meter {
  readonly used: Usage = {
    bytesRead: 0,
    documentsRead: 0,
    databaseQueries: 0,
    bytesWritten: 0,
    documentsWritten: 0,
    functionsScheduled: 0,
    scheduledFunctionArgsBytes: 0,
  };

  add(what: keyof Usage, amount: number): void {
    this.used[what] += amount;
    if (this.used[what] > LIMITS[what]) {
      throw new Error(`${WORDS[what]} in a single function execution (limit: ${LIMITS[what]})`);
    }
  }

  read(bytes: number): void {
    this.add("documentsRead", 1);
    this.add("bytesRead", bytes);
  }

  wrote(bytes: number): void {
    this.add("documentsWritten", 1);
    this.add("bytesWritten", bytes);
  }

  /** What `getTransactionMetrics` answers. */
  report(): Record<string, { used: number; remaining: number }> {
    const names = Object.keys(LIMITS) as (keyof Usage)[];
    return Object.fromEntries(
      names.map((name) => [name, { used: this.used[name], remaining: LIMITS[name] - this.used[name] }]),
    );
  }

  /** What brings back what was counted as written. */
  savepoint(): () => void {
    const { bytesWritten, documentsWritten, functionsScheduled, scheduledFunctionArgsBytes } = this.used;
    return () =>
      Object.assign(this.used, { bytesWritten, documentsWritten, functionsScheduled, scheduledFunctionArgsBytes });
  }
}
