// What the test's APIs have in common: every request is appended to `log` as one JSON line, headers as they came,
// every byte received is searched for what must never arrive, and a judge decides about each request.

import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { createServer } from 'node:http';

/// `judge({route, token, headers, arrived})` gives `{status, fields, error, record}`; `record` goes into the log.
export function serve(settings, judge) {
  const log = createWriteStream(settings.log, { flags: 'a', mode: 0o600 });
  const write = (record) => log.write(`${JSON.stringify(record)}\n`);

  const server = createServer((req, res) => {
    const arrived = Date.now();
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('error', () => {});
    req.on('end', async () => {
      const body = Buffer.concat(chunks);
      const route = req.url.split('/')[2];
      const id = req.headers['x-request-number'] ?? null;
      const token = /^Bearer ([A-Za-z0-9._~+/=-]+)$/.exec(req.headers.authorization ?? '')?.[1] ?? null;
      const { status, fields, error, record } = await judge({ route, token, headers: req.headers, arrived });
      write({
        arrived,
        route,
        id,
        method: req.method,
        url: req.url,
        headers: pairs(req.rawHeaders),
        trailers: pairs(req.rawTrailers),
        token,
        status,
        ...record,
      });
      const answer = status === 200 ? { id, route, sha256: createHash('sha256').update(body).digest('hex') } : { error };
      res.writeHead(status, { 'content-type': 'application/json', ...fields });
      res.end(JSON.stringify(answer));
    });
  });
  server.keepAliveTimeout = 60_000;

  server.on('connection', (socket) => {
    let tail = '';
    socket.on('data', (chunk) => {
      const text = tail + chunk.toString('latin1');
      for (const word of settings.forbidden) {
        const at = text.indexOf(word);
        if (at >= 0 && at + word.length > tail.length) {
          write({ arrived: Date.now(), forbidden: text.slice(Math.max(0, at - 200), at + 60) });
        }
      }
      tail = text.slice(-32);
    });
    socket.on('error', () => {});
  });

  server.listen(0, '127.0.0.1', 4096, () => console.log(`listening ${server.address().port}`));
}

function pairs(raw) {
  const out = [];
  for (let i = 0; i < raw.length; i += 2) out.push([raw[i], raw[i + 1]]);
  return out;
}
