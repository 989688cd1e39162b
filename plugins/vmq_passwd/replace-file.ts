/** Replaces a password file so that a reader, or a crash, sees the old or the new one, never a part. */
import { constants } from "node:fs";
import { copyFile, type FileHandle, open, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Only the owner reads and writes a new password file. */
const NEW_FILE_MODE = 0o600;
/** A backup older than this was left behind by a run that was killed. */
const STALE_MS = 10_000;
const LOCK_POLL_MS = 50;

/**
 * Hands the file's text to `change` and writes what it returns (undefined = leave it). While that
 * happens a copy `<file>.tmp` exists, as with VerneMQ; it also keeps a second run waiting. Owner and
 * mode stay. Links are followed.
 */
export async function changeFile(
  file: string,
  change: (text: string) => Promise<string | undefined>,
): Promise<void> {
  const path = await realpath(file);
  const backup = `${path}.tmp`;
  await createBackup(path, backup);
  try {
    const text = await readAll(path);
    const next = await change(text);
    if (next !== undefined) await replace(path, next);
  } finally {
    await rm(backup, { force: true });
  }
}

/** Creates the file. With `isOverwriting` an existing one is replaced as `changeFile` does. */
export async function createFile(
  file: string,
  text: string,
  isOverwriting: boolean,
): Promise<void> {
  if (isOverwriting && (await exists(file))) return changeFile(file, async () => text);
  const handle = await open(file, "wx", NEW_FILE_MODE);
  await writeAndClose(handle, text);
}

export async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw error;
    },
  );
}

async function createBackup(path: string, backup: string): Promise<void> {
  for (;;) {
    try {
      // Exclusive: follows no link that somebody put there and shows that nobody else is at work.
      await copyFile(path, backup, constants.COPYFILE_EXCL);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const ageMs = await stat(backup).then(
      // A copy has its own times; `ctime` cannot be set by anybody.
      (stats) => Date.now() - stats.ctimeMs,
      () => 0,
    );
    if (ageMs > STALE_MS) await rm(backup, { force: true });
    else await delay(LOCK_POLL_MS);
  }
}

async function replace(path: string, text: string): Promise<void> {
  const { mode, uid, gid } = await stat(path);
  const next = `${path}.${process.pid}.new`;
  const handle = await open(next, "wx", NEW_FILE_MODE);
  try {
    // Only root may give a file away; others own what they may replace, or become its owner.
    await handle.chown(uid, gid).catch(() => undefined);
    await handle.chmod(mode & 0o777);
    await writeAndClose(handle, text);
    await rename(next, path);
  } catch (error) {
    await rm(next, { force: true });
    // A file mounted into a container cannot be renamed over, only written; the backup is there.
    if ((error as NodeJS.ErrnoException).code !== "EBUSY") throw error;
    await writeAndClose(await open(path, "r+"), text, true);
  }
  await syncFolder(dirname(path));
}

async function writeAndClose(handle: FileHandle, text: string, isInPlace = false): Promise<void> {
  try {
    if (isInPlace) await handle.truncate(0);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the rename last through a power loss. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readAll(path: string): Promise<string> {
  const handle = await open(path, "r");
  try {
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}
