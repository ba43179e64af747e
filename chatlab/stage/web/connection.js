/**
 * The line to the stage: its events by WebSocket, what is asked of it by POST.
 * It comes back by itself, and every time the first message is the whole state.
 */

const STORED = "chatlab-stage-key";
const FIRST_WAIT = 300; // ms
const LONGEST_WAIT = 3000;
const SILENCE = 6000; // the stage speaks every second: longer than this is a dead line

/**
 * The key, from the address's fragment or from this tab's memory. The fragment is taken out of the
 * address bar at once: an address is on the projector.
 * @returns {string} "" when there is none
 */
export function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem(STORED, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return given || sessionStorage.getItem(STORED) || "";
}

/** Forget the key: the stage does not take it. */
export function dropKey() {
  sessionStorage.removeItem(STORED);
}

/** The line to the stage. Events: `open`, `closed` (detail: seconds until the next try), `refused`,
 * `message` (detail: what the stage said). */
export class Connection extends EventTarget {
  /** @param {string} key */
  constructor(key) {
    super();
    this.key = key;
    this.wait = FIRST_WAIT;
    this.socket = null;
    this.timer = 0;
    this.watchdog = 0;
  }

  /** Connect, and keep connected. */
  open() {
    clearTimeout(this.timer);
    const address = new URL("/stage/events", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.socket = socket;
    this.listen(socket);
    socket.addEventListener("open", () => socket.send(JSON.stringify({ key: this.key })));
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.socket) return;
      this.listen(socket);
      this.wait = FIRST_WAIT;
      this.tell("message", JSON.parse(data));
    });
    socket.addEventListener("close", ({ code }) => this.closed(socket, code));
  }

  listen(socket) {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => {
      socket.close();
      this.closed(socket, 0); // a dead line may take minutes to say so itself
    }, SILENCE);
  }

  closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.watchdog);
    if (code === 4401 || code === 4403) {
      this.tell("refused", code);
      return;
    }
    this.tell("closed", this.wait / 1000);
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(LONGEST_WAIT, this.wait * 1.6);
  }

  tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /**
   * Ask the stage to do something.
   * @param {object} order
   * @returns {Promise<object>} what it answers. Rejects with an Error whose message is a sentence.
   */
  async ask(order) {
    let response;
    try {
      response = await fetch("/stage/do", {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.key}` },
        body: JSON.stringify(order),
      });
    } catch {
      throw new Error("The stage does not answer. Is `make demo` still running?");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok || answer.ok === false)
      throw new Error(answer.error || `The stage answered ${response.status}.`);
    return answer;
  }
}
