// Messages on their way: each is sent until the server says *stored*, or until it is clear that it
// will not be. Lesson 01's client: a timeout, the same key at every attempt, backoff with jitter.
// One message of a room is on the wire at a time, so that they are stored in the order of writing.

import { delay, sleep } from "./backoff.js";
import { Emitter } from "./emitter.js";

const MOST_ATTEMPTS = 8; // without an answer, while there is a connection
const KEY_LIVES = 23 * 3_600_000; // ms; the server knows a key again for 24 hours

/** A key that nobody else has. crypto.randomUUID() is missing on plain http, where phones come in. */
function makeKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Items are `{key, room, text, at, state, attempts, unknown, error}`; their state is `waiting`,
 * `sending` or `failed`, `at` is when they were written, in ms; `epoch` and `after` are how far the
 * room's log went before the first attempt. Emits `changed` (room's name) and `held` (until when, in ms).
 */
export class Outbox extends Emitter {
  #session;
  #rooms;
  #items = new Map(); // by room, in the order of writing
  #running = new Set();
  #wakers = new Set();
  #heldUntil = 0;

  constructor(session, rooms) {
    super();
    this.#session = session;
    this.#rooms = rooms;
    rooms.countPending((name) => this.in(name).filter(({ state }) => state === "sending").length);
    for (const news of ["joined", "list"]) rooms.on(news, () => this.#wake());
    rooms.on("refused", (room, error) => this.#giveUp(room.name, error.message));
    rooms.on("changed", (room) => this.#perhapsStored(room));
  }

  /** What is on its way to a room. */
  in(name) {
    return this.#items.get(name) ?? [];
  }

  /** Everything that is not stored yet, as far as is known. */
  get unsent() {
    return [...this.#items.values()].flat();
  }

  /** Forget everything: somebody else logs in. */
  clear() {
    this.#items.clear();
    this.#wake();
  }

  /**
   * Go on with what was `unsent` when the page was left. Each keeps its key: one that was stored
   * meanwhile is not stored twice. Where the server may not know the key any more, a person decides.
   */
  restore(unsent) {
    for (const item of unsent) {
      this.#items.set(item.room, [...this.in(item.room), item]);
      item.attempts = 0;
      item.unknown ||= item.state === "sending";
      if (item.state === "failed") continue;
      item.state = "waiting";
      if (Date.now() - item.at > KEY_LIVES) this.#fail(item, "It was written more than a day ago.");
    }
    for (const room of this.#items.keys()) {
      this.emit("changed", room);
      this.#run(room);
    }
  }

  /** Send `text` to a room, now or when it can be. */
  send(room, text) {
    const item = {
      key: makeKey(), room, text, at: Date.now(), state: "waiting", attempts: 0, unknown: false, error: "",
    };
    this.#items.set(room, [...this.in(room), item]);
    this.emit("changed", room);
    this.#run(room);
  }

  /** Try a failed one again, with its key: if it was stored after all, it is not stored twice. */
  retry(item) {
    Object.assign(item, { state: "waiting", attempts: 0, error: "" });
    this.emit("changed", item.room);
    this.#run(item.room);
  }

  /** Take a failed one away. */
  discard(item) {
    this.#remove(item);
    this.emit("changed", item.room);
  }

  #remove(item) {
    this.#items.set(item.room, this.in(item.room).filter((other) => other !== item));
  }

  async #run(room) {
    if (this.#running.has(room)) return;
    this.#running.add(room);
    try {
      for (let item; (item = this.#nextIn(room)); ) {
        if (await this.#ready(item)) await this.#attempt(item);
      }
    } finally {
      this.#running.delete(room);
    }
  }

  #nextIn(room) {
    return this.in(room).find(({ state }) => state !== "failed");
  }

  #wake() {
    for (const wake of this.#wakers) wake();
    this.#wakers.clear();
  }

  /** Wait until it can be sent. False: look again, something has changed. */
  async #ready(item) {
    const held = this.#heldUntil - Date.now();
    if (held > 0) {
      await sleep(held);
      return false;
    }
    const room = this.#rooms.get(item.room);
    if (this.#session.online && room?.joined) return true;
    if (!room) {
      this.#fail(item, "You have left this room.");
      return false;
    }
    await new Promise((woken) => this.#wakers.add(woken));
    return false;
  }

  async #attempt(item) {
    const room = this.#rooms.get(item.room);
    if (item.epoch === undefined) Object.assign(item, { epoch: room.epoch, after: room.newest });
    item.state = "sending";
    item.attempts += 1;
    this.emit("changed", item.room);
    try {
      const { room: name, text, key } = item;
      const ack = await this.#session.request("send-message", { room: name, text, key });
      this.#remove(item);
      const { id, seq, timestamp } = ack;
      const { user } = this.#session.credentials;
      this.#rooms.own({ id, seq, timestamp, room: name, text: text.trim(), user });
    } catch (error) {
      if (item.state === "sending") item.state = "waiting";
      await this.#failed(item, error);
    }
    this.emit("changed", item.room);
    if (this.#rooms.get(item.room) === room) this.#rooms.tend(room);
  }

  async #failed(item, error) {
    item.unknown ||= error.unknown;
    if (error.code === "offline") {
      item.attempts -= 1; // nothing left this machine
    } else if (error.code === "rate_limited") {
      item.attempts -= 1; // it was understood, and is only too early
      this.#heldUntil = Date.now() + delay(0, error.retryAfter, { base: 100 });
      this.emit("held", this.#heldUntil);
    } else if (error.code === "not_in_room" && item.attempts < MOST_ATTEMPTS) {
      this.#rooms.rejoin(item.room);
    } else if (!error.retry || item.attempts >= MOST_ATTEMPTS) {
      this.#fail(item, error.message);
    } else {
      this.emit("changed", item.room);
      await sleep(delay(item.attempts - 1, error.retryAfter));
    }
  }

  #fail(item, why) {
    item.state = "failed";
    item.error = item.unknown ? `${why} Whether it was stored is not known.` : why;
    this.emit("changed", item.room);
  }

  #giveUp(room, why) {
    for (const item of this.in(room)) if (item.state !== "failed") this.#fail(item, why);
  }

  // An ack was lost, and here is the message itself, from the log. Which of one's own it is, the next
  // attempt's answer will say; until then it is not shown twice.
  #perhapsStored(room) {
    const { user } = this.#session.credentials;
    for (const item of this.in(room.name)) {
      if (!item.unknown || item.epoch !== room.epoch) continue;
      item.shown = room.has({ user, text: item.text.trim(), after: item.after });
    }
  }
}
