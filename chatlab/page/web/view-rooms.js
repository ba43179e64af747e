// The rooms as a list to choose from, with how many messages of each were not read yet.

import { byId, make, named, shown } from "./dom.js";

export class RoomsView {
  #rooms;
  #list = byId("room-list");

  /** `choose(name)` shows a room, or joins it. */
  constructor({ rooms, choose }) {
    this.#rooms = rooms;
    rooms.on("list", () => this.#render());
    rooms.on("changed", () => this.#render());
    byId("room-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = byId("room-name").value.trim();
      if (!name) return;
      byId("room-name").value = "";
      choose(name);
    });
    byId("room-leave").addEventListener("click", () => rooms.active && rooms.leave(rooms.active.name));
    this.#list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) choose(button.roomName);
    });
  }

  #render() {
    const { active } = this.#rooms;
    const buttons = new Map([...this.#list.children].map((item) => [item.firstChild.roomName, item]));
    const items = [...this.#rooms].map((room) => this.#item(room, buttons.get(room.name)));
    items.forEach((item, index) => {
      if (this.#list.children[index] !== item) this.#list.insertBefore(item, this.#list.children[index] ?? null);
    });
    while (this.#list.children.length > items.length) this.#list.lastChild.remove();
    byId("room-title").firstElementChild.textContent = active ? shown(active.name) : "No room";
    byId("room-leave").hidden = !active;
    byId("composer").inert = !active;
    const unread = [...this.#rooms].reduce((sum, room) => sum + this.#unread(room), 0);
    document.title = unread ? `(${unread > 99 ? "99+" : unread}) chatlab` : "chatlab";
  }

  #unread(room) {
    return room.joined ? Math.max(0, room.newest - Math.max(room.read, room.lastOwn)) : 0;
  }

  #item(room, known) {
    const current = room === this.#rooms.active;
    const unread = current ? 0 : this.#unread(room);
    const state = `${current}/${unread}/${room.joined}`;
    if (known?.dataset.state === state) return known;
    const item = known ?? make("li", {}, make("button", { type: "button", className: "room-button", roomName: room.name }));
    item.dataset.state = state;
    const button = item.firstChild;
    button.toggleAttribute("aria-current", current);
    if (current) button.setAttribute("aria-current", "true");
    button.classList.toggle("joining", !room.joined);
    button.replaceChildren(named(room.name, "room-name"));
    if (unread) {
      button.append(
        make("span", { className: "room-unread", textContent: unread > 99 ? "99+" : unread, attributes: { "aria-hidden": "true" } }),
        make("span", { className: "visually-hidden", textContent: `, ${unread} unread` }));
    }
    return item;
  }
}
