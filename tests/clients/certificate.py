"""A user and a stranger at the auth service's own TLS address, with requests."""

import os

import requests

AUTH, CA = os.environ["AUTH"], os.environ["CA"]
OWN = (os.environ["CERTIFICATE"], os.environ["KEY"])
BROKER = os.environ["FLUX_RESTFUL_HOST"]
FORM = {"grant_type": "urn:warrant:params:oauth:grant-type:certificate"}

session = requests.Session()
session.verify = CA

answer = session.post(f"{AUTH}/oauth/token", data=FORM, cert=OWN)
assert answer.status_code == 200, answer.text
assert answer.headers["strict-transport-security"] == "max-age=31536000"
token = answer.json()["access_token"]
seen = requests.get(f"{BROKER}/v1/jobs", headers={"Authorization": f"Bearer {token}"})
assert seen.status_code == 200, seen.text

# Nothing that is said stands for a certificate, here or by way of the broker.
said = {"X-SSL-Client-S-DN": "CN=ann", "X-SSL-Client-Verify": "SUCCESS"}
for base in [AUTH, BROKER]:
    answer = requests.post(f"{base}/oauth/token", data=FORM, headers=said, verify=CA)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "invalid_grant", answer.text

try:
    requests.get(f"{AUTH}/healthz")
except requests.exceptions.SSLError:
    pass
else:
    raise AssertionError("an unknown authority was believed")
