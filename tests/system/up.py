"""`warrant up` as root. To be run `apart`. Each step builds on those before it.

Argument: the directory of the built programs.
"""

import grp
import os
import pwd
import secrets
import signal
import subprocess
import sys
import urllib.request

from people import Job, User, perform, run, status, until

(PROGRAMS,) = sys.argv[1:]
PLACE = run(os.path.join(os.path.dirname(__file__), "accounts"), PROGRAMS).strip()
WARRANT = f"{PLACE}/bin/warrant"
STATE = f"{PLACE}/state"
LOG = f"{PLACE}/log"
# Which account each service is, and what its name in the process list begins with.
ACCOUNTS = {
    "warrant-pam": "root",
    "warrant-shim": "root",
    "warrant-authsvc": "warrant-auth",
    "warrant-broker": "warrant",
}
CANARY = secrets.token_hex(16)
SECRET = secrets.token_hex(16)

server = {}


def children(pid):
    """The processes that this one has started, by name."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        numbers = file.read().split()
    found = {}
    for number in numbers:
        try:
            found[os.path.basename(os.readlink(f"/proc/{number}/exe"))] = int(number)
        except FileNotFoundError:
            pass  # It has ended.
    return found


def read(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read().decode()


def up(state=STATE, listen="127.0.0.1:0", options=(), **variables):
    """Start the server as root's shell would, with whatever is open there."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "CANARY": CANARY,
        "LD_BIND_NOW": "1",
        "FLUX_SECRET_KEY": SECRET,
        **variables,
    }
    words = [WARRANT, "up", "--state-dir", state, "--listen", listen, *options]
    with open(LOG, "ab") as log, open("/etc/shadow") as leaked:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            pass_fds=[leaked.fileno()], close_fds=True,
        )


def start(options=(), **variables):
    open(LOG, "w").close()
    process = server["process"] = up(options=options, **variables)

    def url():
        assert process.poll() is None, open(LOG).read()
        lines = [line for line in open(LOG) if line.startswith("Warrant is ready at ")]
        return lines and lines[0].split()[-1]

    server["url"] = until("the server to be ready", url)
    server["children"] = children(process.pid)


def refused(exit_code, **otherwise):
    """What it says when it does not start."""
    open(LOG, "w").close()
    process = up(**otherwise)
    assert process.wait(30) == exit_code, open(LOG).read()
    return open(LOG).read()


def refusals():
    """What is not safe is refused in so many words, and changes nothing."""
    assert "you are root" in refused(1, FLUX_SERVER_MODE="single-user")
    assert "must log in" in refused(1, FLUX_AUTH_BACKEND="none")
    assert "must log in" in refused(1, FLUX_REQUIRE_AUTH="false")
    assert "port 80" in refused(2, listen="127.0.0.1:80")
    open_to_all = f"{PLACE}/open"
    os.mkdir(open_to_all)
    os.chmod(open_to_all, 0o1777)
    said = refused(1, state=f"{open_to_all}/state")
    assert f"{open_to_all} can be written by others" in said, said
    os.chmod(f"{PLACE}/bin/warrant-broker", 0o775)
    assert "warrant-broker can be written by others" in refused(1)
    os.chmod(f"{PLACE}/bin/warrant-broker", 0o755)
    assert not os.path.exists(STATE)


def accounts():
    """Each service is an account with no more power than it needs."""
    start()
    assert sorted(server["children"]) == sorted(ACCOUNTS), server["children"]
    for name, pid in server["children"].items():
        account = pwd.getpwnam(ACCOUNTS[name])
        assert status(pid, "Uid") == [str(account.pw_uid)] * 4, name
        assert status(pid, "Gid") == [str(account.pw_gid)] * 4, name
        if account.pw_uid != 0:
            assert status(pid, "Groups") in ([], [str(account.pw_gid)]), name
            for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert status(pid, capabilities) == ["0" * 16], (name, capabilities)
            assert status(pid, "NoNewPrivs") == ["1"], name


