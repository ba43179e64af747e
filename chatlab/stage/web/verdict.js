/**
 * The checker's verdict: four numbers that a room can read, and the evidence on request.
 * It judges nothing: the stage's checker does.
 */

import { el, mark, say } from "./dom.js";

const BIG = ["lost", "duplicated", "out of order", "leak"];
const SAID = { leak: "leaked", gap: "gaps", phantom: "never sent" };

/** The verdict's panel. */
export class Verdict {
  /**
   * @param {HTMLElement} node
   * @param {import("./switches.js").Switches} switches
   * @param {(title: string, content: Node[]) => void} show  opens a dialog
   */
  constructor(node, switches, show) {
    this.node = node;
    this.numbers = new Map(BIG.map((rule) => [rule, number(SAID[rule] ?? rule)]));
    this.words = el("p", { class: "verdict-words", text: "The checker has nothing to judge yet." });
    this.counts = el("p", { class: "verdict-counts muted" });
    this.last = null;
    const evidence = el("button", {
      type: "button",
      class: "button button-small",
      text: "Evidence",
      on: { click: () => show("What the checker found", this.evidence()) },
    });
    const record = switches.make({ label: "New record", on: { do: "record" }, hint: "Forget what was, and judge from now on." });
    node.append(
      el("h2", { id: "verdict-name", class: "visually-hidden", text: "The checker's verdict" }),
      el("dl", { class: "verdict-numbers" }, ...[...this.numbers.values()].map((one) => one.node)),
      el("div", { class: "verdict-said" }, this.words, this.counts),
      el("div", { class: "verdict-buttons" }, evidence, record),
    );
  }

  /** Show a new verdict. */
  update(verdict) {
    this.last = verdict;
    mark(this.node, "data-ok", String(verdict.ok));
    for (const row of verdict.rows) this.numbers.get(row.rule)?.set(row.count, row.words);
    const others = verdict.rows.filter((row) => row.count && !this.numbers.has(row.rule));
    const more = others.map((row) => `${row.count} ${SAID[row.rule] ?? row.rule}`);
    say(this.words, [verdict.words, more.length ? `Also: ${more.join(", ")}.` : ""].filter(Boolean).join(" "));
    const { counts } = verdict;
    const parts = ["sent", "acked", "refused", "unknown", "waiting", "delivered", "excused"]
      .filter((key) => counts[key] !== undefined && (counts[key] || ["sent", "acked", "delivered"].includes(key)))
      .map((key) => `${counts[key].toLocaleString("en")} ${key}`);
    say(this.counts, parts.join(" · "));
  }

  evidence() {
    if (!this.last) return [el("p", { text: "Nothing has been judged yet." })];
    return this.last.rows.map((row) =>
      el(
        "section",
        { class: "evidence" },
        el("h3", {}, el("span", { class: row.count ? "bad" : "good", text: row.count ? "✗ " : "✓ " }), `${row.rule}: ${row.count}`),
        el("p", { class: "muted", text: row.words }),
        row.example ? el("p", { text: row.example }) : null,
        row.evidence?.length
          ? el("pre", { class: "evidence-lines", tabindex: "0", "aria-label": `What was recorded: ${row.rule}`, text: row.evidence.join("\n") })
          : null,
      ),
    );
  }
}

function number(name) {
  const sign = el("span", { class: "verdict-sign", "aria-hidden": "true", text: "○" });
  const value = el("span", { class: "verdict-value", text: "–" });
  const term = el("dt", { text: name });
  const node = el("div", { class: "verdict-number" }, term, el("dd", {}, sign, value));
  return {
    node,
    set(count, words) {
      say(sign, count ? "✗" : "✓");
      say(value, count.toLocaleString("en"));
      mark(node, "data-ok", String(!count));
      mark(node, "title", words);
    },
  };
}
