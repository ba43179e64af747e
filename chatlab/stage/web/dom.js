/**
 * Elements made without markup: text is always text, and nothing here reads HTML.
 * It knows nothing of the stage.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Object<string, *>} [options] `class`, `text`, `on` (listeners by event), `data`
 *   (data attributes); any other name is an attribute, and null, undefined or false leave it out.
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
export function el(tag, options = {}, ...children) {
  return fill(document.createElement(tag), options, children);
}

/**
 * Make an SVG element; options as for `el`.
 * @returns {SVGElement}
 */
export function svg(tag, options = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), options, children);
}

function fill(node, options, children) {
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.setAttribute("class", value);
    else if (name === "text") node.textContent = value;
    else if (name === "on") for (const [kind, listener] of Object.entries(value)) node.addEventListener(kind, listener);
    else if (name === "data") for (const [key, item] of Object.entries(value)) node.dataset[key] = item;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

/**
 * Set an element's text when it differs: a live region must not be told the same thing twice.
 * @param {Element} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute when it differs; null removes it. */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** @returns {HTMLElement} the element with this id. Throws when the page has none. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}
