// The rooms that one is in: joined, joined again after every return, and caught up until nothing is
// missing (lessons 01 and 06). The order of messages is room.js's, sending is outbox.js's.

import { delay, sleep } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { Room } from "./room.js";

const PAGE = 200; // messages of history at once, when filling a hole
const EARLIER = 50; // and when looking back

/**
 * Emits `changed` (a room's content), `list` (which rooms, which is active), `message` (room,
 * message: one that came just now), `refused` (room, error), `lost` (room).
 */
export class Rooms extends Emitter {
  active = null;
  #session;
  #rooms = new Map();
  #entering = new Map();
  #tending = new Set();
  #pendingIn = () => 0;

  constructor(session) {
    super();
    this.#session = session;
    session.on("online", () => this.#all((room) => this.#enter(room)));
    session.on("state", ({ name }) => {
      if (name !== "online") this.#all((room) => (room.joined = false));
    });
    session.on("new-message", (message) => this.#arrived(message));
    session.on("receipts", ({ room, users }) => this.#with(room, (known) => known.receipts(users)));
  }

  /** Own messages that are on their way to a room are counted by `pendingIn(name)`. */
  countPending(pendingIn) {
    this.#pendingIn = pendingIn;
  }

  get names() {
    return [...this.#rooms.keys()];
  }

  get(name) {
    return this.#rooms.get(name);
  }

  *[Symbol.iterator]() {
    yield* this.#rooms.values();
  }

  /** Forget every room: somebody else logs in. */
  clear() {
    this.#rooms.clear();
    this.active = null;
    this.emit("list");
  }

  /** Join a room, and show it. One that is joined already is shown. */
  open(name, { show = true } = {}) {
    let room = this.#rooms.get(name);
    if (!room) {
      room = new Room(name);
      this.#rooms.set(name, room);
      if (this.#session.online) this.#enter(room);
    }
    if (show || this.active === null) this.active = room;
    this.emit("list");
    return room;
  }

  /** Leave a room. */
  leave(name) {
    this.#remove(name);
    if (this.#session.online) this.#session.request("leave-room", { room: name }).catch(() => {});
  }

  /** Join a room again: the server says that one is not in it. */
  rejoin(name) {
    this.#with(name, (room) => {
      room.joined = false;
      this.#enter(room);
    });
  }

  /** One's own message was stored: the server does not send it to the socket that sent it. */
  own(message) {
    this.#with(message.room, (room) => {
      room.arrived(message);
      room.lastOwn = message.seq;
    });
  }

  /** Fetch what came before the oldest message. Throws `Refused`. */
  async earlier(room) {
    const before = room.oldest;
    room.earlier(await this.#session.request("history", { room: room.name, before, limit: EARLIER }));
  }

  /** Ask for what is missing, until nothing is. */
  async tend(room) {
    if (this.#tending.has(room)) return;
    this.#tending.add(room);
    try {
      for (;;) {
        const after = room.missingAfter(this.#pendingIn(room.name));
        if (after === null || this.#rooms.get(room.name) !== room) return;
        const ack = await this.#session.request("history", { room: room.name, after, limit: PAGE });
        if (!room.page(after, ack)) {
          this.rejoin(room.name);
          return;
        }
        this.emit("changed", room);
      }
    } catch (error) {
      if (error.code === "not_in_room") this.rejoin(room.name);
      else if (error.code !== "offline") sleep(delay(1, error.retryAfter)).then(() => this.tend(room));
    } finally {
      this.#tending.delete(room);
    }
  }

  #all(act) {
    for (const room of this) act(room);
  }

  #with(name, act) {
    const room = this.#rooms.get(name);
    if (!room) return;
    act(room);
    this.emit("changed", room);
  }

  #remove(name) {
    const room = this.#rooms.get(name);
    this.#rooms.delete(name);
    if (this.active === room) this.active = this.#rooms.values().next().value ?? null;
    this.emit("list");
  }

  #arrived(message) {
    const room = this.#rooms.get(message.room);
    if (!room) return;
    const news = message.seq >= room.next;
    room.arrived(message);
    if (news) this.emit("message", room, message);
    this.emit("changed", room);
    this.tend(room);
  }

  /** Join, or join again from where one was; tried until it is settled. */
  async #enter(room) {
    if (this.#entering.get(room.name) === room) return;
    this.#entering.set(room.name, room);
    const wanted = () => this.#rooms.get(room.name) === room && this.#session.online;
    try {
      for (let attempt = 0; wanted(); attempt += 1) {
        try {
          const ack = await this.#session.request("join-room", { room: room.name, ...room.position });
          if (!wanted()) return;
          if (room.returned(ack)) this.emit("lost", room);
          break;
        } catch (error) {
          if (error.code === "offline" || !wanted()) return;
          if (!error.retry) {
            this.#remove(room.name);
            this.emit("refused", room, error);
            return;
          }
          await sleep(delay(attempt, error.retryAfter));
        }
      }
    } finally {
      this.#entering.delete(room.name);
      // The connection was lost and made again while this one still waited.
      if (!room.joined && wanted()) this.#enter(room);
    }
    this.emit("joined", room);
    this.emit("list");
    this.emit("changed", room);
    this.tend(room);
  }
}
