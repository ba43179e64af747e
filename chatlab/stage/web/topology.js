/**
 * The drawing between the windows: edges between the parts' cards, and each packet on its edge.
 * The cards are laid out by the style sheet; the edges are measured from where they came to stand,
 * so one code draws every width.
 */

import { el, mark, say, svg } from "./dom.js";
import { Flights } from "./flights.js";
import { kindOf, rankOf, wordOf } from "./packets.js";
import { KINDS, icon } from "./shapes.js";
import { Story } from "./story.js";

const LANE = 7; // px beside the edge: what goes one way does not hide what comes the other
const NARROW = 130; // px
const PASSES = new Set(["door", "flood"]); // their ways may lead past a wire
const BREAKS = new Set(["wire", "balancer", "server", "valkey"]);
const FADE = 1500; // ms for which "not drawn" stays after the last one

/** The topology. */
export class Topology {
  /**
   * @param {HTMLElement} node
   * @param {import("./parts.js").Card[]} cards
   */
  constructor(node, cards) {
    this.node = node;
    this.cards = new Map(cards.map((card) => [card.id, card]));
    this.boxes = new Map();
    this.links = [];
    this.state = null;
    this.story = new Story();
    this.unsent = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.edges = svg("svg", { class: "edges", "aria-hidden": "true" });
    this.air = svg("svg", { class: "air", "aria-hidden": "true" });
    this.flights = new Flights(this.air, { still: this.still.matches });
    this.count = el("p", { class: "not-drawn" });
    this.grid = el("div", { class: "parts" }, ...cards.map((card) => card.node));
    node.append(this.edges, this.grid, this.air, el("div", { class: "topology-foot" }, legend(), this.count));
    this.still.addEventListener("change", () => {
      this.flights.still = this.still.matches;
      this.flights.clear();
    });
    this.watch = new ResizeObserver(() => this.measure());
    this.watch.observe(node);
    this.watch.observe(this.grid);
    for (const card of cards) this.watch.observe(card.node);
    setInterval(() => this.tell(), 500);
  }

  /** Show a new state. */
  update(state) {
    this.state = state;
    for (const card of this.cards.values()) card.update(state);
    const links = JSON.stringify(state.links);
    if (links !== this.known) {
      this.known = links;
      this.links = state.links;
      this.measure();
    } else this.paint();
  }

  measure() {
    const home = this.node.getBoundingClientRect();
    this.boxes.clear();
    for (const [id, card] of this.cards) {
      if (card.node.hidden) continue;
      const box = card.node.getBoundingClientRect();
      const x = box.left - home.left + box.width / 2;
      const y = box.top - home.top + box.height / 2;
      this.boxes.set(id, { x, y, w: box.width / 2, h: box.height / 2 });
    }
    for (const [seat, x] of [["a", 0], ["b", home.width]]) {
      const wire = this.boxes.get(`wire-${seat}`);
      if (wire) this.boxes.set(`window-${seat}`, { x, y: wire.y, w: 1, h: 1 });
    }
    this.paint();
  }

  paint() {
    const lines = [];
    for (const [from, to] of this.links) {
      const ends = this.segment(from, to, 0);
      if (!ends) continue;
      const [a, b] = ends;
      const dead = [from, to].some((id) => this.isDown(id));
      lines.push(svg("line", { class: dead ? "edge edge-down" : "edge", x1: a.x, y1: a.y, x2: b.x, y2: b.y }));
    }
    this.edges.replaceChildren(...lines);
  }

  isDown(id) {
    return this.state?.parts.some((part) => part.id === id && part.mood === "bad" && BREAKS.has(part.kind));
  }

