"""Every command of the published command line that can work."""

import json
import os
import subprocess

from published import until

HOST = os.environ["FLUX_RESTFUL_HOST"]


def run(*words):
    """What `flux-restful-cli` prints, where it succeeds."""
    done = subprocess.run(["flux-restful-cli", *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def answer(*words):
    return json.loads(run(*words))


def finished(jobid):
    def ended():
        info = answer("info", str(jobid))
        return info if info["state"] == "INACTIVE" else None

    return until(f"job {jobid} to end", ended)


assert run("version").strip() in ("0.2.1", "1.1.0")
assert run("--version").strip() in ("0.2.1", "1.1.0")
assert "is unset" not in run("config", "get", "host")

submitted = answer("submit", "echo", "hello", "world")
assert submitted["Message"] == "Job submit.", submitted
info = finished(submitted["id"])
assert info["result"] == "COMPLETED" and info["name"] == "echo", info
assert run("logs", str(submitted["id"])) == "hello world\n"

options = ["--num_tasks", "2", "--cores_per_task", "1", "--num_nodes", "1"]
variables = ["--env", "PIPELINE_VAR=one", "--env", "SUPERHERO=bat man"]
# An old bug of the clients' server: variables never arrived.
submitted = answer(
    "submit", *options, "--workdir", "/", *variables, "printenv", "PIPELINE_VAR", "SUPERHERO"
)
info = finished(submitted["id"])
assert (info["ntasks"], info["cwd"], info["result"]) == (2, "/", "COMPLETED"), info
lines = sorted(run("logs", str(submitted["id"])).splitlines())
assert lines == ["bat man", "bat man", "one", "one"], lines

exclusive = answer("submit", "--exclusive", "true")
assert finished(exclusive["id"])["result"] == "COMPLETED"
refused = answer("submit", "--gpus_per_task", "1", "true")
assert refused["Message"] == "Invalid submit request", refused

jobs = answer("list-jobs")["jobs"]
assert [job["id"] for job in jobs] == [
    exclusive["id"],
    submitted["id"],
    submitted["id"] - 1,
], jobs
assert len(answer("list-nodes")["nodes"]) == 1

running = answer("submit", "sleep", "300")["id"]
assert "not exist yet" in answer("logs", str(running))["Message"]
cancelled = answer("cancel", str(running))
assert cancelled == {"Message": "Job is requested to cancel.", "id": str(running)}
assert finished(running)["result"] == "CANCELED"
assert run("info", "12345").splitlines() == [
    "There is no job for that identifier.",
    "null",
]

assert answer("stop-service") is None
print("all commands work")
