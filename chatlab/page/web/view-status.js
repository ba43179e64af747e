// What the page says about itself: the connection's state, and notices with a countdown and buttons.

import { byId, make } from "./dom.js";

const TICK = 250; // ms between two looks at the countdowns

/** Notices, each under a key: a new one under the same key takes the old one's place. */
export class Notices {
  #shown = new Map();
  #place = byId("notices");

  constructor() {
    setInterval(() => this.#count(), TICK);
  }

  /**
   * Show `text` (a string or nodes). `kind` is good, warn or bad; `until` (ms) adds a countdown and
   * takes the notice away when it is over, unless `stay`; `actions` are `[label, does]`.
   */
  show(key, { text, kind = "warn", until = 0, stay = false, actions = [], close = false }) {
    const known = this.#shown.get(key);
    const words = [text].flat().map((part) => part.textContent ?? part).join("");
    const looks = JSON.stringify([kind, words, close, actions.map(([label]) => label)]);
    if (known?.looks === looks) {
      // The same again, later: a button that somebody is about to press stays where it is.
      Object.assign(known, { until, stay, actions });
      this.#count();
      return;
    }
    const count = make("span", { className: "countdown", attributes: { "aria-hidden": "true" } });
    const element = make("div", { className: `notice notice-${kind} row` },
      make("span", { className: "notice-text" }, ...[text].flat(), count));
    element.dataset.key = key;
    const button = (textContent, onclick, more = "") =>
      element.append(make("button", { type: "button", className: `button button-small ${more}`, textContent, onclick }));
    actions.forEach(([label], index) => button(label, () => this.#shown.get(key)?.actions[index][1]()));
    if (close) button("Close", () => this.hide(key), "button-quiet");
    const focused = known?.element.contains(document.activeElement);
    if (known) known.element.replaceWith(element);
    else this.#place.append(element);
    if (focused) element.querySelector("button")?.focus();
    this.#shown.set(key, { element, count, until, stay, actions, looks });
    this.#count();
    say(words);
  }

  /** Take a notice away. */
  hide(key) {
    this.#shown.get(key)?.element.remove();
    this.#shown.delete(key);
  }

  /** Take all away. */
  clear() {
    for (const key of [...this.#shown.keys()]) this.hide(key);
  }

  #count() {
    for (const [key, { count, until, stay }] of this.#shown) {
      if (!until) continue;
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left <= 0 && !stay) this.hide(key);
      count.textContent = left > 0 ? ` ${left} s` : "";
    }
  }
}

/** Have a screen reader say something once. */
export function say(text) {
  byId("said").textContent = text;
}

const WORDS = {
  idle: "Not connected",
  connecting: "Connecting",
  online: "Connected",
  waiting: "No connection",
  login: "Not connected",
  banned: "Banned",
  ended: "Not connected",
};

/** Show a connection's state; `server` is the server's id, or "". */
export function showConnection({ name }, server = "") {
  byId("connection").dataset.state = name;
  byId("connection-text").textContent = WORDS[name];
  if (name !== "online" || !server) return;
  byId("connection-text").append(
    make("span", { className: "connection-server" }, " to server ", make("code", { textContent: server })));
}
