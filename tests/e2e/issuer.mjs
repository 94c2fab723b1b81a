// A real OpenID provider (oidc-provider) on loopback, with its state in memory.
//
//   node issuer.mjs SETTINGS.json
//
// Every request to the token endpoint is appended to `log` as one JSON line, so that the test can see
// when tokens were asked for, by which grant, and with which refresh token.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Provider } from './.work/node_modules/oidc-provider/lib/index.js';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));

const server = createServer();
await new Promise((ready) => server.listen(settings.port ?? 0, '127.0.0.1', 4096, ready));
const { port } = server.address();

const lifetime = (client) => settings.clients[client.clientId]?.lifetime ?? 5;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    ...Object.entries(settings.clients).map(([client_id, it]) => ({
      client_id,
      client_secret: it.secret,
      token_endpoint_auth_method: it.auth,
      grant_types: [it.grant],
      redirect_uris: it.grant === 'refresh_token' ? ['http://127.0.0.1/never'] : [],
      response_types: [],
    })),
    {
      client_id: 'protected',
      client_secret: settings.protected_secret,
      grant_types: [],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  // One use each: presenting a used refresh token again revokes the whole grant.
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access', 'read', 'write'],
  ttl: {
    AccessToken: (_, __, client) => lifetime(client),
    ClientCredentials: (_, __, client) => lifetime(client),
    Grant: 3600,
    RefreshToken: 3600,
  },
});

provider.use(async (ctx, next) => {
  if (ctx.method !== 'POST' || ctx.path !== '/token') return next();
  const arrived = Date.now();
  const delay = settings.delays?.[basicId(ctx)] ?? 0;
  if (delay) await new Promise((done) => setTimeout(done, delay));
  await next();
  const params = ctx.oidc?.params ?? {};
  appendFileSync(settings.log, `${JSON.stringify({
    arrived,
    answered: Date.now(),
    client: ctx.oidc?.client?.clientId ?? basicId(ctx) ?? params.client_id ?? null,
    auth: ctx.get('authorization') ? 'basic' : params.client_secret ? 'body' : 'none',
    grant: params.grant_type ?? null,
    scope: params.scope ?? null,
    status: ctx.status,
    error: ctx.body?.error ?? null,
    access: ctx.body?.access_token ?? null,
    used_refresh: params.refresh_token ?? null,
    new_refresh: ctx.body?.refresh_token ?? null,
  })}\n`);
  return undefined;
});

for (const [id, { grant, refresh_token_file: file }] of Object.entries(settings.clients)) {
  if (grant === 'refresh_token') writeFileSync(file, await firstRefreshToken(id), { mode: 0o600 });
}

server.on('request', provider.callback());
console.log(`listening ${port}`);

/// What a user's login in a browser would end with, issued by the provider's own models.
async function firstRefreshToken(clientId) {
  const client = await provider.Client.find(clientId);
  const grant = new provider.Grant({ accountId: 'robot', clientId });
  grant.addOIDCScope('openid offline_access');
  const token = new provider.RefreshToken({
    accountId: 'robot',
    authTime: Math.floor(Date.now() / 1000),
    client,
    grantId: await grant.save(),
    gty: 'authorization_code',
    rotations: 0,
    scope: 'openid offline_access',
  });
  return token.save();
}

function basicId(ctx) {
  const [scheme, value] = ctx.get('authorization').split(' ');
  if (scheme.toLowerCase() !== 'basic' || !value) return undefined;
  const [id] = Buffer.from(value, 'base64').toString().split(':');
  try {
    return decodeURIComponent(id.replace(/\+/g, '%20'));
  } catch {
    return id;
  }
}
