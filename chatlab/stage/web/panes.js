/**
 * The two chat windows: each the chat page in a frame, with what can be done to it below.
 * What the page in the frame shows is its own business.
 */

import { el, mark, say } from "./dom.js";
import { sign } from "./parts.js";

const TOKENS = { good: "", forged: "a forged token", expired: "an expired token", expiring: "a token that ends soon" };

/** One window. */
export class Pane {
  /**
   * @param {HTMLElement} node
   * @param {"a"|"b"} seat
   * @param {import("./switches.js").Switches} switches
   */
  constructor(node, seat, switches) {
    this.node = node;
    this.seat = seat;
    this.id = `window-${seat}`;
    const name = `Window ${seat.toUpperCase()}`;
    this.user = el("span", { class: "pane-user isolate" });
    this.where = el("p", { class: "pane-where" });
    const reload = switches.make({
      label: "Reload",
      of: name,
      hint: "Load the page in this window anew.",
      on: { do: "reload", window: seat },
    });
    this.frame = el("iframe", { class: "pane-frame", title: `${name}: the chat page` });
    this.empty = el("p", { class: "pane-empty muted", text: "The stage is starting." });
    node.append(
      el("div", { class: "pane-name" }, el("h2", { id: `pane-${seat}-name`, text: name }), this.user, reload),
      this.where,
      el("div", { class: "pane-hole" }, this.empty, this.frame),
      this.group("The wire", this.wireSwitches(switches, name), this.heal(switches, name)),
      this.group("The token", this.tokenSwitches(switches, name)),
    );
  }

  group(title, buttons, aside) {
    const id = `${title.split(" ")[1]}-${this.seat}`;
    return el(
      "div",
      { class: "switch-group", role: "group", "aria-labelledby": id },
      el("div", { class: "switch-head" }, el("h3", { id, class: "switch-title", text: title }), aside ?? null),
      el("div", { class: "switch-row" }, ...buttons),
    );
  }

  wireSwitches(switches, name) {
    const window = this.seat;
    const wire = (state) => state.wires[`wire-${window}`] ?? {};
    const heal = { do: "heal", window };
    const of = `the wire of ${name}`;
    const mute = (label, direction, hint) =>
      switches.make({
        label,
        of,
        hint,
        on: { do: "mute", window, direction },
        off: heal,
        pressed: (state) => wire(state).muted === direction,
      });
    return [
      switches.make({
        label: "Cut",
        of,
        hint: "Close its connections, and take no new one.",
        on: { do: "cut", window },
        off: heal,
        pressed: (state) => Boolean(wire(state).cut),
      }),
      mute("Mute", "both", "Nothing passes, and nothing is closed: a phone in a tunnel."),
      mute("No answers", "to_client", "What it sends arrives; no answer comes back."),
      switches.make({
        label: "Delay",
        of,
        hint: "Everything is 1.5 seconds late, each way.",
        on: { do: "delay", window, seconds: 1.5 },
        off: { do: "delay", window, seconds: 0 },
        pressed: (state) => wire(state).delay > 0,
      }),
    ];
  }

  heal(switches, name) {
    const faults = ({ cut, muted, delay }) => Boolean(cut || muted || delay > 0);
    return switches.make({
      label: "Heal",
      of: `the wire of ${name}`,
      look: "button-good",
      hint: "End every fault of this wire.",
      on: { do: "heal", window: this.seat },
      reason: (state) => (faults(state.wires[`wire-${this.seat}`] ?? {}) ? "" : "Nothing is wrong with this wire."),
    });
  }

  tokenSwitches(switches, name) {
    const window = this.seat;
    const mine = (state) => state.windows.find((one) => one.id === this.id) ?? {};
    const good = { do: "token", window, kind: "good" };
    const token = (label, kind, hint) =>
      switches.make({
        label,
        of: `token in ${name}`,
        hint,
        on: { do: "token", window, kind },
        off: good,
        pressed: (state) => mine(state).token === kind,
      });
    const user = window === "a" ? "alice" : "bob";
    return [
      token("Forged", "forged", "Come in with a token that somebody else has signed."),
      token("Expired", "expired", "Come in with a token whose time is over."),
      token("Expiring", "expiring", "Come in with a token that ends soon."),
      switches.make({
        label: "Ban",
        of: user,
        hint: `Ban ${user}: every socket of that user closes, on every server.`,
        on: { do: "ban", user },
        off: { do: "unban", user },
        pressed: (state) => Boolean(mine(state).banned),
        reason: (state) => (state.adapter === "stock" ? "The stock servers know no bans." : ""),
      }),
    ];
  }

  /** Show a new state. The frame is loaded only when its address is another one. */
  update(state, now) {
    const mine = state.windows.find((one) => one.id === this.id);
    if (!mine) return;
    if (mine.url !== this.url) {
      this.url = mine.url;
      if (mine.url) this.frame.src = mine.url;
      else this.frame.removeAttribute("src");
    }
    mark(this.empty, "hidden", Boolean(mine.url));
    mark(this.frame, "hidden", !mine.url);
    say(this.user, mine.user);
    this.mine = mine;
    this.tick(now);
  }

  /** Time goes on: a token may be about to end. */
  tick(now) {
    const { mine } = this;
    if (!mine) return;
    const said = [mine.server ? `on ${mine.server.replace("-", " ")}` : "not connected"];
    if (mine.banned) said.push("banned");
    if (mine.token === "expiring" && mine.expires !== null) {
      const left = Math.ceil(mine.expires - now);
      said.push(left > 0 ? `token ends in ${left} s` : "its token has ended");
    } else if (TOKENS[mine.token]) said.push(TOKENS[mine.token]);
    const mood = mine.online ? (said.length > 1 ? "wait" : "good") : "bad";
    mark(this.where, "data-mood", mood);
    say(this.where, `${mood === "wait" ? "!" : sign(mood)} ${said.join(" · ")}`);
  }
}
