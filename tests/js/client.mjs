// The official client, used as a chat page would use it, and driven by lines of JSON.
//
// Each line on stdin is a command {id, do, ...}; each line on stdout is either {id, result} or
// {event, ...}: something that happened by itself. It ends with its stdin.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");

let socket;

function connect({ url, auth, transports, options }) {
  let attempts = 0;
  socket = io(url, {
    // `auth` may be a list: then each attempt takes the next one, as a page fetches a fresh token.
    auth: (give) => give(Array.isArray(auth) ? auth[Math.min(attempts++, auth.length - 1)] : auth),
    transports,
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
    forceNew: true,
    ...options,
  });
  socket.on("connect", () =>
    tell({ event: "connect", transport: socket.io.engine.transport.name }));
  socket.on("connect_error", (error) =>
    tell({ event: "connect_error", message: error.message, data: error.data ?? null }));
  socket.on("disconnect", (reason) => tell({ event: "disconnect", reason }));
  socket.io.on("open", () =>
    socket.io.engine.on("upgrade", (transport) =>
      tell({ event: "upgrade", transport: transport.name })));
  socket.onAny((name, payload) => tell({ event: name, payload }));
}

const commands = {
  connect,
  // What a page does with the answer is in the callback, as it is there.
  emit: ({ name, args, timeout }) =>
    new Promise((answer) => {
      if (timeout) {
        socket.timeout(timeout).emit(name, ...args, (error, response) =>
          answer({ error: error ? error.message : null, response: response ?? null }));
      } else {
        socket.emit(name, ...args, answer);
      }
    }),
  // Many events in one turn of the loop: on polling they travel in as few bodies as will hold them.
  burst: ({ name, list }) =>
    Promise.all(list.map((args) => new Promise((done) => socket.emit(name, ...args, done)))),
  fire: ({ name, args }) => void socket.emit(name, ...args),
  disconnect: () => void socket.disconnect(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: what, ...rest } = JSON.parse(line);
  Promise.resolve(commands[what](rest)).then((result) => tell({ id, result: result ?? null }));
}
socket?.disconnect();
