// A chat client as most are written: it joins on every connect, sends with an ack, and shows what
// comes. It knows no numbers and no log, because the stock server has none; what is lost stays lost.

const ROOM = "general";
const PATIENCE = 3000; // milliseconds for an ack
const MOST = 500; // messages that are kept on the page

const given = new URLSearchParams(location.hash.slice(1));
const token = given.get("token") ?? "";
const room = given.get("room") ?? ROOM;
history.replaceState(null, "", location.pathname + location.search);

const byId = (id) => document.getElementById(id);
const user = userOf(token);
byId("me").textContent = user;

const seat = new URLSearchParams(location.search).get("seat");
const socket = window.io({
  auth: { token },
  query: seat ? { seat } : {},
  transports: ["websocket"],
  reconnectionDelay: 250,
  reconnectionDelayMax: 1000,
});

socket.on("connect", () => {
  socket.emit("join-room", { room }, () => connection("online", "Connected"));
});
socket.on("disconnect", () => connection("waiting", "Not connected"));
socket.on("connect_error", (error) => connection("waiting", error.message));
socket.on("new-message", (message) => {
  if (message.room === room) show(message.user, message.text);
});

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("message-text").value.trim();
  if (!text) return;
  byId("message-text").value = "";
  const tick = show(user, text);
  tick("sending", "…");
  socket.timeout(PATIENCE).emit("send-message", { room, text }, (error, answer) => {
    if (error) tick("failed", "no answer");
    else if (answer.ok) tick("sent", "✓");
    else tick("failed", answer.error);
  });
});

/** Show a message at the end. Returns what sets its tick. */
function show(author, text) {
  const item = document.createElement("li");
  const [name, words, tick] = ["message-author", "message-text", "tick"].map((kind) => {
    const part = document.createElement("span");
    part.className = kind;
    return part;
  });
  item.className = author === user ? "message own" : "message";
  name.textContent = author;
  words.textContent = text;
  item.append(name, ": ", words, " ", tick);
  const list = byId("messages");
  list.append(item);
  while (list.children.length > MOST) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
  return (state, sign) => {
    tick.dataset.state = state;
    tick.textContent = sign;
  };
}

function connection(state, words) {
  byId("connection").dataset.state = state;
  byId("connection-text").textContent = words;
}

/** The `sub` of a token, which the server verifies and this page only shows. */
function userOf(jwt) {
  try {
    const part = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return String(JSON.parse(atob(part)).sub);
  } catch {
    return "nobody";
  }
}
