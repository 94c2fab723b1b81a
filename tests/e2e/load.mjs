// The client: requests full of credentials of its own, none of which may reach the API.
//
// Reads one JSON line of settings from standard input, sends, and writes one JSON line per request to `out`:
//   {base, out, burst: N, routes: [{name}]}                 N requests at once, once
//   {base, out, seconds, routes: [{name, rate}]}            steadily, at `rate` requests a second each
// Further settings: `prefix` goes before each path; `roads`, a list, names by which of the ways that not every
// API knows a credential may come: access_token (in the query), organization, authentication, x-api-key.
// A closed standard input ends the steady load early.

import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Agent, request } from 'node:http';
import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin });
const settings = JSON.parse(await new Promise((line) => lines.once('line', line)));
let stop = false;
lines.once('close', () => { stop = true; });

const base = new URL(settings.base);
const prefix = settings.prefix ?? '/';
const roads = new Set(settings.roads ?? ['access_token', 'organization', 'x-api-key']);
const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
const out = createWriteStream(settings.out, { flags: 'a', mode: 0o600 });
const small = Buffer.from(JSON.stringify({ name: 'workshop', seats: 12 }));
const large = randomBytes(20_000);

/// The ways in which a client may name its own credentials. `expect` is what the API must see of the query.
const variants = [
  { method: 'GET', query: '?a=1&access_token=CANARY-query&b=2', expect: 'a=1&b=2' },
  { method: 'POST', query: '?access_token=CANARY-query', expect: '', body: small },
  { method: 'GET', query: '?%61ccess_token=CANARY-query&b=2', expect: 'b=2', more: ['Connection', 'keep-alive, Authorization, Organization'] },
  { method: 'POST', query: '?a=%20x&access%5Ftoken=CANARY-query', expect: 'a=%20x', body: large },
  { method: 'GET', query: '', expect: '', more: ['AUTHORIZATION', 'Basic CANARY-second', 'organization', 'evil-second'] },
  { method: 'POST', query: '', expect: '', body: small, chunked: true, trailers: { Authorization: 'Bearer CANARY-trailer', 'X-Api-Key': 'CANARY-trailer' } },
  { method: 'POST', query: '?b=2', expect: 'b=2', body: small, chunked: true },
  { method: 'GET', query: '?b=2&access_token=CANARY-query&access_token=CANARY-again', expect: 'b=2', more: ['X_Api_Key', 'CANARY-alias', 'Proxy_Authorization', 'Basic CANARY-alias'] },
];

for (const variant of variants) {
  if (!roads.has('access_token')) variant.query = variant.expect && `?${variant.expect}`;
  variant.more = pairs(variant.more ?? []).filter(([name]) => open(name)).flat();
}

let number = 0;
const running = new Set();

if (settings.burst) {
  for (let i = 0; i < settings.burst; i += 1) send(settings.routes[i % settings.routes.length].name);
} else {
  const start = Date.now();
  await Promise.all(settings.routes.map(async ({ name, rate }) => {
    for (let sent = 0; !stop && Date.now() - start < settings.seconds * 1000; sent += 1) {
      send(name);
      const wait = start + ((sent + 1) * 1000) / rate - Date.now();
      if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    }
  }));
}
await Promise.all(running);
agent.destroy();
await new Promise((done) => out.end(done));
process.exit(0);

function send(route) {
  number += 1;
  const id = String(number);
  const { method, query, expect, body, chunked, trailers, more } = variants[number % variants.length];
  const headers = [
    'Host', base.host,
    'X-Request-Number', id,
    'Authorization', `Bearer CANARY-${id}`,
    'Proxy-Authorization', 'Basic CANARY-proxy',
    'Cookie', 'sid=CANARY-cookie; theme=dark',
    ...[['Organization', 'evil'], ['Authentication', 'Bearer CANARY-authentication'], ['X-Api-Key', 'CANARY-key']]
      .filter(([name]) => open(name)).flat(),
    ...more,
  ];
  if (body) {
    headers.push('Content-Type', 'application/octet-stream');
    if (chunked) headers.push('Transfer-Encoding', 'chunked');
    else headers.push('Content-Length', String(body.length));
  }
  const last = trailers && Object.fromEntries(Object.entries(trailers).filter(([name]) => open(name)));
  if (last) headers.push('Trailer', Object.keys(last).join(', '));
  const record = { id, route, method, expect, variant: number % variants.length, sent: Date.now() };
  const finished = new Promise((done) => {
    const end = (fields) => {
      if (record.done) return;
      Object.assign(record, { done: Date.now(), ...fields });
      out.write(`${JSON.stringify(record)}\n`);
      done();
    };
    const req = request({
      host: base.hostname, port: base.port, agent, method, headers, timeout: 25_000, path: `${prefix}${route}/items/${id}${query}`,
    }, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('error', (error) => end({ error: error.code ?? error.message }));
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        end({
          status: res.statusCode,
          type: res.headers['content-type'] ?? null,
          retry_after: res.headers['retry-after'] ?? null,
          wrong: res.statusCode === 200 ? wrong(text, id, route, body) : undefined,
          text: res.statusCode === 200 ? undefined : text.slice(0, 300),
        });
      });
    });
    req.on('timeout', () => req.destroy(new Error('timeout')));
    req.on('error', (error) => end({ error: error.code ?? error.message }));
    if (last) req.addTrailers(last);
    req.end(body);
  });
  running.add(finished);
  finished.then(() => running.delete(finished));
}

/// Whether the client may use this field as a road for credentials.
function open(name) {
  const road = name.toLowerCase().replaceAll('_', '-');
  return roads.has(road) || !['organization', 'authentication', 'x-api-key'].includes(road);
}

function pairs(flat) {
  const out = [];
  for (let i = 0; i < flat.length; i += 2) out.push([flat[i], flat[i + 1]]);
  return out;
}

/// What is wrong with a 200: another request's answer, or a body that did not arrive whole.
function wrong(text, id, route, body) {
  try {
    const answer = JSON.parse(text);
    if (answer.id !== id || answer.route !== route) return `answer of ${answer.route}/${answer.id}`;
    const sha256 = createHash('sha256').update(body ?? '').digest('hex');
    return answer.sha256 === sha256 ? undefined : 'body differs';
  } catch {
    return 'not the JSON of the API';
  }
}
