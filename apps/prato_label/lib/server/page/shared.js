// What both pages are made of. Whatever the server sends is set as text or as the value of an attribute, never as markup.
const KEY = "prato-token";
const SVG = "http://www.w3.org/2000/svg";

export const place = (id) => document.getElementById(id);
export const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
export const moment = (seconds) => new Date(seconds * 1000).toLocaleString();

export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function table(columns, rows, none) {
  if (!rows.length) return element("p", none, { class: "none" });
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const name of columns) head.append(element("th", name, { scope: "col" }));
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const cell of row) {
      const into = line.insertCell();
      if (cell instanceof Node) into.append(cell);
      else into.textContent = cell ?? "";
      if (typeof cell === "number") into.className = "number";
    }
  }
  return made;
}

// What the server answers; null where it wants the token, which the page then asks for. An error says what the server's sentence does.
export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const response = await fetch(path, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
  if (response.status === 401) {
    sessionStorage.removeItem(KEY);
    place("said").textContent = token ? "This is not the server's access token." : "The server requires its access token.";
    place("ask").hidden = false;
    place("shown").hidden = true;
    return null;
  }
  const said = await response.json();
  if (!response.ok) throw new Error(said.detail);
  place("ask").hidden = true;
  return said;
}

// Calls `look` now, and again with each token that is given.
export function begin(look) {
  place("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, place("token").value.trim());
    place("token").value = "";
    look();
  });
  look();
}

// Of 1, 3, 4, 5: "1, 3 to 5".
export function list(numbers) {
  const runs = [];
  for (const number of numbers) {
    if (runs.length && runs.at(-1)[1] === number - 1) runs.at(-1)[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? first : last === first + 1 ? `${first}, ${last}` : `${first} to ${last}`)).join(", ");
}

export const phases = (numbers) => `phase${numbers.length > 1 ? "s" : ""} ${list(numbers)}`;
