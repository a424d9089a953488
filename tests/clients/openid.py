"""Users whom a certified OpenID provider proves: ID tokens of programs, and browsers."""

import os
import re
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
BASE, ISSUER = os.environ["FLUX_RESTFUL_HOST"], os.environ["ISSUER"]
CALLBACK = "http://127.0.0.1:4321/callback"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"
known = requests.get(f"{ISSUER}/.well-known/openid-configuration").json()


class Browser(requests.Session):
    """Sends the cookies that its own policy allows; the library asks another one."""

    def prepare_request(self, request):
        prepared = super().prepare_request(request)
        prepared.headers.pop("Cookie", None)
        cookies = requests.cookies.get_cookie_header(self.cookies, prepared)
        if cookies:
            prepared.headers["Cookie"] = cookies
        return prepared


def browser():
    """Browsers take secure cookies from the machine itself without TLS."""
    session = Browser()
    session.headers["Accept"] = "text/html"
    secure = ("http", "https")
    session.cookies.set_policy(DefaultCookiePolicy(secure_protocols=secure))
    return session


def walk(session, url, name, until):
    """Sign in at the provider as `name`, and agree; where the browser is sent in the end."""
    answer = session.get(url, allow_redirects=False)
    for _ in range(20):
        if answer.is_redirect:
            url = urljoin(answer.url, answer.headers["Location"])
            if url.startswith(until):
                return url
            answer = session.get(url, allow_redirects=False)
            continue
        assert answer.url.startswith(ISSUER), (answer.url, answer.status_code, answer.text)
        form = re.search(r'<form[^>]*action="([^"]+)"', answer.text).group(1)
        prompt = re.search(r'name="prompt" value="([^"]+)"', answer.text).group(1)
        fields = {"prompt": prompt, "login": name, "password": "x"}
        answer = session.post(urljoin(answer.url, form), data=fields, allow_redirects=False)
    raise AssertionError("the provider sends the browser about")


def id_token(client, name):
    """What a program has after its user signed in at the provider."""
    program = OAuth2Session(client, redirect_uri=CALLBACK, scope="openid profile",
                            code_challenge_method="S256", token_endpoint_auth_method="none")
    verifier = generate_token(48)
    url, state = program.create_authorization_url(
        known["authorization_endpoint"], code_verifier=verifier, nonce=generate_token())
    answer = walk(browser(), url, name, CALLBACK)
    tokens = program.fetch_token(known["token_endpoint"], authorization_response=answer,
                                 state=state, code_verifier=verifier)
    return tokens["id_token"]


def exchange(token, **more):
    form = {"grant_type": EXCHANGE, "client_id": "warrant", "subject_token": token,
            "subject_token_type": TYPE + "id_token",
            "requested_token_type": TYPE + "access_token", **more}
    return requests.post(f"{BASE}/oauth/token", data=form)


def api(token, path):
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{BASE}{path}", headers=headers)


# Programs show ID tokens of each algorithm, once.
for client in ["program-rs256", "program-es256", "program-eddsa"]:
    token = id_token(client, "ann")
    answer = exchange(token)
    assert answer.status_code == 200, (client, answer.text)
    given = answer.json()
    assert given["issued_token_type"] == TYPE + "access_token", given
    who = api(given["access_token"], "/v1/session").json()
    assert who["user"] == "ann" and who["role"] == "user", who
    assert api(given["access_token"], "/v1/jobs").status_code == 200
    form = {"grant_type": "refresh_token", "client_id": "warrant",
            "refresh_token": given["refresh_token"]}
    assert requests.post(f"{BASE}/oauth/token", data=form).status_code == 200
    again = exchange(token)
    assert again.json()["error"] == "invalid_grant", again.text
assert exchange(id_token("program-rs256", "ann"), scope="read").json()["scope"] == "read"

# A role that a group gives.
given = exchange(id_token("program-rs256", "olga")).json()
assert api(given["access_token"], "/v1/session").json()["role"] == "operator"

# What is for others, altered, or about somebody whose password is kept here.
refused = [
    id_token("program-of-others", "ann"),
    id_token("program-rs256", "ann")[:-4] + "AAAA",
    id_token("program-rs256", os.environ["FLUX_USER"]),
]
for token in refused:
    answer = exchange(token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), answer.text

# A browser signs in, and goes on to where it wanted.
session = browser()
page = session.get(f"{BASE}/login")
assert page.status_code == 200 and "/login/oidc/campus?" in page.text, page.text
back = walk(session, f"{BASE}/login/oidc/campus?next=%2Faccount", "bob",
            f"{BASE}/login/oidc/campus/callback")
query = parse_qs(urlsplit(back).query)
assert query["iss"] == [ISSUER] and "state" in query, back
# Nobody else's browser, and nothing that was altered on the way.
assert browser().get(back).status_code == 400
assert session.get(back).status_code == 400, "a state is good once"
for change in ["", "x"]:
    back = walk(session, f"{BASE}/login/oidc/campus", "bob", f"{BASE}/login/oidc/campus/callback")
    state = parse_qs(urlsplit(back).query)["state"][0]
    answer = session.get(back.replace(state, change))
    assert answer.status_code == 400, answer.text
back = walk(session, f"{BASE}/login/oidc/campus", "bob", f"{BASE}/login/oidc/campus/callback")
answer = session.get(back.replace("iss=", "iss=x"))
assert answer.status_code == 403, answer.text
assert session.get(f"{BASE}/v1/session").status_code == 401
back = walk(session, f"{BASE}/login/oidc/campus?next=%2Faccount", "bob",
            f"{BASE}/login/oidc/campus/callback")
answer = session.get(back, allow_redirects=False)
assert (answer.status_code, answer.headers["Location"]) == (303, "/account"), answer.text
cookies = answer.headers["Set-Cookie"]
assert "__Host-warrant=" in cookies and "__Host-warrant-oidc=;" in cookies, cookies
page = session.get(f"{BASE}/account")
assert page.status_code == 200 and "bob" in page.text
assert session.get(f"{BASE}/v1/session").json()["user"] == "bob"
for bad in ["//evil.example.org", "https://evil.example.org", "/\\evil.example.org"]:
    answer = browser().get(f"{BASE}/login/oidc/campus", params={"next": bad})
    assert answer.status_code == 400, bad
assert browser().get(f"{BASE}/login/oidc/nowhere").status_code == 404
print("every way in was taken")
