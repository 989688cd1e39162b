/** Levenshtein distance, given up (Infinity) as soon as it must exceed `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return Number.POSITIVE_INFINITY;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  let current = [...previous];
  for (let row = 1; row <= a.length; row++) {
    current[0] = row;
    let least = row;
    for (let column = 1; column <= b.length; column++) {
      const cost = a.charCodeAt(row - 1) === b.charCodeAt(column - 1) ? 0 : 1;
      const above = (previous[column] ?? 0) + 1;
      const left = (current[column - 1] ?? 0) + 1;
      const diagonal = (previous[column - 1] ?? 0) + cost;
      const distance = Math.min(above, left, diagonal);
      current[column] = distance;
      if (distance < least) least = distance;
    }
    if (least > limit) return Number.POSITIVE_INFINITY;
    [previous, current] = [current, previous];
  }
  return previous[b.length] ?? Number.POSITIVE_INFINITY;
}

/** Up to `count` candidates that a typing error could have turned into `text`, nearest first. */
export function nearest(text: string, candidates: Iterable<string>, count: number): string[] {
  // A third of the letters wrong is no longer a typing error; long texts are never compared.
  const limit = text.length > 200 ? 0 : Math.max(2, Math.floor(text.length / 3));
  const found: { candidate: string; distance: number }[] = [];
  for (const candidate of new Set(candidates)) {
    const distance = editDistance(text, candidate, limit);
    if (distance <= limit) found.push({ candidate, distance });
  }
  found.sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1));
  const best = found[0]?.distance ?? 0;
  // Others are worth showing only when they are about as near as the best one.
  return found
    .filter(({ distance }) => distance <= 2 * best)
    .slice(0, count)
    .map((f) => f.candidate);
}
