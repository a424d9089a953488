"""Every method of the published client, as its documentation describes it."""

from published import finished, get_client, submit, until

# The very first request: 401, token, and the submission again. The older
# client repeats it as a JSON body without a query.
client = get_client()
jobid = submit(client, "echo hello world", workdir="/tmp")
info = finished(client, jobid)
assert info["result"] == "COMPLETED" and info["cwd"] == "/tmp", info
assert info["returncode"] == 0 and info["id"] == jobid, info
assert len(info) > 20, info
assert client.output(jobid) == {"Output": ["hello world\n"]}

# The same with every option, as the first request and as a later one.
for client in [get_client(), client]:
    jobid = submit(
        client,
        ["printenv", "A", "B"],
        num_tasks=2,
        cores_per_task=1,
        num_nodes=1,
        exclusive=False,
        is_launcher=False,
        option_flags={"verbose": "1", "x.y": "z"},
        workdir="/",
        envars={"A": "one", "B": "x 'y' \"z\""},
    )
    info = finished(client, jobid)
    assert info["result"] == "COMPLETED", info
    assert (info["ntasks"], info["ncores"], info["cwd"]) == (2, 2, "/"), info
    lines = client.output(jobid)["Output"]
    assert sorted(lines) == ["one\n", "one\n"] + ["x 'y' \"z\"\n"] * 2, lines

# Lists joined with spaces, numbers among them.
jobid = submit(client, ["sleep", 0])
assert finished(client, jobid)["name"] == "sleep"

nodes = client.list_nodes()
assert list(nodes) == ["nodes"] and len(nodes["nodes"]) == 1, nodes

# What is refused, and how.
answer = client.submit("true", gpus_per_task=1)
assert answer["Errors"] == [
    "This server does not support gpus: gpus_per_task cannot be set."
], answer
answer = client.submit("true", num_nodes=5)
assert answer["Errors"] == ["The server only has 1 nodes, you requested 5"], answer
answer = client.submit("true", is_launcher=True)
assert answer == {"Message": "true is not a known launcher. ", "id": "MANY"}, answer
assert client.submit("")["Message"] == "A 'command' is minimally required."
answer = client.submit("echo 'open")
assert answer["Error"] == "No closing quotation", answer

# Lists.
jobs = client.jobs()
ids = [job["id"] for job in jobs["jobs"]]
assert len(ids) == 4 and ids == sorted(ids, reverse=True), jobs
details = client.jobs(detail=True)
assert sorted(map(int, details)) == sorted(ids)
assert details[str(jobid)]["state"] == "INACTIVE"
listing = client.jobs(detail=True, listing=True)
assert [job["id"] for job in listing] == ids
assert client.jobs(12345) is None

# Search.
found = client.search("printenv")
assert [job["name"] for job in found["data"]] == ["printenv", "printenv"], found
assert (found["recordsTotal"], found["recordsFiltered"], found["draw"]) == (4, 2, 1)
page = client.search(start=1, length=2)
assert [job["id"] for job in page["data"]] == ids[1:3], page

# Running, cancelled.
jobid = submit(client, "sleep 300")
until("the job to run", lambda: client.jobs(jobid)["state"] == "RUN")
assert "not exist yet" in client.output(jobid)["Message"]
assert client.cancel(jobid)["Message"] == "Job is requested to cancel."
assert finished(client, jobid)["result"] == "CANCELED"
again = client.cancel(jobid)["Message"]
assert again == "Job cannot be cancelled: [Errno 2] job is inactive.", again

# The client cannot follow output (it fails before it asks); its session can.
jobid = submit(client, "sh -c 'seq 1 3; sleep 0.2; echo end'")
url = f"{client.host}/v1/jobs/{jobid}/output/stream"
with client.session.stream("GET", url, headers=client.headers) as response:
    assert response.status_code == 200
    assert list(response.iter_lines()) == ["1", "2", "3", "end"]

# A token that does not count any more is replaced.
client.set_bearer_auth("stale")
jobid = submit(client, "echo stale")
assert finished(client, jobid)["result"] == "COMPLETED"

# Basic authentication does as well.
client = get_client()
client.set_basic_auth(client.user, client.token)
assert len(client.list_nodes()["nodes"]) == 1

assert client.stop_service() is None
print("all methods work")
