/**
 * The script of the talk beside the stage: one note at a time, with what to say, to click and to see.
 * The notes come from the stage; the keys are those of a presenter's clicker.
 */

import { el, mark, say } from "./dom.js";

const STORED = "chatlab-stage-note";

/** The script's panel. */
export class Talk {
  /**
   * @param {HTMLElement} node
   * @param {import("./switches.js").Switches} switches
   */
  constructor(node, switches) {
    this.node = node;
    this.switches = switches;
    this.notes = [];
    this.at = 0;
    this.tabs = el("ol", { class: "talk-tabs" });
    this.title = el("h3", { class: "talk-title", tabindex: "-1" });
    this.count = el("span", { class: "talk-count muted" });
    this.words = el("div", { class: "talk-say", tabindex: "0", role: "region", "aria-label": "What to say" });
    this.clicks = el("ul", { class: "talk-clicks" });
    this.see = el("ul", { class: "talk-see" });
    this.back = this.arrow("‹ Back", -1, "PageUp");
    this.next = this.arrow("Next ›", 1, "PageDown");
    this.heard = el("p", { class: "visually-hidden", role: "status" });
    node.append(
      el(
        "div",
        { class: "talk-head" },
        el("h2", { id: "script-name", class: "visually-hidden", text: "Script of the talk" }),
        el("nav", { "aria-label": "The concerns of the talk" }, this.tabs),
        el("div", { class: "talk-arrows" }, this.count, this.back, this.next),
      ),
      el(
        "div",
        { class: "talk-note" },
        el("div", { class: "talk-left" }, this.title, this.words),
        el(
          "div",
          { class: "talk-right", tabindex: "0", role: "region", "aria-label": "What to do and to see" },
          el("p", { class: "switch-title", text: "Do" }),
          this.clicks,
          el("p", { class: "switch-title", text: "See" }),
          this.see,
        ),
      ),
      this.heard,
    );
    document.addEventListener("keydown", (event) => this.key(event));
  }

  arrow(text, by, key) {
    return el("button", {
      type: "button",
      class: "button button-small",
      text,
      "aria-keyshortcuts": key,
      title: `${by < 0 ? "The note before" : "The next note"} (${key})`,
      on: { click: () => this.go(this.at + by) },
    });
  }

  /** Take the script: a list of concerns, each with its notes. */
  load(script) {
    const known = JSON.stringify(script);
    if (known === this.known) return;
    this.known = known;
    this.notes = script.flatMap((concern, number) => concern.notes.map((note) => ({ ...note, concern, number })));
    this.tabs.replaceChildren(
      ...script.map((concern, number) =>
        el(
          "li",
          {},
          el("button", {
            type: "button",
            class: "talk-tab",
            text: `${number + 1} ${concern.title}`,
            on: { click: () => this.go(this.notes.findIndex((note) => note.number === number)) },
          }),
        ),
      ),
    );
    const kept = sessionStorage.getItem(STORED);
    this.show(Math.max(0, this.notes.findIndex((note) => note.id === kept)));
  }

  /** Go to a note, and say so. */
  go(at) {
    if (at < 0 || at >= this.notes.length) return;
    this.show(at);
    say(this.heard, `${this.notes[at].concern.title}: ${this.notes[at].title}. Note ${at + 1} of ${this.notes.length}.`);
  }

  show(at) {
    const note = this.notes[at];
    if (!note) return;
    this.at = at;
    sessionStorage.setItem(STORED, note.id);
    say(this.title, note.title);
    say(this.count, `${at + 1}/${this.notes.length}`);
    this.words.replaceChildren(...(note.say ?? []).map((text) => el("p", { text })));
    this.words.scrollTop = 0;
    this.switches.forget("talk");
    this.clicks.replaceChildren(...(note.click ?? []).map((click) => this.click(click)));
    this.see.replaceChildren(...(note.see ?? []).map((text) => el("li", { text })));
    mark(this.back, "aria-disabled", at === 0 ? "true" : null);
    mark(this.next, "aria-disabled", at === this.notes.length - 1 ? "true" : null);
    [...this.tabs.children].forEach((tab, number) => {
      mark(tab.firstElementChild, "aria-current", number === note.number ? "step" : null);
    });
    this.switches.point((note.click ?? []).filter((click) => click.do));
  }

  click({ label, ...order }) {
    if (!order.do) return el("li", { class: "talk-by-hand" }, el("span", { "aria-hidden": "true", text: "✎ " }), label);
    return el("li", {}, this.switches.make({ label, on: order, group: "talk", look: "talk-do" }));
  }

  key(event) {
    const by = { PageDown: 1, PageUp: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    // Where the page scrolls these keys scroll it; with Shift they turn the notes there, too.
    const scrolls = document.documentElement.scrollHeight > innerHeight + 1;
    if (scrolls && !event.shiftKey) return;
    event.preventDefault();
    this.go(this.at + by);
  }
}
