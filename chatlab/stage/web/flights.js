/**
 * Packets in flight: each drawn as a shape and a word that moves along its way.
 * At a high rate it draws some and counts the rest; what a packet is and where it goes is not its
 * business.
 */

import { say, svg } from "./dom.js";
import { shape } from "./shapes.js";

const PER_SECOND = 28; // more is a swarm in which nobody reads a word
const MOST = 36; // at once
const RESERVED = 12; // of both, kept for what comes from the two windows
const SLOW_FRAME = 55; // ms between two frames: from here on, draw less
const APART = 90; // ms between two that look the same on one way
const WORDS_APART = 600; // ms between two words on one way: words must not cover each other
const SHORT = 32; // px: too short for a word

/**
 * @typedef {{x: number, y: number}} Point
 * @typedef {{a: Point, b: Point, rise?: number}} Hop  `rise`: how far from the line its word stands
 */

/** All packets that are drawn at the moment. */
export class Flights {
  /**
   * @param {SVGElement} layer  where they are drawn
   * @param {{still?: boolean}} [options] `still`: draw none, only count (reduced motion)
   */
  constructor(layer, { still = false } = {}) {
    this.layer = layer;
    this.still = still;
    this.flying = new Set();
    this.pool = [];
    this.budget = PER_SECOND;
    this.refilled = performance.now();
    this.ease = 1;
    this.last = 0;
    this.ways = new Map();
    this.drawn = 0;
    this.skipped = 0;
    this.step = this.step.bind(this);
  }

  /**
   * Let a packet fly along `hops`, or count it as not drawn.
   * @param {{kind: string, word: string, hops: Hop[], way: string, first?: boolean}} packet
   *   `way`: a name for its way; `hops`: lines;
   *   between two of them it is out of sight. `first`: it is drawn
   *   before others
   * @returns {boolean} whether it is drawn
   */
  fly({ kind, word, hops, way, first = false }) {
    const now = performance.now();
    this.refill(now);
    const room = Math.max(6, MOST * this.ease) - (first ? 0 : RESERVED * this.ease);
    if (this.still || !hops.length || now - (this.ways.get(way + kind) ?? 0) < APART || this.flying.size >= room || this.budget < (first ? 1 : RESERVED)) {
      this.skipped += 1;
      return false;
    }
    this.budget -= 1;
    this.drawn += 1;
    const sprite = this.pool.pop() ?? makeSprite();
    this.ways.set(way + kind, now);
    const named = now - (this.ways.get(way) ?? 0) >= WORDS_APART;
    if (named) this.ways.set(way, now);
    dress(sprite, kind, named ? word : "");
    const flight = { sprite, begin: now, ...timed(hops) };
    this.layer.append(sprite.node);
    sprite.hop = null;
    place(flight, 0);
    this.flying.add(flight);
    if (this.flying.size === 1) {
      this.last = 0;
      requestAnimationFrame(this.step);
    }
    return true;
  }

  /** Take everything out of the air. */
  clear() {
    for (const flight of this.flying) this.land(flight);
  }

  refill(now) {
    const rate = PER_SECOND * this.ease;
    this.budget = Math.min(PER_SECOND, this.budget + ((now - this.refilled) / 1000) * rate);
    this.refilled = now;
  }

  step(now) {
    const gap = this.last ? now - this.last : 0;
    this.last = now;
    // A machine that cannot keep up is asked for less, and for more again when it can.
    if (gap > SLOW_FRAME) this.ease = Math.max(0.2, this.ease * 0.85);
    else this.ease = Math.min(1, this.ease + 0.01);
    for (const flight of this.flying) {
      const part = (performance.now() - flight.begin) / flight.lasts;
      if (part >= 1) this.land(flight);
      else place(flight, part);
    }
    if (this.flying.size) requestAnimationFrame(this.step);
  }

  land(flight) {
    this.flying.delete(flight);
    flight.sprite.node.remove();
    if (this.pool.length < MOST) this.pool.push(flight.sprite);
  }
}

function makeSprite() {
  const label = svg("text", { class: "packet-word", y: -12, "text-anchor": "middle" });
  const node = svg("g", { class: "packet" });
  return { node, label, kind: "" };
}

function dress(sprite, kind, word) {
  if (sprite.kind !== kind) {
    sprite.node.replaceChildren(shape(kind), sprite.label);
    sprite.kind = kind;
    sprite.label.setAttribute("class", `packet-word word-${kind}`);
  }
  say(sprite.label, word);
}

/** How long each hop takes: long enough to be read, longer on a long way. */
function timed(hops) {
  const ends = [];
  let lasts = 0;
  for (const { a, b } of hops) {
    const length = Math.hypot(b.x - a.x, b.y - a.y);
    lasts += length < SHORT ? 180 : Math.min(900, 480 + 2 * length);
    ends.push(lasts);
  }
  return { hops, ends, lasts };
}

function place({ sprite, hops, ends, lasts }, part) {
  const at = Math.min(part, 1) * lasts;
  const hop = Math.max(0, ends.findIndex((end) => at <= end));
  const { a, b, rise = 12 } = hops[hop];
  const begin = hop ? ends[hop - 1] : 0;
  const share = (at - begin) / (ends[hop] - begin);
  const x = a.x + (b.x - a.x) * share;
  const y = a.y + (b.y - a.y) * share;
  sprite.node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  if (sprite.hop === a) return;
  sprite.hop = a;
  // What goes the one way has its word above, what comes the other way below; neither leaves the
  // drawing.
  sprite.label.setAttribute("y", b.x >= a.x ? -rise : rise > 12 ? -rise - 16 : 22);
  sprite.label.setAttribute("visibility", Math.hypot(b.x - a.x, b.y - a.y) < SHORT ? "hidden" : "visible");
  const low = Math.min(a.x, b.x);
  const high = Math.max(a.x, b.x);
  const edge = sprite.node.ownerSVGElement?.clientWidth ?? Infinity;
  sprite.label.setAttribute("text-anchor", low < 40 ? "start" : high > edge - 40 ? "end" : "middle");
}
