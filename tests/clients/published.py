"""The published Python client, whichever is installed, and how to wait."""

import time

try:
    from flux_restful_client.main import get_client
except ImportError:
    from flux_restful.client.main import get_client

PATIENCE_S = 60


def until(what, probe):
    """Ask `probe` again and again until it answers something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain: " + what)


def finished(client, jobid):
    """The job object once the job has ended."""

    def ended():
        info = client.jobs(jobid)
        return info if info["state"] == "INACTIVE" else None

    return until(f"job {jobid} to end", ended)


def submit(client, command, **options):
    """Submit, and return the job's id."""
    answer = client.submit(command, **options)
    assert answer["Message"] == "Job submit.", answer
    assert isinstance(answer["id"], int), answer
    return answer["id"]
