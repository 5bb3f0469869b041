/**
 * The time that a function itself takes, apart from its system calls: that of the processor, which other processes do not add to.
 */

const now: () => number =
  "threadCpuUsage" in process
    ? () => {
        const { user, system } = (process as unknown as { threadCpuUsage(): NodeJS.CpuUsage }).threadCpuUsage();
        return (user + system) / 1_000;
      }
    : () => performance.now();

export class UserClock {
  #used = 0;
  #since: number | undefined;

  /** `maximum` is in milliseconds. */
  constructor(readonly maximum: number) {}

  get used(): number {
    return this.#used + (this.#since === undefined ? 0 : now() - this.#since);
  }

  resume(): void {
    this.#since = now();
  }

  pause(): void {
    if (this.#since !== undefined) this.#used += now() - this.#since;
    this.#since = undefined;
  }

  /** Runs a system call, and throws where the function has used up its time. */
  call<T>(run: () => T): T {
    this.pause();
    try {
      this.require();
      return run();
    } finally {
      this.resume();
    }
  }

  require(): void {
    if (this.used > this.maximum) {
      throw new Error(`Function execution timed out (maximum duration: ${this.maximum / 1_000}s)`);
    }
  }
}
