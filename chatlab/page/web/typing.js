// Who is typing: said seldom, believed shortly. It may be lost on the way and nothing is missed.

import { Emitter } from "./emitter.js";

const SAY_EVERY = 2500; // ms; while one goes on typing
const SILENT_AFTER = 4000; // since the last key: one has stopped
const BELIEVED = 6000; // since the last word of somebody else

/** Emits `changed` (room's name). */
export class Typing extends Emitter {
  #session;
  #said = 0; // when the server was last told
  #room = null; // where
  #stop = 0;
  #others = new Map(); // by room: Map of user -> timer

  constructor(session) {
    super();
    this.#session = session;
    session.on("typing", ({ room, user, typing }) => this.#heard(room, user, typing));
    session.on("new-message", ({ room, user }) => this.#heard(room, user, false));
    session.on("user-left", ({ room, user }) => this.#heard(room, user, false));
    session.on("state", ({ name }) => {
      if (name !== "online") this.#forget();
    });
  }

  /** A key was pressed in the message box of `room`. */
  typed(room) {
    if (this.#room !== null && this.#room !== room) this.stopped();
    clearTimeout(this.#stop);
    this.#stop = setTimeout(() => this.stopped(), SILENT_AFTER);
    if (this.#room === room && performance.now() - this.#said < SAY_EVERY) return;
    this.#room = room;
    this.#said = performance.now();
    this.#tell(true);
  }

  /** One has sent, emptied the box, or stopped. */
  stopped() {
    clearTimeout(this.#stop);
    if (this.#room === null) return;
    this.#tell(false);
    this.#room = null;
  }

  /** Who is typing in a room. */
  in(room) {
    return [...(this.#others.get(room)?.keys() ?? [])];
  }

  #tell(typing) {
    this.#session.request("typing", { room: this.#room, typing }).catch(() => {});
  }

  #heard(room, user, typing) {
    const users = this.#others.get(room) ?? new Map();
    if (!typing && !users.has(user)) return;
    clearTimeout(users.get(user));
    users.delete(user);
    if (typing) users.set(user, setTimeout(() => this.#heard(room, user, false), BELIEVED));
    this.#others.set(room, users);
    this.emit("changed", room);
  }

  #forget() {
    for (const users of this.#others.values()) for (const timer of users.values()) clearTimeout(timer);
    const rooms = [...this.#others.keys()];
    this.#others.clear();
    for (const room of rooms) this.emit("changed", room);
  }
}
