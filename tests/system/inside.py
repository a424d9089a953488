"""The installed package on a machine of its own: run as root by systemd, on the
machine of the system test. Each step builds on those before it."""

import base64
import grp
import hmac
import itertools
import json
import os
import pwd
import re
import secrets
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import directory
from people import Job, User, perform, run, status, until

URL = "http://127.0.0.1:5000"
FIRST, SECOND = sorted(
    os.path.join("/packages", name) for name in os.listdir("/packages")
)
SERVICES = ["warrant-shim", "warrant-pam", "warrant-authsvc", "warrant-broker"]
PASSWORDS = {name: secrets.token_urlsafe(16) for name in ("alice", "bob", "root")}
# How exposed a service may be, by `systemd-analyze security` (0 to 10). The shim
# starts users' jobs, which must not inherit its walls.
EXPOSURE = {"warrant-authsvc": 2.0, "warrant-broker": 2.5, "warrant-pam": 5.0}


def answering():
    """Whether the broker answers."""
    try:
        return urllib.request.urlopen(URL + "/v1/auth", timeout=2).status == 200
    except OSError:
        return False


def login(name, password):
    """The status that a login is answered with."""
    form = urllib.parse.urlencode({"username": name, "password": password}).encode()
    try:
        return urllib.request.urlopen(URL + "/v1/login/access-token", form, timeout=30).status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def show(unit, name):
    """A property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


users = {}
jobs = {}
# Secrets that a service was given besides.
SEEN_SECRETS = []


def install():
    """The package installs, and every service runs."""
    run("dpkg", "--install", FIRST)
    for service in SERVICES[:1] + SERVICES[2:]:
        assert show(service, "ActiveState") == "active"
    for unit in SERVICES + ["warrant-shim.socket", "warrant-pam.socket"]:
        assert "/etc/systemd" not in run("systemctl", "cat", unit)
    until("the broker to answer", answering)
    failed = run("systemctl", "--failed", "--plain", "--no-legend")
    assert "warrant" not in failed, failed


def configure():
    """The administrator's settings are taken, and there are two users."""
    with open("/etc/warrant/broker.toml", "a") as file:
        file.write("\n# Ours.\n[engine]\ncores = 2\n")
    text = open("/etc/warrant/broker.toml").read().replace("\n[engine]\n#", "\n#", 1)
    with open("/etc/warrant/broker.toml", "w") as file:
        file.write(text)
    run("systemctl", "restart", "warrant-broker")
    until("the broker to answer", answering)
    for name in ("alice", "bob"):
        run("useradd", "--create-home", "--shell", "/bin/sh", name)
    lines = "".join(f"{name}:{password}\n" for name, password in PASSWORDS.items())
    subprocess.run(["chpasswd"], input=lines, text=True, check=True, timeout=30)
    for name in ("alice", "bob"):
        users[name] = User(name, PASSWORDS[name], URL)


def places():
    """Every place belongs to whom it should, and to nobody else."""
    for path, owner, group, mode in [
        ("/run/warrant-shim/shim.sock", "root", "warrant", 0o660),
        ("/run/warrant-pam/pam.sock", "root", "warrant-auth", 0o660),
        ("/run/warrant-auth/authsvc.sock", "warrant-auth", "warrant", 0o660),
        ("/var/spool/warrant", "root", "warrant", 0o2750),
        ("/var/lib/warrant", "warrant", "warrant", 0o700),
        ("/var/lib/warrant-auth", "warrant-auth", "warrant-auth", 0o700),
        ("/var/lib/warrant-shim", "root", "root", 0o700),
        ("/etc/warrant/shared-secret", "root", "warrant-auth", 0o640),
        ("/etc/warrant/warrant-keys/authsvc.pub", "root", "root", 0o644),
    ]:
        found = os.lstat(path)
        is_so = (found.st_uid, found.st_gid, found.st_mode & 0o7777)
        must = (pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid, mode)
        assert is_so == must, f"{path}: {is_so} instead of {must}"
    for service, account in [("shim", "root"), ("authsvc", "warrant-auth"), ("broker", "warrant")]:
        pid = show(f"warrant-{service}", "MainPID")
        owner = os.stat(f"/proc/{pid}").st_uid
        assert owner == pwd.getpwnam(account).pw_uid, f"{service} runs as {owner}"
    for path in ("/run/warrant-shim/shim.sock", "/run/warrant-pam/pam.sock",
                 "/run/warrant-auth/authsvc.sock"):
        knock = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        done = subprocess.run(
            ["python3", "-c", knock], user="alice", group="alice", extra_groups=[],
            capture_output=True, text=True, timeout=30,
        )
        assert "PermissionError" in done.stderr, f"{path}: {done.stderr}"


