// The few things the page does with elements. Texts from outside only ever become text nodes.

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** Put a text into an element, if it is not there already: an unchanged page costs no layout. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put words into an element; what stands in backticks is set as code. */
export function putWords(element, text) {
  if (element.dataset.words === text) return;
  element.dataset.words = text;
  element.replaceChildren(
    ...text.split("`").map((part, n) => (n % 2 ? make("code", "", part) : document.createTextNode(part))),
  );
}

/** Make an element: `make("li", "none", "text")`. */
export function make(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Make an element of a drawing. */
export function draw(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** The value at a path such as `stages.kafka.rate_per_s`. */
export function at(data, path) {
  return path.split(".").reduce((value, key) => value?.[key], data);
}
