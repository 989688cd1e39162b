const KEY_NAME = "nautilus-api-key";
const ASK_TIMEOUT_MS = 10_000;

let key = sessionStorage.getItem(KEY_NAME) ?? "";

export const hasKey = () => key !== "";

/** Keeps the key for this tab; "" forgets it. */
export function useKey(text) {
  key = text;
  if (key === "") sessionStorage.removeItem(KEY_NAME);
  else sessionStorage.setItem(KEY_NAME, key);
}

/** Asks this broker; throws with the status for whatever is not 200. */
export async function ask(path) {
  const response = await fetch(path, {
    headers: key === "" ? {} : { "x-api-key": key },
    signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
    cache: "no-store",
  });
  if (!response.ok) {
    throw Object.assign(new Error(`${path.split("?")[0]}: ${response.status}`), {
      status: response.status,
    });
  }
  return response.json();
}