def logins():
    """A login takes an account's password, and root has none."""
    assert login("alice", PASSWORDS["alice"]) == 200
    for name, password in [
        ("alice", PASSWORDS["bob"]),
        ("root", PASSWORDS["root"]),
        ("nobody", "x"),
        ("no-such-user", "x"),
    ]:
        assert login(name, password) == 400, name


def clients():
    """Both published clients run jobs as each user, who sees only their own."""
    secret = open("/etc/warrant/shared-secret").read()
    seen = {"alice": set(), "bob": set()}
    for client in ("old", "new"):
        for user, other in (("alice", "bob"), ("bob", "alice")):
            foreign = {"FOREIGN": str(max(seen[other]))} if seen[other] else {}
            ids = users[user].run(
                "python3", "/test/client.py", PYTHONPATH=f"/clients/{client}",
                PYTHONDONTWRITEBYTECODE="1", FLUX_SECRET_KEY=secret, NAME=f"made-{client}",
                **foreign,
            )
            seen[user].update(map(int, ids.splitlines()[-1].split()))
    for user, ids in seen.items():
        listed = json.loads(users[user].warrant("jobs", "--all", "--json"))
        numbers = set(map(int, re.findall(r'"id": ?(\d+)', json.dumps(listed))))
        assert numbers == ids, f"{user} sees {numbers} instead of {ids}"


