// The login: a name where the server runs for development, a token everywhere.

import { byId } from "./dom.js";

/** `enter({user})` or `enter({token})` is called with what a person gave. */
export function loginView({ development, cdn, enter }) {
  const page = byId("login");
  const named = byId("login-named");
  const other = byId("login-other");
  named.hidden = !development;
  if (!development) {
    other.open = true;
    byId("login-other-label").hidden = true;
  }
  page.querySelector(".cdn-said").hidden = !cdn;

  const mistake = (input, wrong) => {
    input.setAttribute("aria-invalid", String(wrong));
    if (wrong) input.focus();
    return wrong;
  };
  const submit = (form, input, give) =>
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const value = input.value.trim();
      if (mistake(input, value === "")) return;
      input.value = "";
      enter(give(value));
    });
  submit(named, byId("login-user"), (user) => ({ user }));
  // Pasted tokens come with line breaks, from terminals and mails.
  submit(byId("login-token-form"), byId("login-token"), (token) => ({ token: token.replace(/\s/g, "") }));

  return {
    /** Ask who it is; `reason` says why. */
    show({ reason = "", user = "" } = {}) {
      const why = byId("login-reason");
      why.hidden = !reason;
      why.textContent = reason;
      page.hidden = false;
      byId("login-user").value = user;
      (development && !other.open ? byId("login-user") : byId("login-token")).focus();
    },
    hide() {
      page.hidden = true;
    },
    get visible() {
      return !page.hidden;
    },
  };
}
