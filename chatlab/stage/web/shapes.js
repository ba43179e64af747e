/**
 * The six things that a packet can be, each with a shape, a word and a colour of its own.
 * The shape and the word tell them apart; the colour only helps.
 */

import { svg } from "./dom.js";

/** Kinds in the order of a message's life, with what each means in a sentence. */
export const KINDS = {
  sent: "a message on its way to the server",
  stored: "written to the room's log",
  published: "handed to the servers that have members of the room",
  delivered: "passed on to a member",
  acked: "the sender is told that it is stored",
  refused: "turned away, with a code that says why",
  lost: "swallowed by a wire that is silent",
};

const SHAPES = {
  sent: "M-7 -6L8 0L-7 6Z",
  stored: "M-6 -6H6V6H-6Z",
  published: "M0 -8L8 0L0 8L-8 0Z",
  delivered: "M-6.5 0A6.5 6.5 0 1 0 6.5 0A6.5 6.5 0 1 0 -6.5 0Z",
  acked: "M-7 0L-2 5L7 -5",
  refused: "M-5.5 -5.5L5.5 5.5M5.5 -5.5L-5.5 5.5",
  lost: "M-7 0A7 7 0 1 0 7 0A7 7 0 1 0 -7 0ZM-5 -5L5 5",
  other: "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
};

/**
 * The shape of a kind, around the origin; about 16 units across.
 * @param {string} kind
 * @returns {SVGElement}
 */
export function shape(kind) {
  const known = kind in SHAPES ? kind : "other";
  return svg("path", { class: `shape shape-${known}`, d: SHAPES[known] });
}

/** The shape as a picture for a list or a legend; what it shows is said beside it. */
export function icon(kind) {
  return svg("svg", { class: "shape-icon", viewBox: "-10 -10 20 20", "aria-hidden": "true" }, shape(kind));
}