def handshake(name, password, secret):
    """The status that a login payload, encoded with a secret, is answered with."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"user": name, "pass": password, "scope": "token"}
    text = ".".join(part(json.dumps(p).encode()) for p in ({"alg": "HS256", "typ": "JWT"}, claims))
    text += "." + part(hmac.digest(secret.encode(), text.encode(), "sha256"))
    head = {"Authorization": f"Bearer {text}"}
    request = urllib.request.Request(URL + "/v1/token", data=b"", headers=head)
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def credentials():
    """A secret and a key of TLS that only root can read reach the service as credentials."""
    old, new = open("/etc/warrant/shared-secret").read(), secrets.token_urlsafe(32)
    assert handshake("alice", PASSWORDS["alice"], old) == 200
    place = "/root/only"
    os.mkdir(place, 0o700)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", f"{place}/key.pem", "-out", "/etc/warrant/certificate.pem")
    with open(f"{place}/secret", "w") as file:
        file.write(new)
    for name in ("key.pem", "secret"):
        os.chmod(f"{place}/{name}", 0o600)
    os.chmod("/etc/warrant/certificate.pem", 0o644)
    drop_in = "/etc/systemd/system/warrant-authsvc.service.d"
    os.mkdir(drop_in)
    with open(f"{drop_in}/credentials.conf", "w") as file:
        file.write(f"[Service]\nLoadCredential=shared-secret:{place}/secret\n"
                   f"LoadCredential=tls.key:{place}/key.pem\n")
    before = text = open("/etc/warrant/authsvc.toml").read()
    for line, now in [
        ('shared_secret_file = "/etc/warrant/shared-secret"',
         'shared_secret_file = "credential:shared-secret"'),
        ('#tcp = ""', 'tcp = "127.0.0.1:5443"'),
        ('#certificate = ""', 'certificate = "/etc/warrant/certificate.pem"'),
        ('#key = ""', 'key = "/run/credentials/warrant-authsvc.service/tls.key"'),
        ('#url = "http://127.0.0.1:5000"', 'url = "https://127.0.0.1:5443"'),
    ]:
        assert f"\n{line}\n" in text, line
        text = text.replace(f"\n{line}\n", f"\n{now}\n", 1)

    def restart(text):
        with open("/etc/warrant/authsvc.toml", "w") as file:
            file.write(text)
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "warrant-authsvc")
        until("a login", lambda: login("alice", PASSWORDS["alice"]) == 200)

    restart(text)
    assert handshake("alice", PASSWORDS["alice"], new) == 200
    assert handshake("alice", PASSWORDS["alice"], old) == 400
    trust = ssl.create_default_context(cafile="/etc/warrant/certificate.pem")
    address = "https://127.0.0.1:5443/v1/auth"
    assert urllib.request.urlopen(address, timeout=30, context=trust).status == 200
    for account in ("warrant-auth", "warrant", "alice"):
        for name in (f"{place}/secret", f"{place}/key.pem"):
            done = subprocess.run(["cat", name], user=account, capture_output=True, timeout=30)
            assert done.returncode != 0, f"{account} reads {name}"
    credential = "/run/credentials/warrant-authsvc.service/tls.key"
    for account in ("warrant", "alice"):
        done = subprocess.run(["cat", credential], user=account, group=account, extra_groups=[],
                              capture_output=True, timeout=30)
        assert done.returncode != 0, f"{account} reads {credential}"
    SEEN_SECRETS.append(new)
    run("rm", "-r", drop_in, place, "/etc/warrant/certificate.pem")
    restart(before)
    assert handshake("alice", PASSWORDS["alice"], old) == 200


def running():
    """A running job is its user's in every respect, in a group of its own."""
    for user in ("alice", "bob"):
        jobs[user] = Job(users[user], user + "-first")
        jobs[user].begin()
    for user, job in jobs.items():
        account = pwd.getpwnam(user)
        assert status(job.pid, "Uid") == [str(account.pw_uid)] * 4
        assert status(job.pid, "Gid") == [str(account.pw_gid)] * 4
        groups = sorted(map(str, users[user].groups()))
        assert sorted(status(job.pid, "Groups")) == groups, status(job.pid, "Groups")
        assert status(job.pid, "CapEff") == status(job.pid, "CapPrm") == ["0" * 16]
        assert status(job.pid, "NoNewPrivs") == ["1"]
        (keeper,) = status(job.pid, "PPid")
        assert status(keeper, "Uid") == [str(pwd.getpwnam("warrant-keeper").pw_uid)] * 4
        assert status(keeper, "Groups") == []
        with open(f"/proc/{job.pid}/cgroup") as file:
            (group,) = [line.strip() for line in file if line.startswith("0::")]
        assert re.fullmatch(r"0::/warrant\.slice/warrant-shim-jobs/\d+\.\d+\.\d+", group), group
        assert os.readlink(f"/proc/{job.pid}/ns/mnt") == os.readlink("/proc/1/ns/mnt")
    # Both cores are taken: one more has to wait, and must not be forgotten.
    jobs["waiting"] = Job(users["bob"], "bob-second")
    assert jobs["waiting"].info()["state"] != "RUN"


def check_jobs():
    for name in ("alice", "bob"):
        jobs[name].check_alive()
        assert jobs[name].info()["state"] == "RUN", jobs[name].info()
    assert not jobs["waiting"].has_begun()


def restarts():
    """Every unit is restarted, and killed, while jobs run; none is lost."""
    for service in SERVICES:
        run("systemctl", "restart", service)
        until("the broker to answer", answering)
        until("a login", lambda: login("alice", PASSWORDS["alice"]) == 200)
        check_jobs()
        run("systemctl", "kill", "--signal=KILL", "--kill-who=main", service)
        until(f"{service} to come back", lambda: show(service, "ActiveState") == "active")
        until("the broker to answer", answering)
        until("a login", lambda: login("alice", PASSWORDS["alice"]) == 200)
        check_jobs()


