// Who is in the room that is shown, and who of them is typing.

import { bundled, byId, hue, make, named, shown } from "./dom.js";

const NAMED = 3; // so many are named as typing

export class PeopleView {
  #rooms;
  #typing;
  #me;
  #toggle = byId("people-toggle");

  constructor({ rooms, typing, me }) {
    this.#rooms = rooms;
    this.#typing = typing;
    this.#me = me;
    const render = bundled(() => this.#render());
    rooms.on("list", render);
    rooms.on("changed", (room) => room === rooms.active && render());
    typing.on("changed", (name) => name === rooms.active?.name && render());
    // Where there is room for it, people are always shown; else the button opens them.
    this.#toggle.addEventListener("click", () => this.#open(this.#toggle.getAttribute("aria-expanded") !== "true"));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.#toggle.getAttribute("aria-expanded") !== "true") return;
      this.#open(false);
      this.#toggle.focus();
    });
  }

  #open(open) {
    this.#toggle.setAttribute("aria-expanded", String(open));
    byId("people").classList.toggle("open", open);
  }

  #render() {
    const room = this.#rooms.active;
    const users = room?.users ?? [];
    const me = this.#me();
    byId("people-count").textContent = `${room?.count ?? 0} here`;
    const sorted = [...users].sort((one, other) => (other === me) - (one === me) || one.localeCompare(other));
    byId("people-list").replaceChildren(...sorted.map((user) => {
      const dot = make("span", { className: "person-dot", attributes: { "aria-hidden": "true" } });
      dot.dataset.hue = hue(user);
      const item = make("li", { className: "person" }, dot, named(user, "person-name"));
      if (user === me) item.append(make("span", { className: "muted", textContent: "you" }));
      return item;
    }));
    const more = (room?.count ?? 0) - users.length;
    byId("people-more").hidden = more <= 0;
    byId("people-more").textContent = `and ${more} more`;
    this.#renderTyping(room);
  }

  #renderTyping(room) {
    const users = room ? this.#typing.in(room.name) : [];
    const place = byId("typing");
    if (users.length === 0) {
      place.replaceChildren();
    } else if (users.length > NAMED) {
      place.textContent = `${users.length} people are typing`;
    } else {
      const parts = users.flatMap((user, index) => [...(index ? [", "] : []), named(shown(user))]);
      place.replaceChildren(...parts, users.length === 1 ? " is typing" : " are typing");
    }
  }
}
