/**
 * How large everything is: a room is longer than a desk. The size is kept for the next time.
 */

import { el } from "./dom.js";

const STORED = "chatlab-stage-size";
const SMALLER = 0.86;
const SIZES = [0.8, 0.9, 1, 1.1, 1.2, 1.35, 1.5];

/** Two buttons, smaller and larger. @returns {HTMLElement} */
export function addTextSize() {
  const root = document.documentElement;
  // The chat page in a frame has a type size of its own; it is scaled to grow with the stage's, and
  // a little smaller, so that a window is as wide for it as a telephone.
  const scaleFrames = () => {
    const scale = Number.parseFloat(getComputedStyle(root).fontSize) / 16;
    root.style.setProperty("--frame-scale", Math.max(0.7, SMALLER * scale).toFixed(3));
  };
  addEventListener("resize", scaleFrames);
  let at = SIZES.indexOf(Number(localStorage.getItem(STORED)));
  if (at < 0) at = SIZES.indexOf(1);
  const use = (step) => {
    at = Math.min(SIZES.length - 1, Math.max(0, at + step));
    localStorage.setItem(STORED, String(SIZES[at]));
    root.style.setProperty("--size-factor", String(SIZES[at]));
    scaleFrames();
  };
  const button = (text, name, step) =>
    el("button", { type: "button", class: "button button-small segment", text, title: name, "aria-label": `${name}: ${text}`, on: { click: () => use(step) } });
  use(0);
  return el(
    "div",
    { class: "segments", role: "group", "aria-label": "Size" },
    button("A−", "Smaller", -1),
    button("A+", "Larger", 1),
  );
}
