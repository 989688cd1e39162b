import { renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it, onTestFinished } from "vitest";
import { FileWatch } from "../../../core/listeners/file-watch.ts";
import { tempFolder } from "../../support/certs.ts";
import { Inbox } from "./support.ts";

function watched() {
  const { folder, remove } = tempFolder();
  const file = join(folder, "cert.pem");
  writeFileSync(file, "one");
  const changes = new Inbox<true>();
  const watch = new FileWatch([file, join(folder, "other.pem")], 5, () => changes.push(true));
  onTestFinished(() => {
    watch.stop();
    remove();
  });
  return { file, folder, changes };
}

it("notices a file written again, replaced by a rename, removed and back", async () => {
  const { file, folder, changes } = watched();
  writeFileSync(file, "two!");
  await changes.next();
  writeFileSync(join(folder, "new.pem"), "thre");
  renameSync(join(folder, "new.pem"), file);
  await changes.next();
  unlinkSync(file);
  await changes.next();
  writeFileSync(file, "four");
  await changes.next();
});

it("notices any of its files", async () => {
  const { folder, changes } = watched();
  writeFileSync(join(folder, "other.pem"), "here now");
  await changes.next();
});
