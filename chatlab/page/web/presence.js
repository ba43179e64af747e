// Who is here. `user-joined` and `user-left` are hints, shown at once; `who` is the truth, asked for a
// little later and now and then. The asking also finds out that a line is dead.

const ASK_EVERY = 20_000; // ms; the room that is shown
const SETTLE = 1500; // after a hint: a server that comes back sends many

export class Presence {
  #session;
  #rooms;
  #timers = new Map();

  constructor(session, rooms) {
    this.#session = session;
    this.#rooms = rooms;
    session.on("user-joined", ({ room, user }) => this.#hint(room, user, true));
    session.on("user-left", ({ room, user }) => this.#hint(room, user, false));
    setInterval(() => this.#ask(rooms.active), ASK_EVERY);
  }

  #hint(name, user, here) {
    const room = this.#rooms.get(name);
    if (!room?.joined) return;
    const known = room.users.includes(user);
    if (here !== known) {
      room.users = here ? [...room.users, user] : room.users.filter((other) => other !== user);
      room.count = Math.max(room.users.length, room.count + (here ? 1 : -1));
      this.#rooms.emit("changed", room);
    }
    clearTimeout(this.#timers.get(room));
    this.#timers.set(room, setTimeout(() => this.#ask(room), SETTLE * (1 + Math.random())));
  }

  async #ask(room) {
    if (!room?.joined) return;
    this.#timers.delete(room);
    try {
      const { users, count } = await this.#session.request("who", { room: room.name });
      Object.assign(room, { users, count });
      this.#rooms.emit("changed", room);
    } catch {
      // The next one will do.
    }
  }
}
