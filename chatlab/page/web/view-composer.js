// The message box: Enter sends, Shift and Enter begin a new line, and it grows with what is written.

import { byId } from "./dom.js";

/** `send(text)`, `typed()` and `emptied()` are called as a person writes. */
export function composer({ send, typed, emptied }) {
  const form = byId("composer");
  const box = byId("message-text");

  const grow = () => {
    box.rows = 1;
    const { lineHeight, paddingTop, paddingBottom } = getComputedStyle(box);
    const text = box.scrollHeight - parseFloat(paddingTop) - parseFloat(paddingBottom);
    box.rows = Math.min(6, Math.max(1, Math.round(text / parseFloat(lineHeight))));
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = box.value;
    if (!text.trim()) return;
    box.value = "";
    grow();
    emptied();
    send(text);
    box.focus();
  });
  box.addEventListener("input", () => {
    grow();
    if (box.value) typed();
    else emptied();
  });
  box.addEventListener("keydown", (event) => {
    // While an input method composes, Enter chooses a character and sends nothing.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });

  return {
    focus: () => box.focus(),
    clear: () => {
      box.value = "";
      grow();
    },
  };
}