def environments():
    """No service inherits a variable, a secret of another, or a descriptor."""
    for name, pid in server["children"].items():
        environment, words = read(pid, "environ"), read(pid, "cmdline")
        assert CANARY not in environment and "LD_BIND_NOW" not in environment, name
        assert SECRET not in words, name
        assert (SECRET in environment) == (name == "warrant-authsvc"), name
        opened = {}
        for number in os.listdir(f"/proc/{pid}/fd"):
            opened[number] = os.readlink(f"/proc/{pid}/fd/{number}")
        assert opened["0"] == "/dev/null", (name, opened)
        assert "/shadow" not in " ".join(opened.values()), (name, opened)


def places():
    """Every place belongs to whom it should, and no link leads out of it."""
    for path, owner, group, mode in [
        ("", "root", "root", 0o755),
        ("/shim.toml", "root", "root", 0o644),
        ("/warrant-keys", "root", "root", 0o755),
        ("/warrant-keys/authsvc.pub", "root", "root", 0o644),
        ("/secrets", "root", "root", 0o700),
        ("/shim", "root", "root", 0o700),
        ("/auth", "warrant-auth", "warrant-auth", 0o700),
        ("/broker", "warrant", "warrant", 0o700),
        ("/spool", "root", "warrant", 0o2750),
        ("/run/shim/shim.sock", "root", "warrant", 0o660),
        ("/run/auth/authsvc.sock", "warrant-auth", "warrant", 0o660),
    ]:
        found = os.lstat(STATE + path)
        is_so = (found.st_uid, found.st_gid, found.st_mode & 0o7777)
        must = (pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid, mode)
        assert is_so == must, f"{path}: {is_so} instead of {must}"


def gone(pids):
    return not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)


def jobs_live_on():
    """Jobs are their users', live on without a server, and are found again."""
    begun = []
    for name in ("alice", "bob"):
        password = open(f"{PLACE}/passwords/{name}").read().strip()
        user = User(name, password, server["url"], WARRANT)
        job = Job(user, f"{name}-job")
        job.begin()
        assert status(job.pid, "Uid") == [str(user.account.pw_uid)] * 4
        begun.append(job)
    server["process"].send_signal(signal.SIGINT)
    assert server["process"].wait(30) == 0
    assert gone(server["children"].values())
    start()
    for job in begun:
        job.user.url = server["url"]
        job.check_alive()
        assert job.info()["state"] == "RUN", job.info()
        job.end()
        job.check_ended()


def killed():
    """Killed outright, it leaves no service behind."""
    server["process"].kill()
    server["process"].wait()
    until("the services to end", lambda: gone(server["children"].values()))
    start()
    server["process"].terminate()
    assert server["process"].wait(30) == 0


def restarted():
    """A service that is killed is started again; a job goes on meanwhile."""
    start()
    password = open(f"{PLACE}/passwords/alice").read().strip()
    alice = User("alice", password, server["url"], WARRANT)
    job = Job(alice, "alice-through-kills")
    job.begin()
    for name, pid in server["children"].items():
        os.kill(pid, signal.SIGKILL)
        until(f"{name} to end", lambda: gone([pid]))
        until(f"{name} to be started again", lambda: name in children(server["process"].pid))
        until("the server to answer", lambda: answers(server["url"]))
        assert f"{name.removeprefix('warrant-')} ended unexpectedly" in open(LOG).read()
        job.check_alive()
    assert alice.run(WARRANT, "submit", "--wait", "--", "id", "-un") == "alice\n"
    job.end()
    job.check_ended()
    server["process"].terminate()
    assert server["process"].wait(30) == 0


def answers(url):
    try:
        return urllib.request.urlopen(url + "/v1/auth", timeout=2).status == 200
    except OSError:
        return False


