"""What the system tests have in common: commands, users who submit jobs, and
steps that are taken one after the other."""

import json
import os
import pwd
import subprocess
import sys
import time
import traceback

PATIENCE_S = 30


def run(*words, **options):
    """Run a command; what it prints. It must succeed."""
    done = subprocess.run(
        words, text=True, capture_output=True, timeout=90, stdin=subprocess.DEVNULL, **options
    )
    if done.returncode != 0:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def until(what, probe):
    """Ask `probe` again and again until it answers something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain: " + what)


def status(pid, field):
    """The words of a field of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        (line,) = [line for line in file if line.startswith(field + ":")]
    return line.split()[1:]


class User:
    """An account that has the means to log in."""

    def __init__(self, name, password, url, program="warrant"):
        self.account = pwd.getpwnam(name)
        self.name, self.password, self.url, self.program = name, password, url, program

    def run(self, *words, **variables):
        """Run a command as this user."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": self.account.pw_dir,
            "FLUX_RESTFUL_HOST": self.url,
            "FLUX_USER": self.name,
            "FLUX_TOKEN": self.password,
            **variables,
        }
        return run(
            *words,
            env=environment,
            cwd=self.account.pw_dir,
            user=self.account.pw_uid,
            group=self.account.pw_gid,
            extra_groups=self.groups(),
        )

    def warrant(self, *words):
        """Use the command line of the product as this user."""
        return self.run(self.program, *words)

    def groups(self):
        return os.getgrouplist(self.name, self.account.pw_gid)


class Job:
    """A job that goes on until it is told to end."""

    SCRIPT = 'echo $$ > "$1.pid"; until [ -e "$1.end" ]; do sleep 0.1; done; id -un'

    def __init__(self, user, name):
        self.user, self.name = user, name
        self.path = os.path.join(user.account.pw_dir, name)
        words = ["sh", "-c", self.SCRIPT, "job", self.path]
        self.id = int(user.warrant("submit", "--", *words))
        self.begun = None

    def info(self):
        return json.loads(self.user.warrant("info", str(self.id), "--json"))

    def begin(self):
        """Wait until it runs; remember which process it is."""

        def pid():
            try:
                with open(self.path + ".pid") as file:
                    return file.read().strip()
            except FileNotFoundError:
                return None

        self.pid = int(until(f"{self.name} to begin", pid))
        self.begun = self.birth()

    def has_begun(self):
        return os.path.exists(self.path + ".pid")

    def birth(self):
        """When its process began, in ticks; None when it is gone."""
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[19]
        except FileNotFoundError:
            return None

    def check_alive(self):
        assert self.begun and self.birth() == self.begun, f"{self.name} is gone"

    def end(self):
        """Let it end by itself."""
        with open(self.path + ".end", "w"):
            pass

    def check_ended(self):
        """See that it ended well, once, and was its user's."""

        def ended():
            info = self.info()
            return info if info["state"] == "INACTIVE" else None

        info = until(f"{self.name} to end", ended)
        assert info["result"] == "COMPLETED" and info["returncode"] == 0, info
        output = self.user.warrant("logs", str(self.id))
        assert output == self.user.name + "\n", output


def perform(steps, more):
    """Take the steps, up to the first that fails; then print what `more` gives
    as well. The exit code of the process."""
    for step in steps:
        began = time.monotonic()
        try:
            step()
        except Exception:
            print(f"FAILED: {step.__doc__}")
            traceback.print_exc(file=sys.stdout)
            print(more())
            return 1
        print(f"  ok {time.monotonic() - began:6.2f} s  {step.__doc__}")
    return 0
