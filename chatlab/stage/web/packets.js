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

/** The word that flies beside the shape. */
export function wordOf(packet) {
  const kind = kindOf(packet);
  if (kind === "lost") return `${plainWord(packet)} lost`;
  if (kind === "refused") return packet.code ? packet.code.replaceAll("_", " ") : "refused";
  const word = plainWord(packet);
  return packet.seq === undefined || packet.seq === null ? word : `${word} #${packet.seq}`;
}

function plainWord(packet) {
  return WORD[packet.what] ?? (packet.what === "event" ? (packet.label ?? "event") : packet.what);
}

/** Whose it is, for a list: from the windows first. */
export function isOfWindow(packet) {
  return packet.from.startsWith("window") || packet.to.startsWith("window");
}
