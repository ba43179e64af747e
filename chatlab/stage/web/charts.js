/**
 * Small line charts in SVG for the last minute, drawn with what the theme gives.
 * A chart shows its newest numbers as text, so that nothing depends on reading a line or a colour.
 */

import { el, mark, say, svg } from "./dom.js";

const WIDTH = 220;
const HEIGHT = 64;
const LEFT = 2;
const TOP = 4;
const DASHES = [null, "5 3", "1.5 3", "8 3 2 3"];

/**
 * One chart.
 * @typedef {{name: string, hue: number}} Line  a line, and which of the theme's hues it takes
 */
export class Chart {
  /**
   * @param {string} title
   * @param {Line[]} lines
   * @param {{unit?: string, span?: number, hint?: string}} [options] `span`: seconds shown
   */
  constructor(title, lines, { unit = "", span = 60, hint = "" } = {}) {
    this.unit = unit;
    this.span = span;
    this.lines = new Map();
    this.points = [];
    this.legend = el("ul", { class: "chart-legend" });
    this.plot = svg("g");
    this.picture = svg(
      "svg",
      { class: "chart-picture", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("line", { class: "chart-axis", x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1 }),
      this.plot,
    );
    this.top = el("span", { class: "chart-top muted" });
    this.node = el(
      "figure",
      { class: "chart" },
      el("figcaption", { class: "chart-title", text: title }),
      this.legend,
      el("div", { class: "chart-plot" }, this.picture, this.top),
    );
    if (hint) this.node.append(el("p", { class: "chart-hint muted", text: hint }));
    for (const line of lines) this.add(line);
  }

  /** Add a line while it runs: the codes of refusals are not known beforehand. */
  add({ name, hue }) {
    if (this.lines.has(name)) return;
    const dash = DASHES[this.lines.size % DASHES.length];
    const path = svg("path", { class: `chart-line hue-${hue}`, "stroke-dasharray": dash });
    const value = el("b", { class: "chart-value", text: "–" });
    const key = svg(
      "svg",
      { class: "chart-key", viewBox: "0 0 18 6", "aria-hidden": "true" },
      svg("path", { class: `chart-line hue-${hue}`, d: "M0 3H18", "stroke-dasharray": dash }),
    );
    const item = el("li", {}, key, el("span", { text: name }), value);
    this.plot.append(path);
    this.legend.append(item);
    this.lines.set(name, { path, value, item });
  }

  /** Take a line away. */
  drop(name) {
    const line = this.lines.get(name);
    if (!line) return;
    line.path.remove();
    line.item.remove();
    this.lines.delete(name);
  }

  /**
   * A new point: what each line is at `at` seconds; null for a line that has nothing to say.
   * @param {number} at
   * @param {Object<string, number|null>} values
   */
  push(at, values) {
    this.points.push({ at, values });
    while (this.points.length && this.points[0].at < at - this.span) this.points.shift();
    this.draw();
  }

  /** Forget everything that was drawn. */
  clear() {
    this.points = [];
    this.draw();
  }

  draw() {
    const last = this.points.at(-1);
    let most = 0;
    for (const { values } of this.points)
      for (const name of this.lines.keys()) most = Math.max(most, values[name] ?? 0);
    const ceiling = round(most);
    say(this.top, most ? `up to ${number(ceiling)}${this.unit && ` ${this.unit}`}` : "");
    for (const [name, { path, value }] of this.lines) {
      const now = last?.values[name];
      say(value, now === null || now === undefined ? "–" : `${number(now)}${this.unit && ` ${this.unit}`}`);
      mark(path, "d", this.track(name, ceiling, last?.at ?? 0));
    }
  }

  track(name, ceiling, now) {
    let path = "";
    let pen = "M";
    for (const { at, values } of this.points) {
      const value = values[name];
      if (value === null || value === undefined) {
        pen = "M";
        continue;
      }
      const x = LEFT + (1 - (now - at) / this.span) * (WIDTH - 2 * LEFT);
      const y = HEIGHT - 2 - (value / ceiling) * (HEIGHT - TOP - 4);
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    }
    return path || "M0 0";
  }
}

/** The next number that reads well above `value`. */
function round(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** A number for people: at most three digits that matter. */
export function number(value) {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  if (value >= 10) return value.toFixed(0);
  return value.toFixed(Number.isInteger(value) ? 0 : 1);
}
