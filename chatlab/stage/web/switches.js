/**
 * The switches: real buttons whose pressed state is what the stage says, never what was clicked.
 * What each of them breaks is the stage's business; here is only how one behaves.
 */

import { el, mark, say } from "./dom.js";

const PATIENCE = 250; // ms: what is done sooner disables nothing, so that nothing flickers

/**
 * @typedef {object} Switch
 * @property {string} label  what is seen
 * @property {string} [of]   what it acts on; heard, and seen where the label stands alone
 * @property {object} on     what the stage is asked to do
 * @property {object} [off]  what it is asked when the switch is pressed; makes it a toggle
 * @property {(state: object) => boolean} [pressed]
 * @property {(state: object) => string} [reason]  why it can not be used now; "" when it can
 * @property {{when: (state: object) => boolean, label: string, hint: string, on: object, look: string}}
 *   [instead]  what the same button is in another state
 * @property {string} [hint]  one sentence on what it does
 * @property {string} [look]  further classes
 * @property {string} [group]  which ones are let go of together
 * @property {boolean} [always]  works while something else is being done
 */

/** Every switch of the page. */
export class Switches {
  /**
   * @param {(order: object) => Promise<object>} ask
   * @param {(kind: string, text: string) => void} tell  says a sentence to the person
   */
  constructor(ask, tell) {
    this.ask = ask;
    this.tell = tell;
    this.all = [];
    this.state = null;
    this.patience = 0;
    this.locked = "";
  }

  /**
   * Make a switch.
   * @param {Switch} what
   * @returns {HTMLButtonElement}
   */
  make(what) {
    const label = el("span", { text: what.label });
    const button = el(
      "button",
      { type: "button", class: `button button-small switch ${what.look ?? ""}`, title: what.hint },
      label,
      what.of ? el("span", { class: "visually-hidden", text: ` ${what.of}` }) : null,
    );
    const entry = { ...what, button, words: label, asked: false };
    button.addEventListener("click", () => this.press(entry));
    this.all.push(entry);
    this.show(entry);
    return button;
  }

  /** The stage's state has changed. */
  update(state) {
    this.state = state;
    clearTimeout(this.patience);
    const waited = state.busy ? PATIENCE : 0;
    if (!state.busy) this.lock("");
    else if (this.locked) this.lock(state.busy.words);
    else this.patience = setTimeout(() => this.lock(state.busy.words), waited);
    for (const entry of this.all) this.show(entry);
  }

  /** Nobody answers: no switch can do anything. */
  disconnected() {
    clearTimeout(this.patience);
    this.state = null;
    for (const entry of this.all) this.show(entry);
  }

  lock(words) {
    if (this.locked === words) return;
    this.locked = words;
    for (const entry of this.all) this.show(entry);
  }

  /** Why a switch can not be used now; "" when it can. */
  reason(entry) {
    if (!this.state) return "The stage does not answer.";
    if (entry.always) return "";
    if (!this.state.ready) return "The stage is starting.";
    if (this.locked) return `${this.locked}. One thing at a time.`;
    return entry.reason?.(this.state) ?? "";
  }

  show(entry) {
    const { button } = entry;
    const reason = this.reason(entry);
    mark(button, "aria-disabled", reason ? "true" : null);
    const now = this.now(entry);
    say(entry.words, now.label);
    mark(button, "title", reason || now.hint || null);
    if (entry.instead) button.classList.toggle(entry.instead.look, now !== entry);
    if (entry.off) mark(button, "aria-pressed", this.isPressed(entry) ? "true" : "false");
    mark(button, "data-asked", entry.asked ? "true" : null);
  }

  /** What the button is at the moment: itself, or what it is instead. */
  now(entry) {
    return this.state && entry.instead?.when(this.state) ? entry.instead : entry;
  }

  isPressed(entry) {
    return Boolean(this.state && entry.pressed?.(this.state));
  }

  async press(entry) {
    const reason = this.reason(entry);
    if (reason) {
      this.tell("info", reason);
      return;
    }
    entry.asked = true;
    this.show(entry);
    try {
      await this.ask(entry.off && this.isPressed(entry) ? entry.off : this.now(entry).on);
    } catch (error) {
      this.tell("bad", error.message);
    } finally {
      entry.asked = false;
      this.show(entry);
    }
  }

  /** Let go of the switches of a group: their buttons are taken off the page. */
  forget(group) {
    this.all = this.all.filter((entry) => entry.group !== group);
  }

  /** Point at the switches that do one of `orders`, as a note of the talk does. */
  point(orders) {
    for (const entry of this.all.filter((one) => !one.group))
      mark(entry.button, "data-pointed", orders.some((order) => same(order, entry.on) || (entry.instead && same(order, entry.instead.on))) ? "true" : null);
  }
}

/** Whether a note's order means this switch: the same thing done to the same part. */
function same(order, mine) {
  return (
    order.do === mine.do &&
    Object.keys(mine).every((key) => !(key in order) || key === "seconds" || order[key] === mine[key])
  );
}
