/**
 * The last packets as a list to read: when, what, from where to where.
 * It is written a few times a second at most, and says how many it left out.
 */

import { el, mark, say } from "./dom.js";
import { detailOf, isOfWindow, kindOf, nameOf, rankOf } from "./packets.js";
import { icon } from "./shapes.js";

const KEPT = 60; // lines
const EACH = 12; // lines a writing
const PAUSE = 250; // ms between two writings

const NAMES = {
  "window-a": "A",
  "window-b": "B",
  "server-1": "server 1",
  "server-2": "server 2",
};

/** The list of packets. */
export class Log {
  /** @param {HTMLElement} node */
  constructor(node) {
    this.list = el("ol", {});
    const box = { class: "log-list", tabindex: "0", role: "log", "aria-live": "off", "aria-labelledby": "log-name" };
    this.held = false;
    this.hold = el("button", {
      type: "button",
      class: "button button-small",
      text: "Hold",
      "aria-pressed": "false",
      title: "Stop the list to read it.",
      on: { click: () => this.toggle() },
    });
    this.all = el("button", {
      type: "button",
      class: "button button-small",
      text: "All",
      "aria-pressed": "false",
      title: "List what only goes along as well: receipts, presence, answers to joins.",
      on: { click: () => mark(this.all, "aria-pressed", String(this.all.getAttribute("aria-pressed") !== "true")) },
    });
    this.empty = el("p", { class: "log-empty muted", text: "Nothing has passed yet. Write a message in one of the windows." });
    this.waiting = [];
    this.left = 0;
    this.timer = 0;
    node.append(
      el("div", { class: "panel-head" }, el("h2", { id: "log-name", text: "Packets" }), el("div", { class: "row" }, this.all, this.hold)),
      this.empty,
      el("div", box, this.list),
    );
  }

  toggle() {
    this.held = !this.held;
    mark(this.hold, "aria-pressed", String(this.held));
    if (!this.held) this.write();
  }

  /** Take what has passed. */
  add(packets, skipped) {
    const all = this.all.getAttribute("aria-pressed") === "true";
    const listed = all ? packets : packets.filter((packet) => kindOf(packet) !== "other" || rankOf(packet) > 0);
    this.left += skipped;
    this.waiting.push(...listed);
    // While it is held, or the tab is hidden, only what will be shown is kept.
    if (this.waiting.length > 4 * KEPT) {
      const kept = choose(this.waiting, KEPT);
      this.left += this.waiting.length - kept.length;
      this.waiting = kept;
    }
    if (!this.timer && !this.held) this.timer = setTimeout(() => this.write(), PAUSE);
  }

  write() {
    this.timer = 0;
    if (this.held || (!this.waiting.length && !this.left)) return;
    const shown = choose(this.waiting, EACH);
    const left = this.left + this.waiting.length - shown.length;
    this.waiting = [];
    this.left = 0;
    mark(this.empty, "hidden", true);
    const lines = shown.map(line);
    if (left) lines.push(el("li", { class: "log-more muted", text: `and ${left.toLocaleString("en")} more` }));
    this.list.prepend(...lines.reverse());
    while (this.list.childElementCount > KEPT) this.list.lastElementChild.remove();
  }

  /** Begin a new list. */
  clear() {
    this.waiting = [];
    this.left = 0;
    this.list.replaceChildren();
    mark(this.empty, "hidden", null);
    say(this.hold, "Hold");
  }
}

/** At most `most` of `packets`, in their order; those that matter more go first. */
function choose(packets, most) {
  if (packets.length <= most) return packets;
  const rank = (packet) => rankOf(packet) + (isOfWindow(packet) ? 1 : 0);
  const ranked = [3, 2, 1, 0].flatMap((wanted) => packets.filter((packet) => rank(packet) === wanted).reverse());
  const chosen = new Set(ranked.slice(0, most));
  return packets.filter((packet) => chosen.has(packet));
}

function line(packet) {
  const kind = kindOf(packet);
  const way = packet.from === packet.to ? `in ${name(packet.from)}` : `${name(packet.from)} → ${name(packet.to)}`;
  return el(
    "li",
    { class: `log-line log-${kind}` },
    el("span", { class: "log-time muted", text: packet.at.toFixed(2) }),
    icon(kind),
    el("b", { class: "log-word", text: nameOf(packet) }),
    el("span", { class: "log-way", text: way }),
    el("span", { class: "log-label isolate muted", text: detailOf(packet) }),
  );
}

function name(id) {
  return NAMES[id] ?? id;
}
