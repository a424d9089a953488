"""Each way to a token, and its end, with a published OAuth 2.0 client."""

import os
from urllib.parse import parse_qs, urlsplit

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import KeySet

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
BASE = os.environ["FLUX_RESTFUL_HOST"]
USER, PASSWORD = os.environ["FLUX_USER"], os.environ["FLUX_TOKEN"]
CALLBACK = "https://app.example.org/callback"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"

about = requests.get(f"{BASE}/.well-known/oauth-authorization-server").json()


def endpoint(name):
    """The server describes itself by its configuration; here it listens anywhere."""
    return BASE + urlsplit(about[f"{name}_endpoint"]).path


TOKEN = endpoint("token")
KEYS = KeySet.import_key_set(requests.get(f"{BASE}/.well-known/jwks.json").json())


def claims(token):
    read = jwt.decode(token["access_token"], KEYS, algorithms=["EdDSA"])
    assert read.header["typ"] == "at+jwt", read.header
    return read.claims


def works(token):
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    return requests.get(f"{BASE}/v1/jobs", headers=headers).status_code == 200


def robot(**options):
    return OAuth2Session("robot", os.environ["ROBOT_SECRET"], **options)


def program(**options):
    return OAuth2Session("warrant", token_endpoint_auth_method="none", **options)


def refused(error, call, **options):
    try:
        call(**options)
    except OAuthError as answer:
        assert answer.error == error, answer
    else:
        raise AssertionError(f"not refused with {error}")


# A name and a password.
session = program()
token = session.fetch_token(TOKEN, username=USER, password=PASSWORD, grant_type="password")
assert works(token) and claims(token)["sub"] == USER
login = token
refused("invalid_grant", program().fetch_token, url=TOKEN, username=USER, password="x",
        grant_type="password")
refused("invalid_scope", program().fetch_token, url=TOKEN, username=USER, password=PASSWORD,
        grant_type="password", scope="root")

# The next token of the same session.
fresh = session.refresh_token(TOKEN, refresh_token=token["refresh_token"])
assert works(fresh) and fresh["refresh_token"] != token["refresh_token"]
assert claims(fresh)["sid"] == claims(token)["sid"]

# A client by itself, by HTTP Basic and by form.
for method in ["client_secret_basic", "client_secret_post"]:
    token = robot(token_endpoint_auth_method=method).fetch_token(
        TOKEN, grant_type="client_credentials", scope="read")
    assert works(token) and claims(token)["client_id"] == "robot"
    assert token["scope"] == "read" and "refresh_token" not in token
refused("invalid_client", OAuth2Session("robot", "wrong").fetch_token, url=TOKEN,
        grant_type="client_credentials")
body = {"grant_type": "client_credentials", "client_id": "robot",
        "client_secret": os.environ["ROBOT_SECRET"]}
assert works(requests.post(TOKEN, json=body).json())


# A code, with PKCE, for a client with a secret and for one without.
def authorised(url):
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    headers = {"Authorization": f"Bearer {login['access_token']}"}
    answer = requests.post(endpoint("authorization"), json=query, headers=headers)
    return answer.json()["redirect"]


verifier = "v" * 64
for session in [
    robot(redirect_uri=CALLBACK, code_challenge_method="S256"),
    program(redirect_uri="http://127.0.0.1:4321/callback", code_challenge_method="S256"),
]:
    url, state = session.create_authorization_url(
        endpoint("authorization"), code_verifier=verifier)
    redirect = authorised(url)
    assert redirect.startswith(session.redirect_uri), redirect
    token = session.fetch_token(
        TOKEN, authorization_response=redirect, state=state, code_verifier=verifier)
    assert works(token) and claims(token)["client_id"] == session.client_id
    assert works(session.refresh_token(TOKEN, refresh_token=token["refresh_token"]))
    refused("invalid_grant", session.fetch_token, url=TOKEN, authorization_response=redirect,
            state=state, code_verifier=verifier)
    assert not session.introspect_token(
        endpoint("introspection"), token=token["access_token"]).json().get("active")

# A device.
begun = requests.post(endpoint("device_authorization"), data={"client_id": "warrant"}).json()
ask = {"url": TOKEN, "grant_type": DEVICE, "device_code": begun["device_code"]}
refused("authorization_pending", program().fetch_token, **ask)
refused("slow_down", program().fetch_token, **ask)
decision = {"user_code": begun["user_code"], "decision": "approve"}
headers = {"Authorization": f"Bearer {login['access_token']}"}
answer = requests.post(f"{BASE}/oauth/device", json=decision, headers=headers)
assert answer.status_code == 200, answer.text
session = program()
token = session.fetch_token(**ask)
assert works(token)
refused("invalid_grant", program().fetch_token, **ask)

# What is known, and the end.
known = robot().introspect_token(endpoint("introspection"), token=token["access_token"]).json()
assert known["active"] and known["sub"] == USER and known["client_id"] == "warrant", known
answer = session.revoke_token(endpoint("revocation"), token=token["refresh_token"])
assert answer.status_code == 200, answer.text
known = robot().introspect_token(endpoint("introspection"), token=token["access_token"]).json()
assert known == {"active": False}, known
refused("invalid_grant", session.refresh_token, url=TOKEN, refresh_token=token["refresh_token"])

# What the broker hands on has none of the broker's rights.
form = {"token": login["access_token"]}
assert requests.post(endpoint("introspection"), data=form).status_code == 401
assert requests.get(f"{BASE}/internal/revocations").status_code == 404
secret = requests.post(TOKEN + "?client_secret=x", data={"grant_type": "password"})
assert secret.status_code == 400, secret.text
page = requests.get(endpoint("authorization"))
assert page.status_code == 400 and page.headers["content-type"].startswith("text/plain")
print("every flow was completed")
