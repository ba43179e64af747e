// One user's connection over all the sockets that it takes: when to come back, with which token,
// and when not. Lesson 01's and 02's client, with every way of being refused. Rooms are rooms.js's.
//
// The official client could reconnect by itself, but not after a refusal, and it does not say when.
// So it is told not to, and everything is decided in two places: #lost and #refused.

import { delay } from "./backoff.js";
import { address, seat } from "./credentials.js";
import { Emitter } from "./emitter.js";

const ANSWER_WITHIN = 5000; // a server answers within 2 s, even where its storage is away
const CONNECT_WITHIN = 5000;
const STEADY_AFTER = 5000; // a connection that held so long was a good one

/** A request that failed. `unknown`: it may have been done all the same. */
export class Refused extends Error {
  constructor({ error, code, retry = false, retryAfter = 0, unknown = false }) {
    super(error);
    this.code = code;
    this.retry = retry;
    this.retryAfter = retryAfter;
    this.unknown = unknown;
  }
}

const OFFLINE = { error: "There is no connection.", code: "offline", retry: true };
const NO_ANSWER = { error: "No answer came.", code: "no_answer", retry: true, unknown: true };

/**
 * Emits `state`, and every event of the server under its own name.
 * States: `connecting`, `online`, `waiting` (until `until`), and the final ones `login` (a token is
 * needed), `banned`, `ended`. `reason` is a sentence for a person.
 */
export class Session extends Emitter {
  state = { name: "idle" };
  credentials = null;
  #socket = null;
  #attempts = 0;
  #timer = 0;
  #steady = 0;
  #heard = 0;
  #expired = 0; // refusals in a row because of the token's age
  #verdict = ""; // what the server said before it closed

  get online() {
    return this.state.name === "online";
  }

  /** Connect as `credentials` say; an earlier connection ends. */
  open(credentials) {
    this.close();
    this.credentials = credentials;
    this.#attempts = this.#expired = 0;
    this.#socket = this.#makeSocket();
    this.#connect();
  }

