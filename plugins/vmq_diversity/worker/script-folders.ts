import { readFileSync, realpathSync } from "node:fs";
import { dirname, join, resolve, sep } from "node:path";

/** A source file of at most this size; larger ones are data and not a script. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

/** Reads files for `require`, `dofile` and `loadfile`: those of the script folders and nothing else. */
export class ScriptFolders {
  private readonly folders: readonly string[];
  /** Files that were read. */
  readonly files = new Set<string>();

  /** `scriptDir` comes first, as in VerneMQ; then the script's own folder and the bundled one. */
  constructor(script: string, scriptDir: string, bundledDir: string) {
    this.folders = [
      ...new Set([scriptDir, dirname(script), bundledDir].map((dir) => resolve(dir))),
    ];
  }

  /** The default of `package.path`. */
  get packagePath(): string {
    const [first, ...others] = this.folders;
    return ["./?.lua", "./?/init.lua", ...[first, ...others].map((dir) => `${dir}/?.lua`)].join(
      ";",
    );
  }

  /** A module by name as `require` takes it; an error's message lists where it was looked for. */
  findModule(name: string, path: string): { source: Buffer; file: string } | { fault: string } {
    const tried: string[] = [];
    for (const template of path.split(";")) {
      const candidate = template.replaceAll("?", name.replaceAll(".", "/"));
      for (const file of this.candidates(candidate, name, template)) {
        const source = this.read(file);
        if (source !== undefined) return { source, file };
        tried.push(file);
      }
    }
    const list = [...new Set(tried)].map((file) => `\n\tno file '${file}'`).join("");
    return { fault: `module '${name}' not found:${list}` };
  }

  /** A file by path, relative to the script folders. */
  readFile(path: string): { source: Buffer } | { fault: string } {
    for (const file of this.candidates(path, path, "?")) {
      const source = this.read(file);
      if (source !== undefined) return { source };
    }
    return {
      fault: `cannot open ${path}: scripts read files below ${this.folders.join(", ")} only`,
    };
  }

  private candidates(candidate: string, name: string, template: string): string[] {
    if (candidate.startsWith("/")) return [candidate];
    const plain = template.replaceAll("?", name);
    return this.folders.flatMap((dir) => [join(dir, plain), join(dir, candidate)]);
  }

  private read(file: string): Buffer | undefined {
    try {
      const real = realpathSync(file);
      const isInside = this.folders.some((dir) => real.startsWith(`${realFolder(dir)}${sep}`));
      if (!isInside) return undefined;
      const source = readFileSync(real);
      if (source.length > FILE_BYTES_MAX) return undefined;
      this.files.add(real);
      return source;
    } catch {
      // Not there, or not readable: the next candidate.
      return undefined;
    }
  }
}

/** A folder that is not there holds no file. */
function realFolder(dir: string): string {
  try {
    return realpathSync(dir);
  } catch {
    return "\0";
  }
}
