"""What the clients' own published tests do, against a server without jobs."""

from published import finished, get_client, submit, until

client = get_client()

# Listing nodes.
assert len(client.list_nodes()["nodes"]) == 1

# Submitting and listing.
assert client.jobs() == {"jobs": []}
jobid = submit(client, "sleep 0.5")
assert [job["id"] for job in client.jobs()["jobs"]] == [jobid]

# Cancelling.
jobid = submit(client, "sleep 10")
assert "requested to cancel" in client.cancel(jobid)["Message"]
finished(client, jobid)
assert "cannot be cancelled" in client.cancel(jobid)["Message"]

# Output, with letters beyond ASCII in the query.
jobid = submit(client, "echo pancakes 🥞️🥞️🥞️")
lines = until("output", lambda: client.output(jobid).get("Output"))
assert "pancakes 🥞️🥞️🥞️\n" in lines, lines

# Option flags.
answer = client.submit("sleep 1", option_flags={"-ompi": "noodles"})
assert "keys without -o" in answer["Errors"][0], answer

# Search.
for _ in range(5):
    client.submit("sleep 0.1")
answer = client.search()
total = answer["recordsTotal"]
assert {"recordsTotal", "recordsFiltered", "draw", "data"} <= set(answer)
assert len(answer["data"]) == total == 8
answer = client.search(start=1)
assert (answer["recordsFiltered"], answer["recordsTotal"]) == (total - 1, total)
answer = client.search(start=1, length=3)
assert (answer["recordsFiltered"], answer["recordsTotal"]) == (3, total)
print("the published tests' steps work")
