// The API behind oidc-provider: it accepts a request only with a token that the provider calls active.
//
//   node protected.mjs SETTINGS.json
//
// While the provider is down, the last answer about a token stands, and its expiry is judged here.

import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { serve } from './api.mjs';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const agent = new Agent({ keepAlive: true });
const known = new Map();
const fresh = 200; // ms for which one introspection stands

serve(settings, async ({ route, token, arrived }) => {
  const seen = token ? await introspect(token) : { active: false };
  const expired = seen.exp !== undefined && arrived / 1000 >= seen.exp;
  const right = seen.active && !expired && seen.client_id === settings.routes[route];
  return right
    ? { status: 200, record: { expired } }
    : { status: 401, fields: { 'www-authenticate': 'Bearer error="invalid_token"' }, error: 'invalid_token', record: { expired } };
});

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
