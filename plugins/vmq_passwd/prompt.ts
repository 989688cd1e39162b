/** Asks for passwords on a terminal. */
import { createInterface } from "node:readline";
import { Writable } from "node:stream";

/**
 * Shows each prompt and reads a line. On a terminal nothing of it is shown (readline edits into a
 * muted stream); from a pipe lines are taken as they come. Gives fewer lines if the input ends or the
 * user presses Ctrl-C.
 */
export async function askHidden(
  prompts: readonly string[],
  input: NodeJS.ReadStream,
  output: NodeJS.WritableStream,
): Promise<string[]> {
  const muted = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input, output: muted, terminal: input.isTTY, historySize: 0 });
  const typed = lines[Symbol.asyncIterator]();
  const answers: string[] = [];
  for (const prompt of prompts) {
    output.write(prompt);
    const { value, done } = await typed.next();
    output.write("\n");
    if (done === true) break;
    answers.push(value);
  }
  lines.close();
  return answers;
}
