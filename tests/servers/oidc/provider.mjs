// An OpenID Connect provider for tests: node provider.mjs PORT ALGORITHM KEY_ID
// Tokens by client_credentials at /token; what they are for is asked for as `resource`.

import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const [port, alg, kid] = process.argv.slice(2);
const pair = alg === 'ES256'
  ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
  : generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...pair.privateKey.export({ format: 'jwk' }), use: 'sig', alg, kid };

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: ['curator', 'stranger'].map((name) => ({
    client_id: name,
    client_secret: 'secret',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_post',
    id_token_signed_response_alg: alg,
  })),
  jwks: { keys: [key] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        audience: resource,
        scope: 'anything',
        accessTokenTTL: 300,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg } },
      }),
    },
  },
  extraTokenClaims: (_, token) => ({ groups: token.clientId === 'curator' ? ['4dn-lab'] : [] }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