  /** From the border of one box to the border of the other, `lane` pixels to the right of the way. */
  segment(from, to, lane) {
    const a = this.boxes.get(from);
    const b = this.boxes.get(to);
    if (!a || !b) return null;
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const length = Math.hypot(dx, dy) || 1;
    if (PASSES.has(from) && Math.abs(dx) < a.w) return pass(a, b, this.node.clientWidth / 2);
    const out = border(a, dx, dy);
    const back = border(b, -dx, -dy);
    const side = { x: (-dy / length) * lane, y: (dx / length) * lane };
    return [
      { x: a.x + out.x + side.x, y: a.y + out.y + side.y },
      { x: b.x + back.x + side.x, y: b.y + back.y + side.y },
    ];
  }

  /** Where a packet goes, hop by hop, each from border to border. */
  way({ from, to, via, lost }) {
    if (from === to) {
      const box = this.boxes.get(from);
      return box ? [{ a: { x: box.x, y: box.y - box.h - 10 }, b: { x: box.x, y: box.y - box.h - 40 } }] : [];
    }
    const stops = via ? [from, via, to] : [from, to];
    if (lost) stops.pop();
    const hops = [];
    for (let i = 1; i < stops.length; i += 1) {
      const hop = this.segment(stops[i - 1], stops[i], LANE);
      if (hop) hops.push({ a: hop[0], b: hop[1], rise: this.rise(stops[i - 1], stops[i], hop) });
    }
    return hops;
  }

  /** A word that is wider than the gap between two cards stands above them. */
  rise(from, to, [a, b]) {
    const level = Math.abs(a.y - b.y) < 12 && Math.abs(a.x - b.x) < NARROW;
    return level ? Math.max(this.boxes.get(from).h, this.boxes.get(to).h) : undefined;
  }

  /**
   * Draw what passes.
   * @param {object[]} packets
   * @param {number} skipped  how many more passed than the stage sent
   */
  fly(packets, skipped) {
    this.unsent += skipped;
    for (const packet of packets) {
      const { weight, begin, lands } = this.story.take(packet, performance.now());
      const at = this.flights.fly({
        kind: kindOf(packet),
        word: wordOf(packet),
        hops: this.way(packet),
        way: `${packet.from} ${packet.to} `,
        rank: Math.min(weight, rankOf(packet)),
        begin,
      });
      if (at) lands(at);
    }
  }

  /** Say how much is not drawn. It does not chatter: it is no live region. */
  tell() {
    const skipped = this.flights.skipped + this.unsent;
    const drawn = this.flights.drawn;
    const now = performance.now();
    if (this.still.matches) say(this.count, "listed, not drawn");
    else if (skipped > (this.skipped ?? 0)) {
      const share = drawn - (this.drew ?? 0);
      const all = share + skipped - (this.skipped ?? 0);
      say(this.count, `Drawn: ${share} of the last ${all.toLocaleString("en")} packets`);
      this.told = now;
    } else if (now - (this.told ?? 0) > FADE) say(this.count, skipped ? `Not drawn: ${skipped.toLocaleString("en")} packets` : "in slow motion");
    this.skipped = skipped;
    this.drew = drawn;
    mark(this.node, "data-drawn", drawn);
    mark(this.count, "data-some", this.told && now - this.told <= FADE ? "true" : null);
  }

  /** Nobody answers, or everything begins anew. */
  clear() {
    this.flights.clear();
    this.flights.skipped = 0;
    this.unsent = 0;
    this.skipped = 0;
  }
}

/** A straight way down on the inner side: past the wire that stands between. */
function pass(a, b, middle) {
  const x = a.x + Math.sign(middle - a.x) * a.w * 0.82;
  return [
    { x, y: a.y + a.h },
    { x, y: b.y - b.h },
  ];
}

function border(box, dx, dy) {
  const scale = Math.min(dx ? box.w / Math.abs(dx) : Infinity, dy ? box.h / Math.abs(dy) : Infinity);
  return { x: dx * Math.min(scale, 1), y: dy * Math.min(scale, 1) };
}

function legend() {
  return el(
    "ul",
    { class: "legend", "aria-label": "What the shapes mean" },
    ...Object.entries(KINDS).map(([kind, meaning]) => el("li", { title: meaning }, icon(kind), el("span", { text: kind }))),
  );
}
