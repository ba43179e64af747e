// The chat page, put together. Each part is a module of one subject; this one knows them all.
//
//   session.js      one user's connection, over all its sockets; credentials.js its token
//   kept.js         what outlives a reload
//   rooms.js        which rooms, joined and caught up; room.js one room's messages in order
//   outbox.js       messages until they are stored; marks.js what was received and read
//   typing.js, presence.js   what is not stored
//   view-….js       what a person sees; dom.js helps them

import { Credentials, development, takeFromAddress } from "./credentials.js";
import { byId, make, named, shown } from "./dom.js";
import { forget, recall, recallUnsent, remember, rememberUnsent } from "./kept.js";
import { Marks } from "./marks.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { Rooms } from "./rooms.js";
import { Session } from "./session.js";
import { Typing } from "./typing.js";
import { composer } from "./view-composer.js";
import { loginView } from "./view-login.js";
import { MessagesView } from "./view-messages.js";
import { PeopleView } from "./view-people.js";
import { RoomsView } from "./view-rooms.js";
import { Notices, say, showConnection } from "./view-status.js";

const FIRST_ROOM = "general";
const cdn = document.documentElement.dataset.client === "cdn";

const session = new Session();
const rooms = new Rooms(session);
const outbox = new Outbox(session, rooms);
const typing = new Typing(session);
new Presence(session, rooms);

const me = () => session.credentials?.user ?? "";
const notices = new Notices();
const attentive = () => document.visibilityState === "visible" && document.hasFocus();
const marks = new Marks(session, rooms, (room) => room === rooms.active && messages.atEnd && attentive());
const look = () => rooms.active && marks.look(rooms.active);
const messages = new MessagesView({ rooms, outbox, me, seen: look });
new RoomsView({ rooms, choose: (name) => rooms.open(name) });
new PeopleView({ rooms, typing, me });
const box = composer({
  send: (text) => {
    if (!rooms.active) return;
    outbox.send(rooms.active.name, text);
    messages.toNewest();
  },
  typed: () => rooms.active && typing.typed(rooms.active.name),
  emptied: () => typing.stopped(),
});
const login = loginView({
  development,
  cdn,
  enter: ({ user, token }) =>
    enter(user ? new Credentials({ user, renewable: true }) : new Credentials({ token })),
});

// --- who one is ----------------------------------------------------------------------------

function enter(credentials, wanted = []) {
  if (!window.io) {
    login.show({ reason: "The Socket.IO client could not be loaded, neither from this server nor from its CDN." });
    return;
  }
  let unsent = [];
  if (credentials.user !== me()) {
    unsent = recallUnsent(credentials.user);
    rooms.clear();
    outbox.clear();
  }
  notices.clear();
  login.hide();
  byId("chat").hidden = false;
  byId("me").textContent = shown(credentials.user);
  if (cdn) sayCdn();
  session.open(credentials);
  const waiting = unsent.filter(({ state }) => state !== "failed").map(({ room }) => room);
  for (const room of [...wanted, ...waiting]) rooms.open(room, { show: false });
  if (!rooms.active) rooms.open(FIRST_ROOM);
  outbox.restore(unsent);
  keep();
  keepUnsent();
  box.focus();
}

function ask(why) {
  session.close();
  byId("chat").hidden = true;
  login.show(why);
}

function keep() {
  const { token, user, renewable } = session.credentials;
  remember({ token, user, renewable, rooms: rooms.names });
}

function keepUnsent() {
  rememberUnsent(me(), outbox.unsent);
}

function start() {
  const given = takeFromAddress();
  const kept = recall();
  if (given.token) {
    enter(new Credentials({ token: given.token }), given.rooms);
  } else if (given.user && development) {
    enter(new Credentials({ user: given.user, renewable: true }), given.rooms);
  } else if (kept) {
    enter(new Credentials(kept), given.rooms.length ? given.rooms : kept.rooms);
  } else {
    ask();
  }
}

