// Tells the server how far one has received and read, which is what the others' ticks show.
//
// Delivered is what this page has, in any room. Read is only what a person can have seen: the room is
// shown, the newest message is in view, and the window is visible and has the keyboard. A window that
// lies open on a second screen reads nothing.

const PAUSE = 1000; // between two marks of one room: they are cumulative, so one says it all

export class Marks {
  #session;
  #rooms;
  #reading;
  #told = new WeakMap(); // by room: {epoch, delivered, read}
  #timers = new Map();

  /** `reading(room)` says whether a person sees the room's newest message. */
  constructor(session, rooms, reading) {
    this.#session = session;
    this.#rooms = rooms;
    this.#reading = reading;
    rooms.on("changed", (room) => this.look(room));
  }

  /** Something may have been received or seen. */
  look(room) {
    if (!room?.joined || this.#timers.has(room) || this.#wanted(room) === null) return;
    this.#timers.set(room, setTimeout(() => this.#mark(room), 50));
  }

  #wanted(room) {
    const me = this.#session.credentials?.user;
    const last = room.entries.findLast(({ kind, message, epoch }) =>
      kind === "message" && epoch === room.epoch && message.user !== me);
    if (!last) return null; // one's own messages need no receipt
    const { seq } = last.message;
    const known = this.#told.get(room);
    const told = known?.epoch === room.epoch ? known : { delivered: 0, read: room.read };
    if (this.#reading(room) && told.read < seq) return { event: "mark-read", seq };
    return Math.max(told.delivered, told.read) < seq ? { event: "mark-delivered", seq } : null;
  }

  async #mark(room) {
    const wanted = this.#wanted(room);
    try {
      if (wanted && room.joined) {
        await this.#session.request(wanted.event, { room: room.name, seq: wanted.seq });
        this.#keep(room, wanted);
      }
    } catch {
      // Tried again below: nothing is lost by being late.
    }
    // Wait before the next one, whether this one came through or not.
    this.#timers.set(room, setTimeout(() => {
      this.#timers.delete(room);
      if (this.#rooms.get(room.name) === room) this.look(room);
    }, PAUSE));
  }

  #keep(room, { event, seq }) {
    const known = this.#told.get(room);
    const told = known?.epoch === room.epoch ? known : { epoch: room.epoch, delivered: 0, read: room.read };
    told.delivered = Math.max(told.delivered, seq);
    if (event === "mark-read") {
      told.read = Math.max(told.read, seq);
      room.read = Math.max(room.read, seq);
      this.#rooms.emit("list");
    }
    this.#told.set(room, told);
  }
}