  /** Leave, and do not come back. */
  close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#steady);
    const socket = this.#socket;
    this.#socket = null; // whatever it still says is not heard
    socket?.disconnect();
    this.#set("idle");
  }

  /** Try now what would be tried later. */
  retryNow() {
    if (this.state.name !== "waiting" && this.state.name !== "ended") return;
    this.#connect();
  }

  /**
   * Send an event and wait for its ack. Returns it when it is `ok`; throws `Refused` otherwise.
   */
  request(event, payload, { timeout = ANSWER_WITHIN } = {}) {
    const socket = this.#socket;
    if (!this.online || !socket?.connected) return Promise.reject(new Refused(OFFLINE));
    const asked = performance.now();
    return new Promise((done, failed) => {
      socket.timeout(timeout).emit(event, payload, (error, ack) => {
        if (error) {
          if (socket === this.#socket && socket.connected && this.#heard < asked) this.#silent();
          failed(new Refused(NO_ANSWER));
        } else if (ack?.ok) {
          done(ack);
        } else {
          const unknown = ["unavailable", "closing", "internal_error"].includes(ack?.code);
          failed(new Refused({ error: "Refused", code: "unknown", ...ack, unknown }));
        }
      });
    });
  }

  /** Stay longer: send the server the newer token of `credentials`. Throws `Refused`. */
  async refresh(credentials) {
    const ack = await this.request("refresh-token", { token: credentials.token });
    this.credentials = credentials;
    this.emit("refreshed", ack.expiresAt);
  }

  #makeSocket() {
    // Websocket first: it needs no sticky balancer. Polling where something in between forbids it.
    const socket = window.io(location.origin, {
      path: new URL("socket.io/", document.baseURI).pathname,
      query: seat === null ? {} : { seat },
      auth: (give) => give({ token: this.credentials.token }),
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      autoConnect: false,
      reconnection: false,
      forceNew: true,
      timeout: CONNECT_WITHIN,
    });
    const mine = (act) => (...details) => {
      if (socket === this.#socket) act(...details);
    };
    socket.on("connect", mine(() => this.#connected()));
    socket.on("disconnect", mine((reason) => this.#lost(reason)));
    socket.on("connect_error", mine((error) => this.#refused(error)));
    socket.io.on("open", mine(() => {
      socket.io.engine.on("packet", () => (this.#heard = performance.now()));
    }));
    socket.onAny(mine((name, payload) => {
      if (name === "banned" || name === "token-expired" || name === "closing") this.#verdict = name;
      if (name === "token-expiring") this.#expiring(payload);
      this.emit(name, payload);
    }));
    return socket;
  }

  #set(name, more = {}) {
    this.state = { name, ...more };
    this.emit("state", this.state);
  }

  async #connect({ renew = false } = {}) {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#verdict = "";
    this.#set("connecting", { again: this.#attempts > 0 });
    if (this.credentials.renewable && (renew || !this.credentials.token)) {
      try {
        await this.credentials.renew();
      } catch (error) {
        if (socket !== this.#socket) return;
        if (error.final) this.#set("login", { reason: error.message });
        else this.#wait(error.message, 0, { renew: true });
        return;
      }
      if (socket !== this.#socket) return;
      this.emit("renewed", this.credentials);
    }
    socket.connect();
  }

  #connected() {
    this.#expired = 0;
    this.#heard = performance.now();
    // Not at once: a server that accepts and closes again would be asked without a pause.
    this.#steady = setTimeout(() => (this.#attempts = 0), STEADY_AFTER);
    this.#set("online");
    this.emit("online");
  }

  /** The connection was there and is gone. */
  #lost(reason) {
    clearTimeout(this.#steady);
    if (this.#verdict === "banned") {
      this.#set("banned", { reason: "You are banned from this server." });
    } else if (this.#verdict === "token-expired") {
      this.#expiredToken();
    } else if (reason === "io server disconnect") {
      // A Socket.IO DISCONNECT is meant: whoever is put out does not come back by himself.
      this.#set("ended", { reason: "The server has ended this session." });
    } else {
      this.#wait(this.#verdict === "closing" ? "The server is restarting." : "The connection is gone.");
    }
  }

  /** The connection was not made. */
  #refused(error) {
    const { code, retry, retryAfter } = error.data ?? { code: "unreachable", retry: true };
    if (code === "banned") {
      this.#set("banned", { reason: "You are banned from this server." });
    } else if (code === "token_expired") {
      this.#expiredToken();
    } else if (code === "too_many_connections") {
      this.#wait("There are too many connections of yours. Close another window.", retryAfter ?? 1);
    } else if (retry) {
      const said = code === "unreachable" ? "The server cannot be reached." : `${error.message}.`;
      this.#wait(said, retryAfter);
    } else {
      // authentication_required, invalid_token, user_not_found, and whatever else has no remedy here
      this.#set("login", { reason: `${error.message}.`, code });
    }
  }

  #expiredToken() {
    if (this.credentials.renewable && this.#expired++ === 0) {
      this.#connect({ renew: true });
    } else if (this.credentials.renewable) {
      this.#wait("The new token has expired too: is this machine's clock right?", 5, { renew: true });
    } else {
      this.#set("login", { reason: "Your token has expired. Log in again.", code: "token_expired" });
    }
  }

  async #expiring({ expiresAt }) {
    if (!this.credentials.renewable) {
      this.emit("expiring", new Date(expiresAt));
      return;
    }
    const socket = this.#socket;
    try {
      const next = Object.assign(Object.create(Object.getPrototypeOf(this.credentials)), this.credentials);
      await next.renew();
      if (socket !== this.#socket) return;
      await this.refresh(next);
      this.emit("renewed", next);
    } catch {
      // The server says `token-expired` when it comes to that, and a new token is fetched then.
    }
  }

  #wait(reason, retryAfter = 0, how = {}) {
    const pause = delay(this.#attempts++, retryAfter);
    this.#set("waiting", { reason, until: Date.now() + pause });
    this.#timer = setTimeout(() => this.#connect(how), pause);
  }

  /** A line on which nothing comes any more is dead, whatever the socket believes. */
  #silent() {
    this.#socket.io.engine?.close();
  }

  /** The server's id, or "" where it does not say. */
  async serverId() {
    if (document.documentElement.dataset.health === "no") return "";
    try {
      const answer = await fetch(address("healthz"), { cache: "no-store" });
      const id = (await answer.json()).server; // at 503 too: it says who is not well
      return typeof id === "string" ? id : "";
    } catch {
      return "";
    }
  }
}
