"""What a user does with the published Python client, on the machine of the
system test. Run as that user; prints the ids of the jobs that it submitted.

Variables: those of the client; FOREIGN, the id of somebody else's job, if there
is one; NAME, a name for files of this run.
"""

import os
import sys

sys.path.insert(0, "/test-clients")
from published import finished, get_client, submit

client = get_client()
home = os.path.expanduser("~")

# The job is the user, as the kernel says.
who = submit(client, ["id"])
assert finished(client, who)["result"] == "COMPLETED"
(words,) = client.output(who)["Output"]
user = os.environ["FLUX_USER"]
assert words.startswith(f"uid={os.getuid()}({user}) gid={os.getgid()}({user})"), words

# And so is what it makes.
name = os.environ["NAME"]
made = submit(client, ["touch", name], workdir=home)
assert finished(client, made)["result"] == "COMPLETED"
found = os.stat(os.path.join(home, name))
assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid()), found
assert found.st_mode & 0o022 == 0, oct(found.st_mode)

# It can do what the user can, and no more.
denied = submit(client, ["cat", "/etc/shadow"])
assert finished(client, denied)["result"] == "FAILED"

# Of somebody else's job there is no more to be had than of none.
foreign = os.environ.get("FOREIGN")
if foreign:
    for question in (client.jobs, client.output, client.cancel):
        answers = [repr(question(int(number))) for number in (foreign, 999_999)]
        assert answers[0].replace(foreign, "999999") == answers[1], answers
    listed = [job["id"] for job in client.jobs()["jobs"]]
    assert int(foreign) not in listed, listed
    found = client.search("id")
    assert int(foreign) not in [job["id"] for job in found["data"]], found

# What the client says of refusals comes before.
print(who, made, denied)
