/**
 * The crons of `crons.ts`: which there are, when each is next due, and its runs, by the clock of what is scheduled.
 */
import type { JSONValue } from "convex/values";
import type { Backend } from "./backend";
import { canonicalPath, kindOf, type Module } from "./functions";

type Calendar = { minuteUTC?: number; hourUTC?: number; day?: number; dayOfWeek?: string };
export type Schedule =
  | { type: "interval"; seconds?: number; minutes?: number; hours?: number }
  | ({ type: "hourly" | "daily" | "weekly" | "monthly" } & Calendar)
  | { type: "cron"; cron: string };

/** A cron as `cronJobs().export()` has it. */
interface CronJob {
  name: string;
  args: JSONValue[];
  schedule: Schedule;
}

const DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
/** A February 29 comes within as many days. */
const LONGEST = 8 * 366;

/** The time after one, in milliseconds since 1970, at which a schedule is due next; undefined for one that never is. */
export function nextAfter(schedule: Schedule, time: number): number | undefined {
  if (schedule.type === "interval") {
    const { seconds = 0, minutes = 0, hours = 0 } = schedule;
    return time + seconds * 1_000 + minutes * MINUTE + hours * 60 * MINUTE;
  }
  const [minutes, hours, days, months, weekdays] = fieldsOf(schedule);
  const first = (Math.floor(time / MINUTE) + 1) * MINUTE;
  for (let count = 0, day = Math.floor(first / DAY) * DAY; count < LONGEST; count++, day += DAY) {
    const date = new Date(day);
    if (!months!.values.has(date.getUTCMonth() + 1)) continue;
    const byDay = days!.values.has(date.getUTCDate());
    const byWeekday = weekdays!.values.has(date.getUTCDay());
    // Of two restrictions on days, either is enough.
    if (days!.isAny || weekdays!.isAny ? !(byDay && byWeekday) : !(byDay || byWeekday)) continue;
    for (let minute = 0; minute < 1_440; minute++) {
      const at = day + minute * MINUTE;
      if (at >= first && hours!.values.has(Math.floor(minute / 60)) && minutes!.values.has(minute % 60)) return at;
    }
  }
  return undefined;
}

interface Field {
  values: Set<number>;
  isAny: boolean;
}

function fieldsOf(schedule: Exclude<Schedule, { type: "interval" }>): Field[] {
  if (schedule.type === "cron") return parsed(schedule.cron);
  const { type, minuteUTC = 0, hourUTC, day, dayOfWeek } = schedule;
  const hour = type === "hourly" ? "*" : String(hourUTC);
  const weekday = type === "weekly" ? String(DAYS.indexOf(dayOfWeek ?? "")) : "*";
  return parsed(`${minuteUTC} ${hour} ${type === "monthly" ? day : "*"} * ${weekday}`);
}

function parsed(cron: string): Field[] {
  const texts = cron.trim().toLowerCase().split(/\s+/);
  if (texts.length !== 5) throw new Error(`A cron has five fields: ${cron}`);
  const ranges: [number, number, string[]?][] = [[0, 59], [0, 23], [1, 31], [1, 12, MONTHS], [0, 7, DAYS.map((day) => day.slice(0, 3))]];
  return texts.map((text, place) => {
    const [least, most, names] = ranges[place]!;
    const values = new Set(text.split(",").flatMap((part) => valuesOf(part, least, most, names)));
    if (place === 4 && values.has(7)) values.add(0);
    return { values, isAny: text === "*" || text === "?" };
  });
}

function valuesOf(part: string, least: number, most: number, names: string[] | undefined): number[] {
  const [range = "", step = "1"] = part.split("/");
  const numberOf = (text: string): number => {
    const name = names?.indexOf(text) ?? -1;
    const number = name < 0 ? Number(text) : name + (names === undefined || names.length === 7 ? 0 : 1);
    if (!Number.isInteger(number) || number < least || number > most) throw new Error(`${part} is no field of a cron`);
    return number;
  };
  const [from = "", to] = range === "*" || range === "?" ? [String(least), String(most)] : range.split("-");
  const first = numberOf(from);
  const last = to === undefined ? (part.includes("/") ? most : first) : numberOf(to);
  const by = Number(step);
  if (!Number.isInteger(by) || by < 1) throw new Error(`${part} is no field of a cron`);
  return Array.from({ length: Math.max(0, Math.floor((last - first) / by) + 1) }, (_, place) => first + place * by);
}

/** A cron, and when it runs. */
export interface Cron {
  identifier: string;
  name: string;
  schedule: Schedule;
  next: number | undefined;
  runs: number;
  failures: number;
}

export class Crons {
  readonly crons: (Cron & { args: JSONValue })[];
  #timer: NodeJS.Timeout | undefined;
  #running = false;

  constructor(
    readonly backend: Backend,
    module: Module | undefined,
  ) {
    const exported = (module?.["default"] as { export?: () => string } | undefined)?.export?.();
    const jobs = exported === undefined ? {} : (JSON.parse(exported) as Record<string, CronJob>);
    const { now } = backend.jobs;
    this.crons = Object.entries(jobs).map(([identifier, { name, args, schedule }]) => ({
      identifier,
      name: canonicalPath(name),
      schedule,
      args: args[0] ?? {},
      // Intervals begin at once.
      next: schedule.type === "interval" ? now : nextAfter(schedule, now),
      runs: 0,
      failures: 0,
    }));
    for (const { name } of this.crons) backend.requireFunction({ name, reference: undefined, functionHandle: undefined });
  }

  list(): Cron[] {
    return this.crons.map(({ args: _, ...cron }) => cron);
  }

  /** Waits for the next that is due, by the clock. */
  arm(): void {
    clearTimeout(this.#timer);
    const next = Math.min(...this.crons.map((cron) => cron.next ?? Infinity));
    if (next === Infinity) return;
    const wait = Math.min(2 ** 31 - 1, Math.max(0, next - this.backend.jobs.now));
    this.#timer = setTimeout(() => void this.run(), wait).unref();
  }

  /** Runs what is due, each as often as it was; how often that was. */
  async run(): Promise<number> {
    if (this.#running) return 0;
    this.#running = true;
    let ran = 0;
    try {
      for (let due = this.#due(); due !== undefined; due = this.#due(), ran++) await this.#once(due);
    } finally {
      this.#running = false;
      this.arm();
    }
    return ran;
  }

  #due(): (Cron & { args: JSONValue }) | undefined {
    const due = this.crons.filter((cron) => cron.next !== undefined && cron.next <= this.backend.jobs.now);
    return due.sort((one, other) => one.next! - other.next!)[0];
  }

  async #once(cron: Cron & { args: JSONValue }): Promise<void> {
    cron.next = nextAfter(cron.schedule, cron.next!);
    cron.runs += 1;
    try {
      await this.backend.call(kindOf(this.backend.options.functions.find(cron.name)!), cron.name, cron.args);
    } catch (error) {
      cron.failures += 1;
      console.error(error);
    }
  }
}
