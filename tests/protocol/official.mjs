// The official client against the suites' server: everything that a transport may get wrong.
//
// node official.mjs URL TRANSPORTS prints one line of JSON; test_official_client.py judges it. The
// client is the one that is installed in tests/js.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const { io } = createRequire(new URL("../js/package.json", import.meta.url))("socket.io-client");

const [url, transports] = [process.argv[2], process.argv[3].split("+")];
const options = { transports, forceNew: true, reconnection: false };
const seen = {};

const next = (socket, name) => new Promise((done) => socket.once(name, (...args) => done(args)));
const ask = (socket, ...args) => socket.timeout(10_000).emitWithAck("message-with-ack", ...args);
const echo = (socket, ...args) => {
  const answer = next(socket, "message-back");
  socket.emit("message", ...args);
  return answer;
};
const digest = (data) =>
  Buffer.isBuffer(data) ? createHash("sha256").update(data).digest("hex") : typeof data;

const socket = io(url, { ...options, auth: { token: "123" } });
const upgraded = new Promise((done) =>
  socket.io.once("open", () => socket.io.engine.once("upgrade", (way) => done(way.name))));
seen.auth = await next(socket, "auth");

// At once, while the upgrade may be under way: 300 answers, and 300 events the other way.
const news = [];
socket.on("news", (number) => news.push(number));
socket.emit("tell", 300);
seen.acks = await Promise.all(Array.from({ length: 300 }, (_, number) => ask(socket, number)));
seen.upgrade = transports.length > 1 ? await upgraded : null;
seen.transport = socket.io.engine.transport.name;
while (news.length < 300) await new Promise((done) => setTimeout(done, 5));
seen.news = news;

const words = "Grüße \u2603 \u{1F600} \u0000 \u2028 \u001e \"\\";
seen.unicode = (await echo(socket, words))[0] === words;
seen.plain = await echo(socket, 1, "2", { 3: [true, null, 1.5] });
const long = "é\u{1F600}x".repeat(30_000);
seen.long = (await echo(socket, long))[0] === long;
seen.none = await echo(socket);

const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, number) => number % 251));
const [first, rest] = await echo(socket, bytes, { deep: [Buffer.from([1, 2, 3]), "text"] });
seen.bytes = [digest(first) === digest(bytes), digest(rest.deep[0]), rest.deep[1]];
seen.ackedBytes = digest(await ask(socket, bytes)) === digest(bytes);
seen.emptyBytes = digest((await echo(socket, Buffer.alloc(0)))[0]);

const custom = socket.io.socket("/custom", { auth: { token: "abc" } });
seen.custom = [await next(custom, "auth"), await ask(custom, "here")];
const random = socket.io.socket("/random");
seen.refused = (await next(random, "connect_error"))[0].message;
custom.disconnect();
seen.afterwards = await ask(socket, "still here");

const gone = next(socket, "disconnect");
socket.emit("leave");
seen.gone = (await gone)[0];

const refused = io(url, { ...options, auth: { token: "refuse" } });
const [error] = await next(refused, "connect_error");
seen.refusal = { message: error.message, data: error.data };
refused.disconnect();

process.stdout.write(JSON.stringify(seen) + "\n");
