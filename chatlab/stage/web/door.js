/**
 * The audience's door: where to go, the code to say, and the picture for a phone's camera.
 * Who is let in is the stage's business.
 */

import { el } from "./dom.js";

/** The door's dialog: made anew at every state while it is open. */
export class Door {
  /** @param {import("./switches.js").Switches} switches */
  constructor(switches) {
    this.switches = switches;
    this.node = el("div", { class: "door" });
    this.known = null;
  }

  /** Show a new state. */
  update(state) {
    const { door } = state;
    const known = JSON.stringify(door);
    if (known === this.known) return;
    this.known = known;
    // A person may stand on one of these buttons while they are made anew.
    const focused = this.node.contains(document.activeElement) ? document.activeElement.textContent : null;
    this.switches.forget("door");
    this.node.replaceChildren(...(door ? this.open(door) : closed()));
    if (focused) [...this.node.querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
  }

  open(door) {
    const { switches } = this;
    const group = "door";
    return [
      el(
        "div",
        { class: "door-way" },
        el("img", { class: "door-qr", src: door.qr, alt: `QR code of ${door.join}` }),
        el(
          "div",
          { class: "door-words" },
          el("p", { text: "Open this address in a browser:" }),
          el("p", { class: "door-address mono", text: door.join }),
          el("p", { text: "and give this code:" }),
          el("p", { class: "door-code mono", text: door.code }),
          el("p", { class: "muted", text: says(door) }),
          el(
            "div",
            { class: "row" },
            switches.make({
              group,
              label: "Open",
              look: "switch-plain",
              of: "the door",
              on: { do: "door", open: true },
              off: { do: "door", open: false },
              pressed: (state) => Boolean(state.door?.open),
              hint: "While it is shut nobody new comes in; who is in stays in.",
            }),
            switches.make({ group, label: "New code", on: { do: "door", code: "new" }, hint: "The old code lets nobody in any more." }),
          ),
        ),
      ),
      el("h3", { text: `Guests: ${door.guests.length}` }),
      el("ul", { class: "door-guests", "aria-label": "Guests" }, ...door.guests.map((guest) => this.guest(guest))),
    ];
  }

  guest(guest) {
    return el(
      "li",
      {},
      el("span", { class: "isolate", text: guest.name }),
      guest.banned ? el("span", { class: "badge", text: "✗ banned" }) : null,
      this.switches.make({
        group: "door",
        label: "Ban",
        of: guest.name,
        on: { do: "ban", user: guest.id },
        off: { do: "unban", user: guest.id },
        pressed: (state) => Boolean(state.door?.guests.find((one) => one.id === guest.id)?.banned),
      }),
    );
  }
}

function says(door) {
  if (door.full) return "✗ The room is full.";
  return door.open ? "✓ The door is open. Guests are chat users, and nothing more." : "○ The door is shut.";
}

function closed() {
  return [
    el("p", { text: "The stage is for this machine only: nobody else can reach it." }),
    el("p", {}, "To let the room in, start it with the address of this machine: ", el("code", { text: "chatlab demo --host ADDRESS" })),
    el("p", { class: "muted", text: "Then an address, a code and a QR code stand here. Guests can chat, and break nothing." }),
  ];
}
