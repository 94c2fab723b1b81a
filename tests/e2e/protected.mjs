// The API behind oidc-provider: it accepts a request only with a token that the provider calls active.
//
//   node protected.mjs SETTINGS.json
//
// Every request is appended to `log` as one JSON line, headers as they came. While the provider is down,
// the last answer about a token stands, and its expiry is judged here.

import { createHash } from 'node:crypto';
import { createWriteStream, readFileSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const log = createWriteStream(settings.log, { flags: 'a', mode: 0o600 });
const agent = new Agent({ keepAlive: true });
const known = new Map();
const fresh = 200; // ms for which one introspection stands

const server = createServer((req, res) => {
  const arrived = Date.now();
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('error', () => {});
  req.on('end', async () => {
    const body = Buffer.concat(chunks);
    const route = req.url.split('/')[2];
    const token = /^Bearer ([A-Za-z0-9._~+/=-]+)$/.exec(req.headers.authorization ?? '')?.[1];
    const seen = token ? await introspect(token) : { active: false };
    const expired = seen.exp !== undefined && arrived / 1000 >= seen.exp;
    const right = seen.active && !expired && seen.client_id === settings.routes[route];
    const status = right ? 200 : 401;
    log.write(`${JSON.stringify({
      arrived,
      route,
      id: req.headers['x-request-number'] ?? null,
      method: req.method,
      url: req.url,
      headers: pairs(req.rawHeaders),
      trailers: pairs(req.rawTrailers),
      token: token ?? null,
      expired,
      status,
    })}\n`);
    const answer = right
      ? { id: req.headers['x-request-number'], route, sha256: createHash('sha256').update(body).digest('hex') }
      : { error: 'invalid_token' };
    res.writeHead(status, {
      'content-type': 'application/json',
      ...(right ? {} : { 'www-authenticate': 'Bearer error="invalid_token"' }),
    });
    res.end(JSON.stringify(answer));
  });
});
server.keepAliveTimeout = 60_000;

// Beside the parsed requests, every byte received is searched for what must never arrive.
server.on('connection', (socket) => {
  let tail = '';
  socket.on('data', (chunk) => {
    const text = tail + chunk.toString('latin1');
    for (const word of settings.forbidden) {
      const at = text.indexOf(word);
      if (at >= 0 && at + word.length > tail.length) {
        log.write(`${JSON.stringify({ arrived: Date.now(), forbidden: text.slice(Math.max(0, at - 200), at + 60) })}\n`);
      }
    }
    tail = text.slice(-32);
  });
  socket.on('error', () => {});
});

server.listen(0, '127.0.0.1', 4096, () => console.log(`listening ${server.address().port}`));

function introspect(token) {
  const last = known.get(token);
  if (last && Date.now() - last.asked < fresh) return last.answer;
  const answer = ask(token).catch(() => last?.answer ?? { active: false });
  known.set(token, { asked: Date.now(), answer });
  return answer;
}

function ask(token) {
  const body = new URLSearchParams({ token }).toString();
  return new Promise((resolve, reject) => {
    const req = request(`${settings.issuer}/token/introspection`, {
      method: 'POST',
      agent,
      timeout: 3000,
      headers: {
        authorization: `Basic ${Buffer.from(`protected:${settings.protected_secret}`).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': Buffer.byteLength(body),
      },
    }, (res) => {
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (part) => { text += part; });
      res.on('error', reject);
      res.on('end', () => {
        if (res.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`introspection answered ${res.statusCode}`));
      });
    });
    req.on('timeout', () => req.destroy(new Error('timeout')));
    req.on('error', reject);
    req.end(body);
  });
}

function pairs(raw) {
  const out = [];
  for (let i = 0; i < raw.length; i += 2) out.push([raw[i], raw[i + 1]]);
  return out;
}