class Submissions(threading.Thread):
    """Somebody who submits without a pause, whatever is restarted."""

    def __init__(self, user):
        super().__init__(daemon=True)
        self.user, self.over = user, threading.Event()
        self.ids, self.refused, self.slowest_s = [], 0, 0.0
        form = urllib.parse.urlencode({"username": user.name, "password": user.password})
        answer = urllib.request.urlopen(URL + "/v1/login/access-token", form.encode(), timeout=30)
        self.token = json.load(answer)["access_token"]

    def submit(self):
        """The id of a new job; None where it is refused for now."""
        head = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(
            URL + "/v1/jobs/submit?command=true", data=b"", headers=head
        )
        begun = time.monotonic()
        try:
            return json.load(urllib.request.urlopen(request, timeout=30))["id"]
        except urllib.error.HTTPError as refusal:
            assert refusal.code == 503, refusal.read()
        except OSError:
            pass
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
        return None

    def run(self):
        while not self.over.wait(0.05):
            job = self.submit()
            if job is None:
                self.refused += 1
            else:
                self.ids.append(job)


def every_order():
    """Reloads, then restarts of every unit in every order, while jobs run and somebody submits."""
    submissions = Submissions(users["alice"])
    submissions.start()
    for order in itertools.permutations(SERVICES):
        run("systemctl", "reload", "warrant-shim")
        for service in order:
            run("systemctl", "reset-failed")
            run("systemctl", "restart", service)
        taken = len(submissions.ids)
        until(f"jobs to be taken after {order}", lambda: len(submissions.ids) > taken + 1)
        check_jobs()
    for service in SERVICES:
        assert show(service, "NRestarts") == "0", f"{service} ended by itself"
        assert show(service, "WatchdogUSec") == "30s", service
    submissions.over.set()
    submissions.join()
    print(f"    {len(submissions.ids)} jobs taken, {submissions.refused} refused, the slowest"
          f" answer after {submissions.slowest_s:.1f} s")
    jobs["many"] = submissions.ids


def hang():
    """A service that hangs is ended by its watchdog, and the journal tells."""
    run("mkdir", "-p", "/run/systemd/system/warrant-shim.service.d")
    with open("/run/systemd/system/warrant-shim.service.d/test.conf", "w") as file:
        file.write("[Service]\nWatchdogSec=2\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "warrant-shim")
    before = show("warrant-shim", "MainPID")
    run("kill", "-STOP", before)
    until("another monitor", lambda: show("warrant-shim", "MainPID") not in (before, "0")
          and show("warrant-shim", "ActiveState") == "active")
    assert "atchdog" in run("journalctl", "--quiet", "-u", "warrant-shim", "-o", "cat")
    run("rm", "-r", "/run/systemd/system/warrant-shim.service.d")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "warrant-shim")
    check_jobs()


def upgrade():
    """The package is upgraded in place while jobs run."""
    before = {service: show(service, "MainPID") for service in SERVICES}
    run("dpkg", "--install", SECOND)
    until("the broker to answer", answering)
    for service in SERVICES:
        assert show(service, "MainPID") != before[service], f"{service} is still the old one"
    assert "# Ours." in open("/etc/warrant/broker.toml").read()
    check_jobs()


def ends():
    """Jobs that have lived through all that end well, and the one that waited runs."""
    jobs["alice"].end()
    jobs["alice"].check_ended()
    jobs["waiting"].begin()
    for name in ("bob", "waiting"):
        jobs[name].end()
        jobs[name].check_ended()
    ids = set(jobs.pop("many"))

    def left():
        listed = json.loads(users["alice"].warrant("jobs", "--all", "--json"))
        listed = listed if isinstance(listed, list) else listed["jobs"]
        ended = {job["id"] for job in listed if job["state"] == "INACTIVE" and job["returncode"] == 0}
        return ids - ended

    until("every job that was taken to end", lambda: not left())


def documents():
    """What the package's documents name is there, and the commands in them work."""
    place = "/usr/share/doc/warrant"
    pages = [os.path.join(folder, name) for folder, _, names in os.walk(place)
             for name in names if name.endswith(".md")]
    assert f"{place}/README.md" in pages and f"{place}/docs/OPERATIONS.md" in pages, pages
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", open(page).read()):
            target = os.path.join(os.path.dirname(page), link)
            assert os.path.exists(target), f"{page} leads to {link}"
    said = run("warrant", "audit", "verify")
    assert "authsvc: " in said and "broker: " in said, said


