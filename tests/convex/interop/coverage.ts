/** Finds out which public methods of the npm package's classes exist, and which of them a test has called. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Where the classes' own methods end and the bases of everything begin. */
const BASES: ReadonlySet<string> = new Set(["MastraBase", "Object"]);
const TYPES = [
  "node_modules/@mastra/convex/dist",
  "node_modules/@mastra/core/dist/storage/domains/memory",
  "node_modules/@mastra/core/dist/vector",
  "node_modules/@mastra/core/dist/cache",
];
const HIDDEN = /^\s*(?:private|protected)\s+(?:readonly\s+|async\s+|abstract\s+)*(\w+)/gm;

/** Methods that the type declarations keep for the classes themselves. */
const hidden: ReadonlySet<string> = new Set(TYPES.flatMap((folder) => declarations(folder).flatMap(hiddenIn)));

function declarations(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".d.ts"));
  return files.map((file) => readFileSync(join(folder, file), "utf8"));
}

function hiddenIn(text: string): string[] {
  return [...text.matchAll(HIDDEN)].map((match) => match[1]!);
}

function methodsOf(target: object): string[] {
  const found = new Set<string>();
  for (let each = prototypeOf(target); each && !BASES.has(each.constructor.name); each = prototypeOf(each)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(each))) {
      if (typeof value === "function" && name !== "constructor") found.add(name);
    }
  }
  return [...found].filter((name) => !hidden.has(name) && !name.startsWith("__"));
}

const prototypeOf = (value: object) => Object.getPrototypeOf(value) as object | null;

export class Coverage {
  readonly #expected = new Set<string>();
  readonly #called = new Set<string>();

  /** The same object, whose calls are noted once they have given what they give. */
  watch<T extends object>(name: string, target: T): T {
    for (const method of methodsOf(target)) this.#expected.add(`${name}.${method}`);
    return new Proxy(target, {
      get: (_target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function" || typeof key !== "string") return value;
        return (...args: unknown[]): unknown => {
          this.#called.add(`${name}.${key}`);
          return Reflect.apply(value, target, args);
        };
      },
    });
  }

  get missing(): string[] {
    return [...this.#expected].filter((method) => !this.#called.has(method));
  }

  get count(): number {
    return this.#expected.size - this.missing.length;
  }
}
