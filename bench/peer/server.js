// A chat on Node's Socket.IO that does what the lesson's complete server does, and no more: a token
// at the handshake, rooms, acknowledged messages, a limit on events. It stores and orders nothing.
//
//   PEER_SECRET=… node server.js [--port 0] [--rate 20] [--redis redis://127.0.0.1:6379]
//
// `--rate 0` lifts the limit. With `--redis` several of these share their rooms through Redis.
'use strict';

const { createServer } = require('node:http');
const { parseArgs } = require('node:util');
const jsonwebtoken = require('jsonwebtoken');
const { Server: SocketServer } = require('socket.io');

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    rate: { type: 'string', default: '20' },
    redis: { type: 'string' },
  },
});
const secret = process.env.PEER_SECRET;
const perSecond = Number(options.rate);

const web = createServer((request, response) => {
  response.writeHead(request.url === '/healthz' ? 200 : 404).end();
});
const chat = new SocketServer(web, { cors: { origin: '*' } });

if (options.redis) {
  const { createAdapter } = require('@socket.io/redis-adapter');
  const { Redis } = require('ioredis');
  const publisher = new Redis(options.redis);
  chat.adapter(createAdapter(publisher, publisher.duplicate()));
}

// At most so many events in each second of the clock: further ones are dropped, told by `error`.
function limitEvents(socket, proceed) {
  let seen = 0;
  const clock = setInterval(() => {
    seen = 0;
  }, 1000);
  const handle = socket.onevent;
  socket.onevent = (packet) => {
    seen += 1;
    if (seen > perSecond) {
      socket.emit('error', { message: 'Rate limit exceeded' });
    } else {
      handle.call(socket, packet);
    }
  };
  socket.on('disconnect', () => clearInterval(clock));
  proceed();
}

async function requireToken(socket, proceed) {
  const { token } = socket.handshake.auth;
  if (!token) {
    proceed(new Error('Authentication required'));
    return;
  }
  try {
    const claims = jsonwebtoken.verify(token, secret);
    socket.data.id = claims.userId;
    socket.data.name = claims.username;
  } catch {
    proceed(new Error('Invalid token'));
    return;
  }
  proceed();
}

if (perSecond > 0) {
  chat.use(limitEvents);
}
chat.use(requireToken);

chat.on('connection', (socket) => {
  const who = socket.data.name;
  let current;

  socket.on('join-room', (room, answer) => {
    socket.join(room);
    current = room;
    socket.to(room).emit('user-joined', { user: who });
    answer({ ok: true });
  });

  socket.on('send-message', async (data, answer) => {
    try {
      const text = data.text?.trim();
      if (!text) {
        answer({ ok: false, error: 'Message cannot be empty' });
        return;
      }
      const id = Date.now();
      const timestamp = new Date(id).toISOString();
      socket.to(current).emit('new-message', { id, user: who, text, room: current, timestamp });
      answer({ ok: true, id, timestamp });
    } catch (error) {
      process.stderr.write(`send-message: ${error.stack}\n`);
      answer({ ok: false, error: 'Internal server error' });
    }
  });

  socket.on('disconnect', () => {
    if (current) {
      socket.to(current).emit('user-left', { user: who });
    }
  });
});

web.listen(Number(options.port), '127.0.0.1', () => {
  process.stdout.write(`listening on http://127.0.0.1:${web.address().port}\n`);
});
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => process.exit(0));
}
