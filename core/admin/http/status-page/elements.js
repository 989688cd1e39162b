import { numberText } from "./model.js";

export const byId = (id) => document.getElementById(id);

/** An element with this text and nothing else. */
export function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className !== undefined) made.className = className;
  return made;
}

/** A cell that stands out when something is wrong. */
export function mark(value, isBad) {
  return { value, isBad };
}

/** A table with a name; columns with numbers are aligned as such. Cells may be elements. */
export function table(label, head, rows) {
  const made = document.createElement("table");
  made.setAttribute("aria-label", label);
  const isNumber = head.map((_, i) => rows.some((row) => typeof plain(row[i]) === "number"));
  const headRow = document.createElement("tr");
  headRow.append(
    ...head.map((text, i) => {
      const cell = element("th", text, isNumber[i] ? "number" : "");
      cell.scope = "col";
      return cell;
    }),
  );
  made.createTHead().append(headRow);
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((cell, i) => {
      const place = line.insertCell();
      if (cell instanceof Node) place.append(cell);
      else place.textContent = cell === undefined ? "–" : numberText(plain(cell));
      if (isNumber[i]) place.classList.add("number");
      if (cell?.isBad === true) place.classList.add("bad");
    });
  }
  return made;
}

function plain(cell) {
  return typeof cell === "object" && cell !== null && "isBad" in cell ? cell.value : cell;
}

/** Says how something went. */
export function tell(id, text, isBad = false) {
  const place = byId(id);
  place.textContent = text;
  place.classList.toggle("bad", isBad);
}
