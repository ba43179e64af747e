// One room's messages, put in order: pure, without clock, socket or page, as chatlab/catchup.py.
// It is told what arrived and says what is missing. Asking for it is rooms.js's.

const MOST = 2000; // entries that are kept; older ones can be had from the server again
const BARREN = 3; // answers without news, after which the history is not believed to have the rest

/**
 * `entries` are what is shown, oldest first: `{key, kind: "message", message, epoch}` or
 * `{key, kind: "lost", missing}`, where `missing` is how many, or null where nobody can tell.
 */
export class Room {
  joined = false;
  epoch = null;
  next = 1; // the seq of the next message to show
  newest = 0; // the highest seq that is known to exist
  hasEarlier = false;
  entries = [];
  users = [];
  count = 0;
  read = 0; // how far this user has read
  lastOwn = 0; // the seq of what this page sent last
  cursors = new Map(); // the others: {delivered, read}
  #ahead = new Map(); // by seq: they came before an earlier one
  #ids = new Set();
  #notComing = 0; // what is missing up to here does not come by itself
  #barren = 0;
  #dividers = 0;

  constructor(name) {
    this.name = name;
  }

  /** What a join has to say so that nothing is missed: nothing the first time. */
  get position() {
    return this.epoch === null ? {} : { after: this.next - 1, epoch: this.epoch };
  }

  /** The room was joined, or joined again. Returns whether history was lost. */
  returned(ack) {
    const first = this.epoch === null;
    const lost = !first && (ack.lost || ack.epoch !== this.epoch);
    const starts = ack.messages[0]?.seq ?? ack.seq + 1;
    if (lost) this.#startAnew(ack, starts);
    if (first) {
      this.next = starts;
      this.hasEarlier = starts > 1;
    }
    this.epoch = ack.epoch;
    this.joined = true;
    this.users = ack.users;
    this.count = ack.count;
    this.read = lost ? ack.read : Math.max(this.read, ack.read);
    // The server sends what is above ack.seq only from now on.
    for (const seq of this.#ahead.keys()) if (seq > ack.seq) this.#ahead.delete(seq);
    this.newest = this.#notComing = ack.seq;
    for (const message of ack.messages) this.#keep(message);
    this.#drain();
    return lost;
  }

  /** A message came, by itself or as the ack of one's own. */
  arrived(message) {
    if (this.epoch === null) return;
    this.#keep(message);
    this.#drain();
  }

  /**
   * History answered what comes behind `after`. Returns false when the room has to be joined again.
   */
  page(after, ack) {
    if (ack.epoch !== this.epoch) return false;
    if (after >= this.next) return true;
    const news = ack.messages.filter((message) => message.seq >= this.next);
    for (const message of news) {
      this.#skipTo(message.seq);
      this.#release(message);
    }
    this.#drain();
    if (news.length === 0 && after === this.next - 1 && ++this.#barren >= BARREN) {
      this.#skipTo(this.newest + 1);
    }
    return true;
  }

  /** History answered what comes before the oldest entry. */
  earlier(ack) {
    this.hasEarlier = ack.more && ack.epoch === this.epoch;
    if (ack.epoch !== this.epoch) return;
    const known = this.oldest;
    const older = ack.messages.filter((message) => message.seq < known && !this.#ids.has(message.id));
    for (const message of older) this.#ids.add(message.id);
    this.entries = [...older.map((message) => this.#entry(message)), ...this.entries];
  }

  /** The seq of the oldest shown message of this epoch. */
  get oldest() {
    const entry = this.entries.find(({ kind, epoch }) => kind === "message" && epoch === this.epoch);
    return entry ? entry.message.seq : this.next;
  }

  /**
   * The seq behind which something is missing that has to be asked for, or null. `pending` own
   * messages are on their way: their acks may be what is missing.
   */
  missingAfter(pending) {
    if (!this.joined) return null;
    const missing = this.newest - (this.next - 1) - this.#ahead.size;
    if (missing <= 0) return null;
    return this.next <= this.#notComing || missing > pending ? this.next - 1 : null;
  }

  /** How far the others have got; `users` is the event's. */
  receipts(users) {
    for (const [user, cursor] of Object.entries(users)) this.cursors.set(user, cursor);
  }

  /** How many others have message `seq`, and how many have read it. */
  reach(seq, me) {
    const reach = { delivered: 0, read: 0 };
    for (const [user, cursor] of this.cursors) {
      if (user === me) continue;
      if (cursor.delivered >= seq) reach.delivered += 1;
      if (cursor.read >= seq) reach.read += 1;
    }
    return reach;
  }

  /** Whether `user` has said `text` behind `after`. */
  has({ user, text, after }) {
    const { entries } = this;
    for (let index = entries.length - 1; index >= 0; index -= 1) {
      const { message, epoch } = entries[index];
      if (!message) continue;
      if (epoch !== this.epoch || message.seq <= after) return false;
      if (message.user === user && message.text === text) return true;
    }
    return false;
  }

  #keep(message) {
    this.newest = Math.max(this.newest, message.seq);
    if (message.seq >= this.next) this.#ahead.set(message.seq, message);
  }

  #drain() {
    for (let held; (held = this.#ahead.get(this.next)); ) this.#release(held);
  }

  #release(message) {
    this.#ahead.delete(message.seq);
    this.next = message.seq + 1;
    this.#barren = 0;
    if (this.#ids.has(message.id)) return;
    this.#ids.add(message.id);
    this.#put(this.#entry(message));
  }

  #entry(message) {
    return { key: message.id, kind: "message", message, epoch: this.epoch };
  }

  #put(entry) {
    this.entries.push(entry);
    while (this.entries.length > MOST) {
      const [old] = this.entries.splice(0, 1);
      if (old.kind === "message") this.#ids.delete(old.message.id);
      this.hasEarlier = this.entries[0].epoch === this.epoch;
    }
  }

  #skipTo(seq) {
    while (this.next < seq) {
      const held = this.#ahead.get(this.next);
      if (held) {
        this.#release(held);
        continue;
      }
      const resumes = Math.min(seq, ...[...this.#ahead.keys()].filter((ahead) => ahead > this.next));
      this.#lost(resumes - this.next);
      this.next = resumes;
    }
  }

  #startAnew(ack, starts) {
    const sameLog = ack.epoch === this.epoch && starts >= this.next;
    this.#lost(sameLog ? starts - this.next : null);
    this.#ahead.clear();
    if (ack.epoch !== this.epoch) {
      this.cursors.clear();
      this.hasEarlier = false;
    }
    this.next = starts;
  }

  #lost(missing) {
    this.#put({ key: `lost/${++this.#dividers}`, kind: "lost", missing, epoch: this.epoch });
  }
}
