/**
 * Which packets belong to one message, so that they can be drawn one after the other: on the wire
 * all of it takes a few milliseconds, and nobody sees an order in that.
 */

const KEPT = 12_000; // ms
const LATEST = 5_000; // ms: a packet is not held back for longer

/** The messages under way. A message is known by its text and who sends it. */
export class Story {
  constructor() {
    this.messages = new Map();
  }

  /**
   * Take note of a packet.
   * @param {object} packet
   * @param {number} now  ms
   * @returns {{weight: number, begin: number, lands: (at: number) => void}} whose message it is of
   *   (2: a window's, 1: one that was seen to be sent, 0: a flood's, which goes past the balancer),
   *   when it may begin, and whom to tell when it lands
   */
  take(packet, now) {
    const mine = String(packet.who ?? packet.from).startsWith("window") || packet.from.startsWith("window");
    if (!packet.text) return { weight: mine ? 2 : 1, begin: now, lands() {} };
    let message = this.messages.get(packet.text);
    // Words are said twice: what is sent anew begins a new story.
    if (!message || (packet.what === "sent" && packet.from.startsWith("window"))) {
      message = { weight: 0, landed: new Map(), at: now };
      this.messages.set(packet.text, message);
      this.forget(now);
    }
    if (packet.what === "sent") message.weight = Math.max(message.weight, mine ? 2 : 1);
    const wanted = message.landed.get(packet.from) ?? now;
    const begin = wanted > now && wanted < now + LATEST ? wanted : now;
    return {
      weight: message.weight,
      begin,
      lands: (at) => message.landed.set(packet.to, Math.max(at, message.landed.get(packet.to) ?? 0)),
    };
  }

  forget(now) {
    for (const [text, { at }] of this.messages) if (now - at > KEPT) this.messages.delete(text);
  }
}
