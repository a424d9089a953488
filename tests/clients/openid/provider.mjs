// A certified OpenID provider, for tests. It knows everybody who names himself,
// whatever the password, and writes its issuer identifier to standard output.
//
// node provider.mjs PACKAGE CALLBACK SECRET: the directory of the package, where
// browsers come back to, the secret of the browsers' client.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [directory, callback, secret] = process.argv.slice(2);
const require = createRequire(`${directory}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const key = (kid, alg, kind, options) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig',
});
const jwks = {
  keys: [
    key('of-rsa', 'RS256', 'rsa', { modulusLength: 2048 }),
    key('of-p256', 'ES256', 'ec', { namedCurve: 'P-256' }),
    key('of-ed25519', 'EdDSA', 'ed25519', {}),
  ],
};
const program = (client_id, id_token_signed_response_alg) => ({
  client_id,
  id_token_signed_response_alg,
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  token_endpoint_auth_method: 'none',
});

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks,
    cookies: { keys: ['of tests'] },
    conformIdTokenClaims: false,
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
    findAccount: (context, name) => ({
      accountId: name,
      claims: () => ({
        sub: `subject of ${name}`,
        preferred_username: `${name}@example.org`,
        groups: ['hpc-users', ...(name === 'olga' ? ['hpc-operators'] : [])],
      }),
    }),
    pkce: { required: () => true },
    clients: [
      {
        client_id: 'warrant-web',
        client_secret: secret,
        redirect_uris: [callback],
      },
      program('program-rs256', 'RS256'),
      program('program-es256', 'ES256'),
      program('program-eddsa', 'EdDSA'),
      program('program-of-others', 'RS256'),
    ],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
