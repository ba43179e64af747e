// How long to wait before trying again: exponential backoff with full jitter, as chatlab/backoff.py.
// Clients that failed together must not come back together.

/**
 * Milliseconds to wait after failure number `attempt` (from 0).
 * `retryAfter` are the seconds that the server asked for; the jitter comes on top.
 */
export function delay(attempt, retryAfter = 0, { base = 300, cap = 5000 } = {}) {
  const longest = Math.min(cap, base * 2 ** Math.min(attempt, 30));
  return Math.random() * longest + Math.max(0, retryAfter || 0) * 1000;
}

/** A promise that is kept after `milliseconds`, or as soon as `signal` is aborted. */
export function sleep(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}
