/**
 * Packets in flight: each drawn as a shape and a word that moves along its way.
 * At a high rate it draws some and counts the rest; what a packet is and where it goes is not its
 * business.
 */

import { say, svg } from "./dom.js";
import { shape } from "./shapes.js";

const PER_SECOND = 28; // more is a swarm in which nobody reads a word
const MOST = 48; // at once
// What matters less is drawn only while there is more left: of the budget, and of the room.
const KEEP = [14, 7, 1];
const ROOM = [0.4, 0.75, 1];
const SLOW_FRAME = 55; // ms between two frames: from here on, draw less
const APART = 90; // ms between two that look the same on one way
const WORDS_APART = 600; // ms between two words on one way: words must not cover each other
const AIR = 4; // px between two words
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
    this.twins = new Map();
    this.named = new Map();
    this.drawn = 0;
    this.skipped = 0;
    this.step = this.step.bind(this);
  }

  /**
   * Let a packet fly along `hops`, or count it as not drawn.
   * @param {{kind: string, word: string, hops: Hop[], way: string, rank: number,
   *   begin?: number}} packet
   *   `hops`: lines; between two of them it is out of sight. `way`: a name for the way. `rank`:
   *   0 to 2, and what matters more is drawn rather
   *   `begin`: when it may set out, in ms of `performance.now()`
   * @returns {number} when it lands; 0 when it is not drawn
   */
  fly({ kind, word, hops, way, rank, begin = 0 }) {
    const now = performance.now();
    const start = Math.max(now, begin);
    this.refill(now);
    const look = way + kind;
    const twin = this.twins.get(look);
    if (twin && Math.abs(start - twin.begin) < APART && this.flying.has(twin)) {
      // It would lie on the other one: they are drawn as one with a number.
      twin.count += 1;
      if (twin.word) say(twin.sprite.label, `${twin.word} ×${twin.count}`);
      twin.box = null;
      this.drawn += 1;
      return twin.begin + twin.lasts;
    }
    const room = Math.max(6, MOST * this.ease * ROOM[rank]);
    if (this.still || !hops.length || this.flying.size >= room || this.budget < KEEP[rank]) {
      this.skipped += 1;
      return 0;
    }
    this.budget -= 1;
    this.drawn += 1;
    const named = word !== "" && start - (this.named.get(way) ?? -WORDS_APART) >= WORDS_APART;
    if (named) this.named.set(way, start);
    const sprite = this.pool.pop() ?? makeSprite();
    dress(sprite, kind, named ? word : "");
    const flight = { sprite, begin: start, word: named ? word : "", box: null, count: 1, ...timed(hops) };
    this.twins.set(look, flight);
    this.layer.append(sprite.node);
    sprite.hop = null;
    place(flight, start > now ? -1 : 0);
    this.flying.add(flight);
    if (this.flying.size === 1) {
      this.last = 0;
      requestAnimationFrame(this.step);
    }
    return start + flight.lasts;
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
    this.untangle();
    if (this.flying.size) requestAnimationFrame(this.step);
  }

  // Where ways cross, words would cover each other: the one that set out first is shown.
  untangle() {
    const taken = [];
    for (const flight of this.flying) {
      if (!flight.word || flight.sprite.hidden || flight.short) continue;
      const box = boxOf(flight);
      const covered = taken.some((other) => meet(box, other));
      if (!covered) taken.push(box);
      if (covered === flight.covered) continue;
      flight.covered = covered;
      flight.sprite.label.classList.toggle("covered", covered);
    }
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
  return { node, label, kind: "", hop: null, hidden: false };
}

function dress(sprite, kind, word) {
  if (sprite.kind !== kind) {
    sprite.node.replaceChildren(shape(kind), sprite.label);
    sprite.kind = kind;
    sprite.label.setAttribute("class", `packet-word word-${kind}`);
  }
  sprite.label.classList.remove("covered");
  say(sprite.label, word);
}

/** Where a packet's word stands. It is measured beside its packet once, and moves with that. */
function boxOf(flight) {
  const { x, y, width, height } = (flight.box ??= flight.sprite.label.getBBox());
  const left = flight.x + x;
  const top = flight.y + y;
  return { left, right: left + width, top, bottom: top + height };
}

function meet(one, other) {
  return one.left < other.right + AIR && other.left < one.right + AIR && one.top < other.bottom && other.top < one.bottom;
}

/** How long each hop takes: long enough to be read, longer on a long way. */
function timed(hops) {
  const ends = [];
  let lasts = 0;
  for (const { a, b } of hops) {
    const length = Math.hypot(b.x - a.x, b.y - a.y);
    lasts += length < SHORT ? 160 : Math.min(760, 380 + 2 * length);
    ends.push(lasts);
  }
  return { hops, ends, lasts };
}

function place(flight, part) {
  const { sprite, hops, ends, lasts } = flight;
  if (part < 0 !== sprite.hidden) {
    sprite.hidden = part < 0;
    sprite.node.setAttribute("visibility", sprite.hidden ? "hidden" : "visible");
  }
  if (sprite.hidden) return;
  const at = Math.min(part, 1) * lasts;
  const hop = Math.max(0, ends.findIndex((end) => at <= end));
  const { a, b, rise = 12 } = hops[hop];
  const begin = hop ? ends[hop - 1] : 0;
  const share = (at - begin) / (ends[hop] - begin);
  const x = a.x + (b.x - a.x) * share;
  const y = a.y + (b.y - a.y) * share;
  sprite.node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  Object.assign(flight, { x, y });
  if (sprite.hop === a) return;
  sprite.hop = a;
  flight.box = null;
  flight.short = Math.hypot(b.x - a.x, b.y - a.y) < SHORT;
  // What goes the one way has its word above, what comes the other way below; neither leaves the
  // drawing.
  sprite.label.setAttribute("y", b.x >= a.x ? -rise : rise > 12 ? -rise - 10 : 22);
  sprite.label.setAttribute("visibility", flight.short ? "hidden" : "inherit");
  const low = Math.min(a.x, b.x);
  const high = Math.max(a.x, b.x);
  const edge = sprite.node.ownerSVGElement?.clientWidth ?? Infinity;
  sprite.label.setAttribute("text-anchor", low < 40 ? "start" : high > edge - 40 ? "end" : "middle");
}
