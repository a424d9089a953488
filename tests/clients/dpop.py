"""Proofs of possession (DPoP, RFC 9449), made with a published JOSE library."""

import hashlib
import os
import time
import uuid
from base64 import urlsafe_b64encode
from urllib.parse import urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey

BASE = os.environ["FLUX_RESTFUL_HOST"]
USER, PASSWORD = os.environ["FLUX_USER"], os.environ["FLUX_TOKEN"]
# How the server calls itself, whatever the port that it listens on.
PUBLIC = os.environ["PUBLIC_URL"]

about = requests.get(f"{BASE}/.well-known/oauth-authorization-server").json()
assert about["dpop_signing_alg_values_supported"] == ["ES256", "EdDSA"], about
TOKEN = about["token_endpoint"]
assert TOKEN == f"{PUBLIC}/oauth/token", TOKEN
SIGNERS = KeySet.import_key_set(requests.get(f"{BASE}/.well-known/jwks.json").json())


def there(url):
    return BASE + urlsplit(url).path.removeprefix(urlsplit(PUBLIC).path)


def proof(key, alg, method, url, token=None, **claims):
    header = {"typ": "dpop+jwt", "alg": alg, "jwk": key.as_dict(private=False)}
    header["jwk"].pop("kid", None)
    said = {"jti": uuid.uuid4().hex, "htm": method, "htu": url, "iat": int(time.time())}
    if token:
        digest = hashlib.sha256(token.encode()).digest()
        said["ath"] = urlsafe_b64encode(digest).rstrip(b"=").decode()
    return jwt.encode(header, said | claims, key, algorithms=[alg])


def fetch(sign, nonce=None, **fields):
    """A token, asked for as often as the server wants another nonce in the proof."""
    claims = {"nonce": nonce} if nonce else {}
    headers = {"DPoP": sign("POST", TOKEN, **claims)}
    answer = requests.post(there(TOKEN), data=fields, headers=headers)
    if answer.status_code == 400 and answer.json()["error"] == "use_dpop_nonce" and not nonce:
        return fetch(sign, answer.headers["DPoP-Nonce"], **fields)
    return answer


def get(path, token, scheme="DPoP", **headers):
    headers["Authorization"] = f"{scheme} {token}"
    return requests.get(f"{BASE}{path}", headers=headers)


for key, alg in [
    (ECKey.generate_key("P-256"), "ES256"),
    (OKPKey.generate_key("Ed25519"), "EdDSA"),
]:
    def sign(method, url, token=None, **claims):
        return proof(key, alg, method, url, token, **claims)

    # A bound token, and what it is bound to.
    login = {"grant_type": "password", "client_id": "warrant", "username": USER, "password": PASSWORD}
    answer = fetch(sign, **login)
    assert answer.status_code == 200, answer.text
    token = answer.json()
    assert token["token_type"] == "DPoP", token
    access = token["access_token"]
    claims = jwt.decode(access, SIGNERS, algorithms=["EdDSA"]).claims
    assert claims["cnf"] == {"jkt": key.thumbprint()}, claims

    # It is good with a proof for each request, and for nothing else.
    jobs = f"{PUBLIC}/v1/jobs"
    once = sign("GET", jobs, access)
    assert get("/v1/jobs?limit=1", access, DPoP=once).status_code == 200
    for answer in [
        get("/v1/jobs", access, DPoP=once),
        get("/v1/jobs", access),
        get("/v1/jobs", access, "Bearer"),
        get("/v1/jobs", access, "Bearer", DPoP=sign("GET", jobs, access)),
        get("/v1/nodes", access, DPoP=sign("GET", jobs, access)),
        get("/v1/jobs", access, DPoP=sign("GET", jobs)),
        get("/v1/jobs", access, DPoP=sign("GET", jobs, access, iat=int(time.time()) - 90)),
        get("/v1/jobs", access, DPoP=proof(OKPKey.generate_key("Ed25519"), "EdDSA", "GET", jobs, access)),
    ]:
        assert answer.status_code == 401, answer.text
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge.startswith('DPoP error="') and 'algs="ES256 EdDSA"' in challenge, challenge

    # A job, and an API key by way of the broker.
    headers = {"Authorization": f"DPoP {access}", "DPoP": sign("POST", f"{jobs}/submit", access)}
    answer = requests.post(f"{BASE}/v1/jobs/submit", json={"command": "true"}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert get("/v1/keys", access, DPoP=sign("GET", f"{PUBLIC}/v1/keys", access)).status_code == 200

    # The next token takes a proof of the same key.
    more = {"grant_type": "refresh_token", "client_id": "warrant", "refresh_token": token["refresh_token"]}
    assert requests.post(there(TOKEN), data=more).json()["error"] == "invalid_dpop_proof"
    thief = OKPKey.generate_key("Ed25519")
    answer = fetch(lambda *a, **c: proof(thief, "EdDSA", *a, **c), **more)
    assert answer.json()["error"] == "invalid_dpop_proof", answer.text
    answer = fetch(sign, **more)
    assert answer.status_code == 200 and answer.json()["token_type"] == "DPoP", answer.text

    # A proof with the private key in it, and one that no key signed.
    header = {"typ": "dpop+jwt", "alg": alg, "jwk": key.as_dict(private=True)}
    said = {"jti": uuid.uuid4().hex, "htm": "POST", "htu": TOKEN, "iat": int(time.time())}
    bad = jwt.encode(header, said, key, algorithms=[alg])
    answer = requests.post(there(TOKEN), data=login, headers={"DPoP": bad})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), answer.text

# Whoever proves nothing gets what there always was.
answer = requests.post(there(TOKEN), data=login).json()
assert answer["token_type"] == "Bearer", answer
assert get("/v1/jobs", answer["access_token"], "Bearer").status_code == 200
print("every proof was judged")
