// Tells whoever asked that something happened. Not for messages between pages or to the server.

export class Emitter {
  #listeners = new Map();

  /** Call `listener` whenever `name` happens. Returns a function that ends it. */
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.#listeners.get(name).delete(listener);
  }

  /** `name` happened. */
  emit(name, ...details) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(...details);
  }
}