def tls():
    """With a certificate it speaks TLS; each service has a copy of the key, and nobody else."""
    names = {name: f"{PLACE}/{name}" for name in ("c.pem", "k.pem")}
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE",
        "-keyout", names["k.pem"], "-out", names["c.pem"])
    options = ["--tls-cert", names["c.pem"], "--tls-key", names["k.pem"]]
    os.chmod(names["k.pem"], 0o640)
    assert "root alone may read it" in refused(1, options=options)
    os.chmod(names["k.pem"], 0o600)
    start(options)
    url = server["url"]
    assert url.startswith("https://127.0.0.1:"), url
    said = open(LOG).read()
    assert f"export WARRANT_CA_FILE={names['c.pem']} " in said, said
    for name, owner in [("authsvc", "warrant-auth"), ("broker", "warrant")]:
        found = os.lstat(f"{STATE}/tls/{name}.key")
        is_so = (found.st_uid, found.st_mode & 0o7777)
        assert is_so == (pwd.getpwnam(owner).pw_uid, 0o400), (name, is_so)
    os.chmod(names["c.pem"], 0o644)
    run("curl", "--fail", "--silent", "--cacert", names["c.pem"], f"{url}/v1/auth")
    password = open(f"{PLACE}/passwords/alice").read().strip()
    alice = User("alice", password, url, WARRANT)
    public = f"{alice.account.pw_dir}/c.pem"
    run("install", "-m", "0644", names["c.pem"], public)
    told = alice.run(WARRANT, "submit", "--wait", "--", "id", "-un", WARRANT_CA_FILE=public)
    assert told == "alice\n", told
    server["process"].terminate()
    assert server["process"].wait(30) == 0


def settings():
    """Variables that are named reach jobs; the files of the directory are honoured."""
    files = {
        "broker.toml": '[engine]\nenv_passthrough = ["CAMPUS"]\n',
        "authsvc.toml": '[oauth]\nurl = "https://jobs.example.org/w"\n',
    }
    for name, text in files.items():
        with open(f"{STATE}/{name}", "w") as file:
            file.write(text)
        os.chmod(f"{STATE}/{name}", 0o644)
    variables = {
        "LANG": "de_DE.UTF-8", "LC_TIME": "C", "TZ": "Asia/Tokyo", "CAMPUS": "north",
        "MPI_HOME": "/opt/mpi", "SITE_NAME": "lab", "OTHER": "hidden", "FLUX_TOKEN": CANARY,
        "FLUX_USER": "olga", "BROKER__FLUX__LEGACY_JOB": "true",
        "FLUX_JOB_ENV_PASSTHROUGH": "MPI_HOME, SITE_*, FLUX_TOKEN, BROKER__*",
    }
    start(**variables)
    environment = read(server["children"]["warrant-broker"], "environ")
    assert CANARY not in environment and "OTHER" not in environment, environment
    told = urllib.request.urlopen(server["url"] + "/.well-known/oauth-authorization-server").read()
    assert b'"https://jobs.example.org/w/oauth/token"' in told, told
    # Clients do not send a password to another server than they were given.
    server["process"].terminate()
    assert server["process"].wait(30) == 0
    os.unlink(f"{STATE}/authsvc.toml")
    start(**variables)
    password = open(f"{PLACE}/passwords/alice").read().strip()
    alice = User("alice", password, server["url"], WARRANT)
    seen = alice.warrant("submit", "--wait", "--", "env").splitlines()
    for line in ["LANG=de_DE.UTF-8", "LC_TIME=C", "TZ=Asia/Tokyo", "CAMPUS=north",
                 "MPI_HOME=/opt/mpi", "SITE_NAME=lab"]:
        assert line in seen, (line, seen)
    assert CANARY not in " ".join(seen) and "BROKER__" not in " ".join(seen), seen
    server["process"].terminate()
    assert server["process"].wait(30) == 0
    said = refused(1, BROKER__SPOOL__DIR="/tmp")
    assert "BROKER__SPOOL__DIR: `warrant up` decides this" in said, said
    with open(f"{STATE}/authsvc.toml", "w") as file:
        file.write('backends = ["none"]\n')
    assert "must log in" in refused(1)
    os.unlink(f"{STATE}/authsvc.toml")


def damaged():
    """A place with another owner or mode than it should have is not used."""
    os.chmod(f"{STATE}/spool", 0o2775)
    said = refused(1)
    assert f"{STATE}/spool must be" in said, said


STEPS = [refusals, accounts, environments, places, jobs_live_on, killed, restarted, tls, settings,
         damaged]

os.mkdir(f"{PLACE}/bin")
for program in ("warrant", *ACCOUNTS):
    run("install", "-m", "0755", f"{PROGRAMS}/{program}", f"{PLACE}/bin/")
sys.exit(perform(STEPS, lambda: open(LOG).read()))
