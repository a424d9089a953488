"""What the published clients do when they are not let in: never loop."""

import os

from published import get_client

OLD = os.environ["CLIENT"] == "old"


def refused(**credentials):
    client = get_client(**credentials)
    try:
        return client.list_nodes()
    except AttributeError as error:
        # The older client stumbles over its own words when it is refused.
        assert OLD and "reason" in str(error), error
        return {"detail": "Not authenticated"}


for credentials in [
    {"token": "wrong"},
    {"user": "nobody"},
    {"secret_key": "wrong"},
]:
    assert refused(**credentials) == {"detail": "Not authenticated"}, credentials

del os.environ["FLUX_SECRET_KEY"]
try:
    get_client().list_nodes()
except SystemExit as exit:
    assert str(exit) == "Cannot generate header without secret key"
else:
    raise AssertionError("the client goes on without a secret")
print("no client gets in or loops")
