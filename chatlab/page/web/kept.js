// What outlives a reload of this tab, and nothing else: who one is, the rooms, and what was written
// and is not stored yet. credentials.js says why it is sessionStorage.

const LOGIN = "chatlab";
const UNSENT = "chatlab/unsent";

// A page in a frame keeps nothing. Two frames of one tab would share what is kept, and whoever made
// the frame says anew who sits in it.
function storage() {
  try {
    return window.top === window ? sessionStorage : null;
  } catch {
    return null; // the browser forbids it: then a reload asks again
  }
}

function keep(key, what) {
  try {
    storage()?.setItem(key, JSON.stringify(what));
  } catch {
    // Full, or forbidden: then a reload asks again.
  }
}

function kept(key) {
  try {
    return JSON.parse(storage()?.getItem(key) ?? "null");
  } catch {
    return null;
  }
}

/** Keep `{token, user, renewable, rooms}`. */
export function remember(what) {
  keep(LOGIN, what);
}

/** What was kept, or null. */
export function recall() {
  return kept(LOGIN);
}

/** Keep no login any more. What was written stays: whoever logs in again as its author sends it. */
export function forget() {
  storage()?.removeItem(LOGIN);
}

/** Keep the items of `user`'s outbox. */
export function rememberUnsent(user, items) {
  if (items.length) keep(UNSENT, { user, items });
  else storage()?.removeItem(UNSENT);
}

/** The items that were kept, if they are `user`'s. */
export function recallUnsent(user) {
  const found = kept(UNSENT);
  return found?.user === user && Array.isArray(found.items) ? found.items : [];
}
