/**
 * The stage's page, put together: what the stage says goes to the parts that show it.
 * It decides nothing and keeps nothing that the stage would not say again.
 */

import { Chart } from "./charts.js";
import { Connection, dropKey, takeKey } from "./connection.js";
import { byId, el, mark, say } from "./dom.js";
import { Door } from "./door.js";
import { Log } from "./log.js";
import { Pane } from "./panes.js";
import { makeCards } from "./parts.js";
import { Switches } from "./switches.js";
import { Talk } from "./talk.js";
import { addTextSize } from "./textsize.js";
import { Topology } from "./topology.js";
import { Verdict } from "./verdict.js";

const SIGNS = { good: "✓", bad: "✗", info: "·", wait: "…" };

function main() {
  const key = takeKey();
  addEventListener("hashchange", () => {
    if (location.hash.includes("key=")) location.reload();
  });
  if (key) start(new Connection(key));
  else askForKey(false);
}

function askForKey(wrong) {
  mark(byId("stage"), "hidden", true);
  mark(byId("trouble"), "hidden", true);
  mark(byId("no-key"), "hidden", null);
  mark(byId("no-key-why"), "hidden", !wrong);
  mark(byId("line"), "data-mood", "bad");
  say(byId("line"), "✗ no key");
}

function start(connection) {
  mark(byId("stage"), "hidden", null);
  const notice = byId("notice");
  const tell = (kind, text) => {
    mark(notice, "data-kind", kind);
    say(notice, `${SIGNS[kind] ?? "·"} ${text}`);
  };
  const switches = new Switches((order) => connection.ask(order), tell);
  const dialog = makeDialog();
  const door = new Door(switches);
  addTools(byId("tools"), switches, () => dialog("The audience's door", [door.node]));
  const panes = ["a", "b"].map((seat) => new Pane(byId(`pane-${seat}`), seat, switches));
  const { cards, victim } = makeCards(switches, { openDoor: () => dialog("The audience's door", [door.node]) });
  const topology = new Topology(byId("topology"), cards);
  const verdict = new Verdict(byId("verdict"), switches, dialog);
  const log = new Log(byId("log"));
  const charts = makeCharts(byId("charts"));
  const talk = new Talk(byId("script"), switches);
  const line = byId("line");
  const trouble = byId("trouble");
  let clock = { at: 0, read: performance.now() };
  const now = () => clock.at + (performance.now() - clock.read) / 1000;

  const hear = {
    welcome(message) {
      charts.clear();
      topology.clear();
      talk.load(message.script);
    },
    state(message) {
      clock = { at: message.at, read: performance.now() };
      switches.update(message);
      for (const pane of panes) pane.update(message, now());
      topology.update(message);
      victim.update(message);
      door.update(message);
      if (message.busy) tell("wait", message.busy.words);
      else if (notice.dataset.kind === "wait") tell("good", "Done.");
      mark(document.body, "data-adapter", message.adapter);
      mark(document.body, "data-ready", String(message.ready && !message.busy));
      mark(line, "data-mood", message.ready ? "good" : "wait");
      say(line, message.ready ? "✓ live" : "… starting");
    },
    packets(message) {
      topology.fly(message.packets, message.skipped ?? 0);
      log.add(message.packets, message.skipped ?? 0);
    },
    verdict: (message) => verdict.update(message),
    chart(message) {
      for (const point of message.points) charts.push(point);
      const last = message.points.at(-1);
      if (last) victim.point(last);
      for (const pane of panes) pane.tick(now());
    },
    notice: (message) => tell(message.kind, message.text),
    done: (message) => message.words && tell("good", message.words),
    failed: (message) => tell("bad", message.error),
  };

  connection.addEventListener("message", ({ detail }) => {
    mark(trouble, "hidden", true);
    mark(document.body, "data-stale", null);
    hear[detail.type]?.(detail);
  });
  connection.addEventListener("closed", () => {
    switches.disconnected();
    mark(document.body, "data-stale", "true");
    mark(document.body, "data-ready", "false");
    mark(line, "data-mood", "bad");
    say(line, "✗ no connection");
    say(trouble, "The stage does not answer: what you see is old. This page keeps trying. Is `make demo` still running?");
    mark(trouble, "hidden", null);
  });
  connection.addEventListener("refused", () => {
    dropKey();
    askForKey(true);
  });
  connection.open();
}

function addTools(node, switches, openDoor) {
  const adapter = (label, to, hint) =>
    switches.make({
      label,
      on: { do: "adapter", to },
      off: { do: "adapter", to },
      pressed: (state) => state.adapter === to,
      hint,
      look: "segment",
    });
  node.append(
    el(
      "div",
      { class: "segments", role: "group", "aria-label": "What shares the rooms between the servers" },
      adapter("chatlab's log", "chatlab", "The room's log is the truth: every server serves from it."),
      adapter("Stock adapter", "stock", "python-socketio with its Redis manager: deliver, then publish."),
    ),
    el("button", { type: "button", class: "button button-small", text: "Door", on: { click: openDoor } }),
    addTextSize(),
    switches.make({
      label: "Reset",
      look: "button-primary",
      on: { do: "reset" },
      always: true,
      hint: "Everything as at the start, from whatever state; about four seconds.",
    }),
  );
}

function makeCharts(node) {
  const rate = new Chart("Messages a second", [{ name: "all rooms", hue: 1 }]);
  const acks = new Chart("Time to the ack", [{ name: "p50", hue: 3 }, { name: "p99", hue: 2 }], { unit: "ms" });
  const rejects = new Chart("Refused a second", []);
  const victim = new Chart("What the victim waits", [{ name: "p50", hue: 6 }, { name: "p99", hue: 5 }], { unit: "ms" });
  const all = [rate, acks, rejects, victim];
  const hues = [2, 4, 5, 6, 7, 1, 3, 8];
  node.append(
    el("h2", { id: "charts-name", class: "visually-hidden", text: "The last minute" }),
    ...all.map((chart) => chart.node),
  );
  return {
    push(point) {
      rate.push(point.at, { "all rooms": point.messages });
      acks.push(point.at, { p50: point.ack_p50, p99: point.ack_p99 });
      for (const code of Object.keys(point.rejects))
        if (rejects.lines.size < 6) rejects.add({ name: code.replaceAll("_", " "), hue: hues[rejects.lines.size] });
      const codes = Object.entries(point.rejects).map(([code, count]) => [code.replaceAll("_", " "), count]);
      const zeros = [...rejects.lines.keys()].map((name) => [name, 0]);
      rejects.push(point.at, Object.fromEntries([...zeros, ...codes]));
      victim.push(point.at, { p50: point.victim_p50, p99: point.victim_p99 });
    },
    clear: () => all.forEach((chart) => chart.clear()),
  };
}

/** The page's one dialog. @returns {(title: string, content: Node[]) => void} opens it */
function makeDialog() {
  const node = byId("dialog");
  const title = el("h2", { id: "dialog-name" });
  const body = el("div", { class: "dialog-body stack" });
  const close = el("button", { type: "button", class: "button", text: "Close", on: { click: () => node.close() } });
  node.append(el("div", { class: "panel-head" }, title, close), body);
  node.addEventListener("click", (event) => event.target === node && node.close());
  return (name, content) => {
    say(title, name);
    body.replaceChildren(...content);
    if (!node.open) node.showModal();
  };
}

main();
