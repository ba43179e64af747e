/**
 * What stands in the topology: a card for each part, its state in a sign and a word, and the
 * switches that break it. Where the cards stand is the style sheet's business.
 */

import { el, mark, say } from "./dom.js";

const SIGNS = { good: "✓", bad: "✗", off: "○", wait: "…" };

/** The sign of a mood: it says the same as the colour. */
export function sign(mood) {
  return SIGNS[mood] ?? "○";
}

/** The part of a state with this id, or undefined. */
export function part(state, id) {
  return state.parts.find((one) => one.id === id);
}

/** One card. */
export class Card {
  /**
   * @param {string} id  of the part
   * @param {HTMLElement[]} controls
   * @param {HTMLElement} [more]  what else the card shows
   */
  constructor(id, controls, more) {
    this.id = id;
    this.name = el("h3", { class: "part-name", text: id });
    this.sign = el("span", { class: "part-sign", "aria-hidden": "true" });
    this.words = el("span", { class: "part-words" });
    this.node = el(
      "div",
      { class: "part", data: { part: id }, role: "group", "aria-label": id },
      el("div", { class: "part-head" }, this.name, el("p", { class: "part-state" }, this.sign, this.words)),
      more ?? null,
      controls.length ? el("div", { class: "part-switches" }, ...controls) : null,
    );
    this.node.hidden = true;
  }

  /** Show what the stage says of this part. */
  update(state) {
    const now = part(state, this.id);
    this.node.hidden = !now;
    if (!now) return;
    say(this.name, now.name);
    mark(this.node, "aria-label", now.name);
    mark(this.node, "data-mood", now.mood);
    say(this.sign, sign(now.mood));
    say(this.words, now.words);
    mark(this.node, "title", now.detail || null);
  }
}

const HOW = {
  kill: ["Kill", "SIGKILL: it ends at once and cleans up nothing."],
  restart: ["Restart", "Start it again on the same port."],
  terminate: ["Stop", "SIGTERM: it finishes what it has in hand, then ends."],
  stop: ["Stop", "It ends in good order, with its data on disk."],
  freeze: ["Freeze", "SIGSTOP: it stands still with its connections open."],
};

/** The switches of a process: kill (once it is down: restart), stop, freeze. */
function processSwitches(switches, id, order, ways) {
  const can = (state, how) => part(state, id)?.can?.includes(how);
  return ways.map((how) => {
    const [label, hint] = HOW[how];
    const what = { label, hint, of: id.replace("-", " "), on: { ...order, how } };
    if (how === "freeze") {
      what.off = { ...order, how: "thaw" };
      what.pressed = (state) => can(state, "thaw");
      what.reason = (state) => (can(state, "freeze") || can(state, "thaw") ? "" : "It does not run.");
    } else if (how === "kill") {
      const [again, why] = HOW.restart;
      const down = (state) => !can(state, "kill");
      what.instead = { when: down, label: again, hint: why, on: { ...order, how: "restart" }, look: "button-good" };
    } else {
      what.reason = (state) => (can(state, how) ? "" : `It is ${part(state, id)?.words ?? "not there"}.`);
    }
    return switches.make(what);
  });
}

/** All cards, in the order in which a keyboard meets them. */
export function makeCards(switches, { openDoor }) {
  const victim = new Victim();
  const flood = [
    switches.make({
      label: "Flood",
      of: "a server",
      on: { do: "flood", on: true },
      off: { do: "flood", on: false },
      pressed: (state) => state.flood.on,
      reason: (state) => (state.flood.on || part(state, "server-1")?.mood === "good" ? "" : "It goes to server 1, which does not run."),
      hint: "One user sends as fast as a server takes it.",
    }),
    switches.make({
      label: "No limits",
      of: "on any server",
      on: { do: "limits", on: false },
      off: { do: "limits", on: true },
      pressed: (state) => !state.limits,
      reason: (state) => (state.adapter === "stock" ? "The stock servers have no limits to switch." : ""),
      hint: "Start the servers again without rate limits.",
    }),
  ];
  const crowd = [
    switches.make({
      label: "Crowd",
      of: "talks",
      on: { do: "crowd", on: true },
      off: { do: "crowd", on: false },
      pressed: (state) => state.crowd.on,
      look: "switch-plain",
      hint: "Some people who talk all the time, on both servers.",
    }),
  ];
  const door = el("button", { type: "button", class: "button button-small", text: "Show the door", on: { click: openDoor } });
  const server = (number) =>
    new Card(`server-${number}`, processSwitches(switches, `server-${number}`, { do: "server", number }, ["kill", "terminate", "freeze"]));
  const cards = [
    new Card("crowd", crowd),
    new Card("door", [door]),
    new Card("flood", flood, victim.node),
    new Card("wire-a", []),
    new Card("balancer", []),
    new Card("wire-b", []),
    server(1),
    new Card("valkey", processSwitches(switches, "valkey", { do: "valkey" }, ["kill", "stop", "freeze"])),
    server(2),
  ];
  return { cards, victim };
}

/** The flood's numbers, and what its victim feels. */
class Victim {
  constructor() {
    this.words = el("p", { class: "victim-waits" });
    this.sent = el("p", {});
    this.node = el("div", { class: "victim" }, this.words, this.sent);
    this.latency = null;
    this.flood = null;
  }

  point(point) {
    this.latency = point;
    this.show();
  }

  update(state) {
    this.flood = state.flood;
    this.show();
  }

  show() {
    const point = this.latency;
    let said = "victim: not measured";
    if (point?.victim_silent) said = "✗ victim: no answer";
    else if (typeof point?.victim_p99 === "number") said = `victim ${waits(point.victim_p50)} · worst ${waits(point.victim_p99)}`;
    const { flood } = this;
    say(this.words, said);
    say(this.sent, flood?.on ? `${short(flood.sent)} sent, ${short(flood.refused)} refused` : "");
  }
}

function short(count) {
  return count >= 10000 ? `${Math.round(count / 1000)}k` : count.toLocaleString("en");
}

function waits(ms) {
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