byId("log-out").addEventListener("click", () => {
  ask();
  rooms.clear();
  outbox.clear();
  box.clear();
  keepUnsent();
  forget();
});
session.on("renewed", keep);
outbox.on("changed", keepUnsent);
rooms.on("list", () => session.credentials && !login.visible && keep());
// Another login in the fragment of an open page, as a frame's owner gives it; the skip link's is none.
addEventListener("hashchange", () => /^#(.*&)?(token|user)=/.test(location.hash) && start());

// --- how it goes ---------------------------------------------------------------------------

session.on("state", (state) => {
  showConnection(state);
  byId("composer").inert = state.name === "banned" || !rooms.active;
  if (state.name !== "online" && state.name !== "connecting") notices.hide("expiring");
  if (state.name === "online") {
    notices.hide("connection");
    session.serverId().then((id) => session.state === state && showConnection(state, id));
  } else if (state.name === "waiting") {
    const actions = [["Try now", () => session.retryNow()]];
    notices.show("connection", { text: `${state.reason} Trying again in`, until: state.until, stay: true, actions });
  } else if (state.name === "login") {
    forget();
    ask({ reason: state.reason, user: session.credentials.renewable ? me() : "" });
  } else if (state.name === "banned") {
    forget();
    const actions = [["Log in as somebody else", () => ask()]];
    notices.show("connection", { text: state.reason, kind: "bad", actions });
  } else if (state.name === "ended") {
    const actions = [["Connect again", () => session.retryNow()]];
    notices.show("connection", { text: state.reason, kind: "bad", actions });
  }
});
addEventListener("online", () => session.retryNow());

session.on("expiring", (at) => {
  const text = "Your token expires. Paste a newer one to stay. Time left:";
  const actions = [["Paste a token", pasteToken]];
  notices.show("expiring", { text, until: at.getTime(), actions });
});
session.on("refreshed", () => notices.hide("expiring"));
session.on("error", ({ message, code, retryAfter }) => {
  if (code === "rate_limited") held(Date.now() + (retryAfter ?? 1) * 1000);
  else notices.show("error", { text: message, close: true });
});

function pasteToken() {
  const input = make("input", {
    className: "input", type: "password", autocomplete: "off", attributes: { "aria-label": "A newer token" },
  });
  const use = async () => {
    try {
      await session.refresh(new Credentials({ token: input.value.trim() }));
      keep();
      say("The new token is in use.");
    } catch (error) {
      notices.show("error", { text: `The token was not taken: ${error.message}`, kind: "bad", close: true });
    }
  };
  input.addEventListener("keydown", (event) => event.key === "Enter" && use());
  notices.show("expiring", { text: ["A newer token of yours: ", input], actions: [["Use it", use]] });
  input.focus();
}

// --- rooms and messages --------------------------------------------------------------------

rooms.on("refused", (room, error) => {
  const text = ["You cannot enter ", named(room.name), `: ${error.message}`];
  notices.show(`refused/${room.name}`, { text, kind: "bad", close: true });
});
rooms.on("lost", (room) => {
  const text = ["History of ", named(room.name), " was lost: messages may be missing."];
  notices.show(`lost/${room.name}`, { text, kind: "bad", close: true });
});
outbox.on("held", (until) => held(until));

// Holding back takes a fraction of a second at the usual limits: a notice has to stay long enough to
// be read.
function held(until) {
  const text = "You are sending faster than the server allows. What you wrote is sent in";
  notices.show("held", { text, until: Math.max(until, Date.now() + 1500) });
}

function sayCdn() {
  const text = "The Socket.IO client was loaded from its public CDN (cdn.socket.io), checked by its hash.";
  notices.show("cdn", { text, close: true });
}

for (const event of ["focus", "visibilitychange"]) {
  (event === "focus" ? window : document).addEventListener(event, look);
}

start();
