// An API of CAEPE's kind: a JWT of the realm, and the caller's organization beside it.
//
//   node organization.mjs SETTINGS.json
//
// A token is judged here, by the realm's published keys, issuer and the token's own expiry. What has none that is
// valid gets the 401 of Keycloak's adapters; then 400 without an organization, 403 with another one's.

import { readFileSync } from 'node:fs';
import { createRemoteJWKSet, jwtVerify } from './.work/node_modules/jose/dist/node/esm/index.js';
import { serve } from './api.mjs';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const realms = new Map();

serve(settings, async ({ route, token, headers }) => {
  const { issuer, client } = settings.routes[route];
  const { fault } = await verify(issuer, client, token);
  if (fault) {
    const challenge = `Bearer realm="${issuer.split('/').pop()}", error="invalid_token", error_description="${fault}"`;
    return { status: 401, fields: { 'www-authenticate': challenge }, error: 'invalid_token', record: { fault } };
  }
  const { organization } = headers;
  if (!organization) return { status: 400, error: 'Organization is missing' };
  return organization === settings.organization ? { status: 200 } : { status: 403, error: 'another organization' };
});

async function verify(issuer, client, token) {
  if (!token) return { fault: 'No token' };
  if (!realms.has(issuer)) realms.set(issuer, createRemoteJWKSet(new URL(`${issuer}/protocol/openid-connect/certs`)));
  try {
    const { payload } = await jwtVerify(token, realms.get(issuer), { issuer, algorithms: ['RS256'], requiredClaims: ['exp'] });
    return payload.typ === 'Bearer' && payload.azp === client ? {} : { fault: 'Another token' };
  } catch (error) {
    return { fault: error.code ?? 'Token verification failed' };
  }
}
