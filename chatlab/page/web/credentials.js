// Where the token comes from: the address's fragment, the endpoint of a development server, or a
// person who pastes it. Whether it is any good, the server says.
//
// Lesson 02 tells where a browser keeps a token. Best is a short-lived one in a variable and an
// HttpOnly cookie to fetch the next with; that takes a login server, which chatlab leaves to you.
// So the token lies in this tab's sessionStorage (kept.js), which outlives a reload and nothing else. A script
// that got into the page could read it there: the page's Content-Security-Policy keeps such scripts
// out, and tokens are short. Never localStorage, which every tab reads and no end of session empties.

const here = (path) => new URL(path, document.baseURI);

/** Whether this server makes tokens for whoever is named (`chatlab serve --dev`). */
export const development = document.documentElement.dataset.dev === "yes";

/** A balancer may choose a server by it; it goes along with everything that is asked. */
export const seat = new URLSearchParams(location.search).get("seat");

/** `path` on this server, with the seat. */
export function address(path) {
  const url = here(path);
  if (seat !== null) url.searchParams.set("seat", seat);
  return url;
}

/**
 * What the fragment says (`#token=…&user=…&room=…`). It is taken out of the address bar at once, so
 * that nobody copies, bookmarks or photographs it; no server has seen it, as fragments are not sent.
 */
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return { token: given.get("token"), user: given.get("user"), rooms: given.getAll("room") };
}

/** What a token says of itself: for showing only, since nothing here can check the signature. */
export function claimsOf(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {};
  }
}

/** Who one is, with a token that may be renewed (`renewable`) or has to be given anew. */
export class Credentials {
  constructor({ token = "", user = "", renewable = false }) {
    this.token = token;
    this.renewable = renewable;
    const named = claimsOf(token).sub;
    this.user = typeof named === "string" && named ? named : user;
  }

  /**
   * Fetch a fresh token from the development server. Throws an Error with a sentence; its `final`
   * is true when asking again would not help.
   */
  async renew() {
    let answer;
    try {
      answer = await fetch(address("dev/token"), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ user: this.user }),
        cache: "no-store",
      });
    } catch {
      throw new Error("The server cannot be reached.");
    }
    if (!answer.ok) {
      const said = (await answer.text()).trim();
      const error = new Error(answer.status < 500 ? `No token: ${said}` : "The server is not ready.");
      error.final = answer.status < 500;
      throw error;
    }
    this.token = (await answer.json()).token;
  }
}