def removal():
    """The package is removed while a job runs, and installed again."""
    job = Job(users["alice"], "alice-last")
    job.begin()
    run("dpkg", "--remove", "warrant")
    job.check_alive()
    assert not os.path.exists("/usr/bin/warrant")
    job.end()
    until("the job to end without a server", lambda: job.birth() is None)
    run("dpkg", "--install", SECOND)
    until("the broker to answer", answering)
    job.check_ended()
    listed = users["bob"].warrant("jobs", "--all", "--json")
    assert json.loads(listed), "bob's jobs are gone"


def proxy():
    """Behind the proxy, logins work while the broker is away: they do not pass it."""
    doc = "/usr/share/doc/warrant/nginx"
    names = {
        "/etc/ssl/certs/jobs.example.org.pem": "/root/jobs.pem",
        "/etc/ssl/private/jobs.example.org.key": "/root/jobs.key",
    }
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=jobs.example.org", "-keyout", "/root/jobs.key", "-out", "/root/jobs.pem")
    text = open(f"{doc}/warrant.conf").read()
    for placeholder, name in names.items():
        text = text.replace(placeholder, name)
    with open("/etc/nginx/sites-enabled/warrant.conf", "w") as file:
        file.write(text)
    for name, section, setting in [
        ("broker", "[listen]", 'socket = "/run/warrant/broker.sock"'),
        ("broker", "[listen]", 'public_url = "https://jobs.example.org"'),
        ("authsvc", "[oauth]", 'url = "https://jobs.example.org"'),
    ]:
        path = f"/etc/warrant/{name}.toml"
        settings = open(path).read()
        assert settings.count(section + "\n") == 1, path
        with open(path, "w") as file:
            file.write(settings.replace(section + "\n", f"{section}\n{setting}\n"))
    run("cp", f"{doc}/warrant-nginx.conf", "/etc/tmpfiles.d/")
    run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/warrant-nginx.conf")
    run("systemctl", "restart", "warrant-authsvc", "warrant-broker", "nginx")
    until("the broker to answer", answering)
    https = ssl.create_default_context()
    https.check_hostname, https.verify_mode = False, ssl.CERT_NONE

    def status(path, form=None):
        try:
            return urllib.request.urlopen(
                "https://127.0.0.1" + path, form, timeout=30, context=https
            ).status
        except urllib.error.HTTPError as refusal:
            return refusal.code

    form = urllib.parse.urlencode({"username": "bob", "password": PASSWORDS["bob"]}).encode()
    assert status("/v1/jobs") == 401
    run("systemctl", "stop", "warrant-broker")
    assert status("/v1/jobs") == 502
    assert status("/v1/login/access-token", form) == 200
    run("systemctl", "start", "warrant-broker")
    until("the broker to answer", answering)


def journal():
    """The journal tells what happened, and no password."""
    for service in SERVICES:
        assert run("journalctl", "--quiet", "--no-pager", "-u", service).strip(), service
    everything = run("journalctl", "--quiet", "--no-pager", "--output=export", errors="replace")
    secret = open("/etc/warrant/shared-secret").read()
    for word in [*PASSWORDS.values(), *SEEN_SECRETS, directory.PASSWORD, secret]:
        assert word not in everything, "a secret is in the journal"


def scores():
    """The services are walled in as far as they should be."""
    for service in SERVICES:
        text = run("systemd-analyze", "security", "--no-pager", service)
        (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", text)
        print(f"    {service}: {score}")
        assert float(score) <= EXPOSURE.get(service, 10), text


def purge():
    """A purge leaves the users, and nothing of ours but two accounts."""
    run("dpkg", "--purge", "warrant")
    for path in ("/etc/warrant", "/var/lib/warrant", "/var/lib/warrant-auth",
                 "/var/lib/warrant-shim", "/var/spool/warrant", "/etc/pam.d/warrant"):
        assert not os.path.lexists(path), path
    assert os.path.exists("/home/alice/made-new")
    pwd.getpwnam("alice"), pwd.getpwnam("warrant")


STEPS = [install, configure, places, documents, logins, clients, credentials, running, restarts,
         every_order, hang, upgrade, ends,
         removal, *directory.STEPS, proxy, journal, scores, purge]


def said():
    """The last that the services wrote."""
    return run("journalctl", "--quiet", "--no-pager", "-n", "60", "-u", "warrant-*", "-o", "cat")


sys.exit(perform(STEPS, said))
