/**
 * What the stage calls a packet, in the words and shapes of the page.
 */

const KIND = {
  sent: "sent",
  append: "stored",
  stored: "stored",
  publish: "published",
  published: "published",
  delivered: "delivered",
  acked: "acked",
  refused: "refused",
};
const WORD = {
  append: "store",
  publish: "publish",
  connect: "connect",
  connected: "let in",
  joined: "join",
  closed: "closed",
};

/** The shape of a packet. @returns {string} one of shapes.js's kinds, "other" or "lost" */
export function kindOf(packet) {
  if (packet.lost) return "lost";
  if (packet.what === "acked" && packet.code && packet.code !== "ok") return "refused";
  return KIND[packet.what] ?? "other";
}

/** The word that flies beside the shape; "" for what is not of a message's life. */
export function wordOf(packet) {
  const kind = kindOf(packet);
  if (kind === "other") return WORD[packet.what] ?? "";
  if (kind === "lost") return `${packet.what === "event" ? (packet.label ?? "event") : packet.what} lost`;
  if (kind === "refused") return packet.code ? packet.code.replaceAll("_", " ") : "refused";
  return packet.seq ? `${WORD[packet.what] ?? packet.what} #${packet.seq}` : (WORD[packet.what] ?? packet.what);
}

/** What a list says of it: the word, or the name of an event. */
export function nameOf(packet) {
  return wordOf(packet) || (packet.label ?? packet.what);
}

/** What else a list says of it: a message's text, where that is not said by its name. */
export function detailOf(packet) {
  if (packet.text) return packet.text;
  return packet.label && kindOf(packet) !== "other" && packet.label !== packet.what ? packet.label : "";
}

/**
 * How much it matters: 2 for a message's life, 0 for what only goes along (receipts, presence,
 * answers to joins) and for a flood.
 */
export function rankOf(packet) {
  if (packet.who === "flood" || packet.from === "flood" || packet.to === "flood") return 0;
  if (packet.what === "connect" || packet.what === "closed") return 1;
  return kindOf(packet) === "other" ? 0 : 2;
}

/** Whether it is of one of the two windows. */
export function isOfWindow(packet) {
  return [packet.who, packet.from, packet.to].some((part) => part?.startsWith("window"));
}
