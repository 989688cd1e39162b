/** Expressions for `page.evaluate`, as text: they run in a browser, whose types a Node program has not. */

/** Contrast of text to the card behind it, by WCAG 2.1, for a text of each kind. */
export const CONTRASTS = `(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const value = Number(part) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const back = getComputedStyle(document.querySelector("section:not([hidden])")).backgroundColor;
  return ["dd", "dt", "th", "td", ".hint"].map((selector) =>
    ratio(getComputedStyle(document.querySelector(selector)).color, back));
})()`;

export const BACKGROUND = "getComputedStyle(document.body).backgroundColor";

/** Width of what is there and of what is seen. */
export const WIDTHS =
  "[document.documentElement.scrollWidth, document.documentElement.clientWidth]";

/** Id or class of what has the focus. */
export const FOCUSED = "document.activeElement.id || document.activeElement.className";

export const FOCUS_OUTLINE = "getComputedStyle(document.activeElement).outlineStyle";

/** Buttons, fields and tables that no name tells what they are. */
export const NAMELESS = `[...document.querySelectorAll("button, input, table")]
  .filter((each) => !(
    each.getAttribute("aria-label") || each.labels?.[0]?.textContent ||
    (each.tagName === "BUTTON" && each.textContent)
  ))
  .map((each) => each.outerHTML)`;
