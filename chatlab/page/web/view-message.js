// What one entry of the log looks like: a message with its tick, a divider, a day.

import { clock, day, hue, make, named, shown } from "./dom.js";

// Each state is a shape and a word besides its colour.
const TICKS = { sending: "○", sent: "✓", delivered: "✓✓", read: "✓✓", failed: "✗" };

function words(state, { delivered = 0, read = 0 } = {}) {
  const others = (count) => (count === 1 ? "1 other" : `${count} others`);
  if (state === "read") return `Read by ${others(read)}`;
  if (state === "delivered") return `Delivered to ${others(delivered)}`;
  return { sending: "Sending", sent: "Sent", failed: "Not sent" }[state];
}

/** Show a state in a tick. */
export function setTick(tick, state, reach) {
  const text = words(state, reach);
  if (tick.title === text) return;
  tick.dataset.state = state;
  tick.title = text;
  const shape = make("span", { textContent: TICKS[state], attributes: { "aria-hidden": "true" } });
  tick.replaceChildren(shape, make("span", { className: "visually-hidden", textContent: text }));
}

function bubble(user, text, when, own) {
  const time = make("time", { className: "message-time", textContent: clock(when), dateTime: when.toISOString() });
  const author = named(user, "message-author");
  author.dataset.hue = hue(user);
  if (own) author.append(make("span", { textContent: " (you)" }));
  return make("div", { className: "bubble" },
    make("p", { className: "message-head" }, author, time),
    make("p", { className: "message-text", textContent: text, dir: "auto" }));
}

function avatar(user) {
  const initial = [...shown(user)][0]?.toLocaleUpperCase() ?? "";
  const element = make("span", { className: "avatar", textContent: initial, attributes: { "aria-hidden": "true" } });
  element.dataset.hue = hue(user);
  return element;
}

/** A stored message. */
export function messageItem({ user, text, timestamp, seq }, me) {
  const own = user === me;
  const item = make("li", { className: own ? "message own" : "message" });
  item.dataset.seq = seq;
  const body = bubble(user, text, new Date(timestamp), own);
  if (own) {
    const tick = make("span", { className: "tick" });
    body.append(tick);
    setTick(tick, "sent");
  }
  item.append(avatar(user), body);
  return item;
}

/** A message on its way; `act` are what its buttons do. */
export function outboxItem(item, me, act) {
  const element = make("li", { className: "message own pending" });
  const body = bubble(me, item.text, new Date(item.at), true);
  const tick = make("span", { className: "tick" });
  body.append(tick);
  element.append(avatar(me), body);
  const update = () => {
    const failed = item.state === "failed";
    setTick(tick, failed ? "failed" : "sending");
    element.classList.toggle("failed", failed);
    element.querySelector(".failure")?.remove();
    if (!failed) return;
    const button = (label, does, more = "") =>
      make("button", { type: "button", className: `button button-small ${more}`, textContent: label, onclick: does });
    element.append(make("div", { className: "failure row" },
      make("span", { className: "bad", textContent: `Not sent: ${item.error}` }),
      button("Try again", () => act.retry(item)),
      button("Discard", () => act.discard(item), "button-quiet")));
  };
  update();
  return { element, update };
}

/** Where history is missing. */
export function lostItem(missing) {
  const how = missing === null ? "messages may be missing here" : missing === 1 ? "1 message is missing here" : `${missing} messages are missing here`;
  return make("li", { className: "divider divider-lost" },
    make("strong", { textContent: "History lost" }), ` – ${how}`);
}

/** What came since the room was last read begins below. */
export function newItem() {
  return make("li", { className: "divider divider-new", textContent: "New" });
}

/** A day begins. */
export function dayItem(date) {
  return make("li", { className: "divider", textContent: day(date) });
}
