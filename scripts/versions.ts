/**
 * Whether the functions build in the projects people have: `npm run versions -- [--modules DIR]`.
 *
 * Each pair of a version of the package `convex` and one of TypeScript gets a project in a temporary folder, with the functions and
 * a `tsconfig.json` as the CLI's template of that time has it. It is typechecked as `npx convex deploy` does it, and bundled with
 * that command's options. The versions are installed under names of their own (`package.json`), in `--modules` or `node_modules`.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";

const FUNCTIONS = ["orm.ts", "orm", "mastra", "schema.ts"];
const RUNS = [
  { convex: "convex-1.31", typescript: "typescript-5.6", lib: "ES2021" }, // the oldest of everything
  { convex: "convex-1.36", typescript: "typescript-5.6", lib: "ES2021" },
  { convex: "convex-1.42", typescript: "typescript-5.9", lib: "ES2023" },
  { convex: "convex", typescript: "typescript-5.9", lib: "ES2021" },
  { convex: "convex-1.31", typescript: "typescript", lib: "ES2023" },
  { convex: "convex", typescript: "typescript", lib: "ES2023" }, // the newest
];

/** What the CLI's template says, but for the library, which was ES2021 before 1.36. */
const tsconfig = (lib: string) => ({
  compilerOptions: {
    allowJs: true,
    strict: true,
    moduleResolution: "Bundler",
    jsx: "react-jsx",
    skipLibCheck: true,
    allowSyntheticDefaultImports: true,
    target: "ESNext",
    lib: [lib, "dom"],
    forceConsistentCasingInFileNames: true,
    module: "ESNext",
    isolatedModules: true,
    noEmit: true,
  },
  include: ["./**/*"],
  exclude: ["./_generated"],
});

const run = promisify(execFile);
const { values } = parseArgs({ options: { modules: { type: "string", default: "node_modules" } } });

/** The folder of an installed package: in the folder given, or among this project's own. */
async function packageOf(name: string): Promise<{ folder: string; version: string }> {
  for (const modules of [values.modules, "node_modules"]) {
    const folder = resolve(modules, name);
    const text = await readFile(join(folder, "package.json"), "utf8").catch(() => undefined);
    if (text !== undefined) return { folder, version: (JSON.parse(text) as { version: string }).version };
  }
  throw new Error(`${name} is not installed; \`make\` installs it`);
}

async function check({ convex, typescript, lib }: (typeof RUNS)[number]): Promise<string | undefined> {
  const [ours, theirs] = [await packageOf(convex), await packageOf(typescript)];
  const project = await mkdtemp(join(tmpdir(), "functions-"));
  try {
    const functions = join(project, "convex");
    await mkdir(join(project, "node_modules"));
    await symlink(ours.folder, join(project, "node_modules", "convex"));
    for (const name of FUNCTIONS) await cp(join("convex", name), join(functions, name), { recursive: true });
    await writeFile(join(functions, "tsconfig.json"), JSON.stringify(tsconfig(lib)));
    const problem = (await typecheck(functions, theirs.folder)) ?? (await bundle(functions));
    const what = `convex ${ours.version}, TypeScript ${theirs.version}, ${lib}`;
    process.stdout.write(`${what}: ${problem === undefined ? "builds" : "fails"}\n`);
    return problem;
  } finally {
    await rm(project, { recursive: true });
  }
}

async function typecheck(functions: string, typescript: string): Promise<string | undefined> {
  // The package is a link; without this flag it would be looked for where it really is.
  const arguments_ = [join(typescript, "bin", "tsc"), "--project", functions, "--preserveSymlinks"];
  return await run(process.execPath, arguments_).then(
    () => undefined,
    (error: { stdout: string }) => error.stdout,
  );
}

/** Bundles as the CLI does, with the esbuild that it brings. */
async function bundle(functions: string): Promise<string | undefined> {
  const { build } = createRequire(resolve("node_modules/convex/package.json"))("esbuild") as typeof import("esbuild");
  const modules = ["orm.ts", "schema.ts", "mastra/storage.ts", "mastra/cache.ts", "mastra/nativeVector.ts"];
  return await build({
    entryPoints: modules.map((name) => join(functions, name)),
    bundle: true,
    platform: "browser",
    format: "esm",
    target: "esnext",
    jsx: "automatic",
    outdir: "out",
    outbase: functions,
    conditions: ["convex", "module"],
    write: false,
    sourcemap: true,
    splitting: true,
    treeShaking: true,
    minifySyntax: true,
    minifyIdentifiers: true,
    keepNames: true,
    preserveSymlinks: true,
    metafile: true,
    logLevel: "silent",
  }).then(
    ({ warnings }) => (warnings.length > 0 ? warnings.map(({ text }) => text).join("\n") : undefined),
    (error: Error) => error.message,
  );
}

// Two at a time: a check is one process, and a machine has two cores or more.
const problems: string[] = [];
const left = [...RUNS];
const work = async () => {
  for (let next = left.shift(); next !== undefined; next = left.shift()) {
    const problem = await check(next);
    if (problem !== undefined) problems.push(problem);
  }
};
await Promise.all([work(), work()]);
for (const problem of problems) process.stderr.write(`${problem}\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
