/**
 * The functions of a directory: finds its modules, loads them, and answers which function a path names and who may call it.
 */
import { readdir } from "node:fs/promises";
import { join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import type { GenericSchema, SchemaDefinition } from "convex/server";
import type { JSONValue } from "convex/values";

export type FunctionKind = "query" | "mutation" | "action";

export type Schema = SchemaDefinition<GenericSchema, boolean>;
export type Module = Record<string, unknown>;

/** What `convex/server` marks the functions it builds with. */
export interface RegisteredFunction {
  isQuery?: boolean;
  isMutation?: boolean;
  isAction?: boolean;
  isInternal?: boolean;
  exportArgs?(): string;
  exportReturns?(): string;
}

/** A function as the function spec has it, which `npx convex function-spec` prints. */
export interface FunctionSpec {
  identifier: string;
  functionType: "Query" | "Mutation" | "Action";
  visibility: { kind: "public" | "internal" };
  args: JSONValue;
  returns: JSONValue;
}

/** The system query that answers the function spec, to whoever has the key. */
export const SPEC = "_system/cli/modules:apiSpec";
const TYPES = { query: "Query", mutation: "Mutation", action: "Action" } as const;

const SOURCE = /\.(?:[cm]?[jt]s|[jt]sx)$/;
const NOT_A_MODULE =
  /\.d\.[cm]?ts$|\.test\.[jt]sx?$|(^|\/)_generated\/|(^|\/)node_modules\/|(^|\/)(schema|convex\.config)\.[jt]s$/;

export class Functions {
  private constructor(
    readonly schema: Schema | undefined,
    readonly modules: ReadonlyMap<string, Module>,
  ) {}

  /** Loads every module of a directory now, so that a broken one is reported before anything is served. */
  static async load(directory: string): Promise<Functions> {
    const paths = (await readdir(directory, { recursive: true }))
      .map((path) => path.split(sep).join("/"))
      .filter((path) => SOURCE.test(path))
      .sort();
    const load = async (path: string) => namespaceOf(await import(pathToFileURL(join(directory, path)).href));
    const modules = new Map<string, Module>();
    for (const path of paths.filter((each) => !NOT_A_MODULE.test(each))) {
      modules.set(path.replace(SOURCE, ""), await load(path));
    }
    const schemaPath = paths.find((path) => /^schema\.[jt]s$/.test(path));
    const schema = schemaPath === undefined ? undefined : ((await load(schemaPath))["default"] as Schema);
    return new Functions(schema, modules);
  }

  /** The function at `folder/module:name`; undefined if there is none. */
  find(path: string): RegisteredFunction | undefined {
    const [module = "", name = "default"] = canonicalPath(path).split(":");
    const exported = this.modules.get(module);
    const found = exported !== undefined && Object.hasOwn(exported, name) ? exported[name] : undefined;
    return isRegistered(found) ? found : undefined;
  }

  /** What there is, and what it takes and answers. */
  spec(): FunctionSpec[] {
    return [...this.modules].flatMap(([path, module]) =>
      Object.entries(module).flatMap(([name, value]) => {
        if (!isRegistered(value)) return [];
        return {
          identifier: `${path}.js:${name}`,
          functionType: TYPES[kindOf(value)],
          visibility: { kind: value.isInternal ? "internal" : "public" },
          args: JSON.parse(value.exportArgs?.() ?? '{"type":"any"}') as JSONValue,
          returns: JSON.parse(value.exportReturns?.() ?? "null") as JSONValue,
        };
      }),
    );
  }
}

/** `folder/module.js:name` and `folder/module:name` are the same function. */
export const canonicalPath = (path: string): string => path.replace(/\.(?:[cm]?[jt]s|[jt]sx)(?=:|$)/, "");

export function kindOf(registered: RegisteredFunction): FunctionKind {
  if (registered.isQuery) return "query";
  return registered.isMutation ? "mutation" : "action";
}

function isRegistered(value: unknown): value is RegisteredFunction {
  if (typeof value !== "function") return false;
  const { isQuery, isMutation, isAction } = value as RegisteredFunction;
  return Boolean(isQuery ?? isMutation ?? isAction);
}

/** What a module exports, whether Node loads it as an ES module or as CommonJS. */
function namespaceOf(module: Module): Module {
  const inner = module["default"];
  const isCommonJs = typeof inner === "object" && inner !== null && "__esModule" in inner;
  return isCommonJs ? (inner as Module) : module;
}
