// The log: a window over the room's entries, so that ten thousand messages cost no more than a few
// hundred. It follows the newest ones until a person scrolls up. What arrives is read out by the
// announcer beside it, which never holds what was there before.

import { bundled, byId, make, shown } from "./dom.js";
import { dayItem, lostItem, messageItem, newItem, outboxItem, setTick } from "./view-message.js";

const USUAL = 150; // entries in the document
const MOST = 400;
const STEP = 50; // entries that "earlier" and "later" add
const NEAR = 48; // px from the end that still count as the end
const GROUP = 5 * 60_000; // ms within which one author's messages stand together
const READ_OUT = 3; // messages at once that are read out one by one

export class MessagesView {
  #rooms;
  #outbox;
  #me;
  #seen;
  #room = null;
  #first = null; // the key of the first entry in the document, once a person went back
  #live = true; // the document reaches to the newest entry
  #atEnd = true;
  #newAfter = 0;
  #nodes = new Map(); // by key
  #pending = new Map(); // by item
  #scroll = byId("message-scroll");
  #list = byId("messages");
  #waiting = byId("outbox");
  #announce = [];

  /** `me()` is one's user id; `seen()` is called when what is in view has changed. */
  constructor({ rooms, outbox, me, seen }) {
    this.#rooms = rooms;
    this.#outbox = outbox;
    this.#me = me;
    this.#seen = seen;
    const render = bundled(() => this.#render());
    rooms.on("changed", (room) => room === this.#room && render());
    rooms.on("list", () => this.#show(rooms.active));
    rooms.on("message", (room, message) => room === this.#room && this.#readOut(message));
    outbox.on("changed", (name) => name === this.#room?.name && render());
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#scroll);
    byId("show-earlier").addEventListener("click", () => this.#earlier());
    byId("show-later").addEventListener("click", () => this.#later());
    byId("jump-newest").addEventListener("click", () => this.toNewest());
    this.speak = bundled(() => this.#speak(), 600);
  }

  /** Whether the newest message is in view. */
  get atEnd() {
    return this.#live && this.#atEnd;
  }

  /** Show the newest messages, and follow them. */
  toNewest() {
    this.#live = this.#atEnd = true;
    this.#first = null;
    this.#render();
  }

  #show(room) {
    if (room === this.#room) return;
    this.#room = room;
    this.#first = null;
    this.#live = this.#atEnd = true;
    this.#newAfter = room?.joined ? room.read : 0;
    for (const map of [this.#nodes, this.#pending]) map.clear();
    for (const list of [this.#list, this.#waiting]) list.replaceChildren();
    byId("announcer").replaceChildren();
    this.#announce = [];
    this.#render();
  }

  // --- which entries -----------------------------------------------------------------------

  #range() {
    const { entries } = this.#room;
    const end = entries.length;
    let from = this.#first === null ? -1 : entries.findIndex(({ key }) => key === this.#first);
    if (this.#live && this.#atEnd) {
      // Following: what is above falls away.
      from = Math.max(from, end - (this.#first === null ? USUAL : MOST), 0);
      return [from, end];
    }
    if (from < 0) from = Math.max(0, end - USUAL);
    const to = Math.min(end, from + MOST);
    this.#live = to === end;
    return [from, to];
  }

  async #earlier() {
    const room = this.#room;
    const [from] = this.#range();
    const button = byId("show-earlier");
    if (from === 0 && room.hasEarlier) {
      button.disabled = true;
      try {
        await this.#rooms.earlier(room);
      } catch {
        return; // it is asked for again by the next press
      } finally {
        button.disabled = false;
      }
      if (room !== this.#room) return;
    }
    const anchor = this.#list.querySelector(".message");
    const top = anchor?.getBoundingClientRect().top;
    const index = room.entries.findIndex(({ key }) => this.#nodes.get(key) === anchor);
    this.#atEnd = false;
    this.#first = room.entries[Math.max(0, index - STEP)]?.key ?? null;
    this.#render();
    // What was in view stays where it was.
    if (anchor?.isConnected) this.#scroll.scrollTop += anchor.getBoundingClientRect().top - top;
    if (button.hidden) this.#scroll.focus();
  }

  #later() {
    const { entries } = this.#room;
    const [from] = this.#range();
    this.#first = entries[Math.min(entries.length - 1, from + STEP)]?.key ?? null;
    const last = this.#list.lastElementChild;
    const top = last?.getBoundingClientRect().top;
    this.#render();
    if (last?.isConnected) this.#scroll.scrollTop += last.getBoundingClientRect().top - top;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (atEnd === this.#atEnd) return;
    this.#atEnd = atEnd;
    if (!atEnd && this.#first === null) this.#first = this.#room?.entries[this.#range()[0]]?.key ?? null;
    if (atEnd && this.#live) this.#first = null;
    this.#jump();
    this.#seen();
  }

  #toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  // --- the document ------------------------------------------------------------------------

  #render() {
    const room = this.#room;
    byId("log-empty").hidden = !room?.joined || room.entries.length > 0 || this.#outbox.in(room.name).length > 0;
    if (!room) return;
    const [from, to] = this.#range();
    this.#arrange(this.#list, this.#items(room, from, to));
    this.#ticks(room, from, to);
    this.#renderPending(room);
    byId("show-earlier").hidden = from === 0 && !room.hasEarlier;
    byId("show-later").hidden = this.#live;
    if (this.#live && this.#atEnd) this.#toEnd();
    this.#jump();
    this.#seen();
  }

  #items(room, from, to) {
    const me = this.#me();
    const items = [];
    let before = null;
    let newShown = false;
    const nodes = new Map();
    const node = (key, build) => {
      const element = this.#nodes.get(key) ?? build();
      nodes.set(key, element);
      items.push(element);
      return element;
    };
    for (const { key, kind, message, missing } of room.entries.slice(from, to)) {
      if (kind === "lost") {
        node(key, () => lostItem(missing));
        before = null;
        continue;
      }
      const when = new Date(message.timestamp);
      const date = when.toDateString();
      if (date !== before?.date && (before || date !== new Date().toDateString())) {
        node(`day/${key}`, () => dayItem(when));
        before = null;
      }
      if (!newShown && this.#newAfter > 0 && message.seq > this.#newAfter && message.user !== me) {
        node("new", newItem);
        newShown = true;
        before = null;
      }
      const item = node(key, () => messageItem(message, me));
      const together = before?.user === message.user && when - before.when < GROUP;
      item.classList.toggle("continued", together);
      before = { user: message.user, when, date };
    }
    this.#nodes = nodes;
    return items;
  }

  #arrange(list, items) {
    const wanted = new Set(items);
    for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
    items.forEach((item, index) => {
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
  }

  #ticks(room, from, to) {
    const me = this.#me();
    for (const { key, kind, message, epoch } of room.entries.slice(from, to)) {
      if (kind !== "message" || message.user !== me || epoch !== room.epoch) continue;
      const reach = room.reach(message.seq, me);
      const state = reach.read ? "read" : reach.delivered ? "delivered" : "sent";
      setTick(this.#nodes.get(key).querySelector(".tick"), state, reach);
    }
  }

  #renderPending(room) {
    const shownNow = this.#outbox.in(room.name).filter((item) => !item.shown || item.state === "failed");
    const kept = new Map();
    for (const item of shownNow) {
      const view = this.#pending.get(item) ?? outboxItem(item, this.#me(), {
        retry: (one) => this.#outbox.retry(one),
        discard: (one) => this.#outbox.discard(one),
      });
      if (view.state !== item.state) view.update();
      view.state = item.state;
      kept.set(item, view);
    }
    this.#pending = kept;
    this.#arrange(this.#waiting, [...kept.values()].map(({ element }) => element));
  }

  #jump() {
    byId("jump-newest").hidden = this.atEnd;
  }

  // --- for those who listen ----------------------------------------------------------------

  #readOut({ user, text }) {
    if (user === this.#me()) return;
    this.#announce.push(`${shown(user)}: ${text.slice(0, 300)}`);
    this.speak();
  }

  #speak() {
    const news = this.#announce;
    this.#announce = [];
    const lines = news.length > READ_OUT ? [`${news.length} new messages`] : news;
    byId("announcer").replaceChildren(...lines.map((line) => make("p", { textContent: line, dir: "auto" })));
  }
}
