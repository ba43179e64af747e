// Small help with elements. Text goes in as text, always: nothing here or elsewhere on the page makes
// HTML of a string, and the page's policy (Trusted Types) lets nothing do so.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element; `has` are properties (`className`, `textContent`, …), attributes go into `attributes`. */
export function make(tag, has = {}, ...children) {
  const { attributes = {}, ...properties } = has;
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Controls, and the marks that turn the direction of what follows or are not seen at all.
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** A user's or a room's name as it can be shown: what cannot be seen stands there as a box. */
export function shown(name) {
  const seen = String(name).replace(UNSEEN, "\ufffd");
  return seen.trim() === "" ? "(blank)" : seen;
}

/** A name in an element of its own, whose direction touches nothing beside it. */
export function named(name, className = "") {
  return make("bdi", { className, textContent: shown(name) });
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** Hours and minutes. */
export const clock = (date) => CLOCK.format(date);

/** A day, in words. */
export const day = (date) => DAY.format(date);

/** One of the theme's eight hues for a name: always the same one. */
export function hue(name) {
  let sum = 0;
  for (const character of String(name)) sum = (sum * 31 + character.codePointAt(0)) % 9973;
  return (sum % 8) + 1;
}

/** Bundle calls: `act` runs once, a little after the first of them. Works in hidden tabs too. */
export function bundled(act, milliseconds = 25) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      act();
    }, milliseconds);
  };
}
