"""People in a directory (slapd, asked by nslcd) that stalls while
their jobs wait, start and run. For the machine of the system test."""

import grp
import json
import os
import pwd
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from people import Job, User, run, until

URL = "http://127.0.0.1:5000"
BASE = "dc=example,dc=org"
# As directories have them.
NAME, UID = "CORP-Carol.Smith@example.org", 1_000_000_123
PASSWORD = secrets.token_urlsafe(16)

SLAPD = f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/directory/slapd.pid
database mdb
suffix "{BASE}"
directory /run/directory/data
"""
PEOPLE = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: uid={NAME},{BASE}
objectClass: account
objectClass: posixAccount
uid: {NAME}
cn: Carol
uidNumber: {UID}
gidNumber: {UID}
homeDirectory: /home/carol
loginShell: /bin/sh
userPassword: {PASSWORD}

dn: cn=Domain Users,{BASE}
objectClass: posixGroup
cn: Domain Users
gidNumber: {UID}
"""
NSLCD = f"""
uid nslcd
gid nslcd
uri ldap://127.0.0.1:3389/
base {BASE}
bind_timelimit 3
timelimit 3
idle_timelimit 60
reconnect_sleeptime 1
reconnect_retrytime 2
"""

server = None


def write(path, text, mode=0o644):
    with open(path, "w") as file:
        file.write(text.lstrip())
    os.chmod(path, mode)


def start_slapd():
    global server
    words = ["slapd", "-d", "0", "-f", "/run/directory/slapd.conf", "-h", "ldap://127.0.0.1:3389/"]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL)


def known():
    try:
        return pwd.getpwnam(NAME).pw_uid == UID
    except (KeyError, OSError):
        return False


def set_up():
    """Accounts come from a directory, with names and user ids as those have them."""
    os.makedirs("/run/directory/data", 0o755)
    write("/run/directory/slapd.conf", SLAPD, 0o600)
    subprocess.run(["slapadd", "-f", "/run/directory/slapd.conf"], input=PEOPLE.lstrip(),
                   text=True, check=True, timeout=60, capture_output=True)
    start_slapd()
    write("/etc/nslcd.conf", NSLCD, 0o640)
    os.chown("/etc/nslcd.conf", 0, grp.getgrnam("nslcd").gr_gid)
    text = open("/etc/nsswitch.conf").read().splitlines()
    text = [line for line in text if line.split(":")[0] not in ("passwd", "group", "shadow")]
    text += ["passwd: files systemd ldap", "group: files systemd ldap", "shadow: files"]
    write("/etc/nsswitch.conf", "\n".join(text) + "\n")
    run("systemctl", "restart", "nslcd")
    until("the directory to be asked", known)
    assert grp.getgrnam("Domain Users").gr_gid == UID
    os.makedirs("/home/carol", 0o700, exist_ok=True)
    os.chown("/home/carol", UID, UID)


def log_in(password=PASSWORD):
    """The status of a login, what it says, and how long it took."""
    form = urllib.parse.urlencode({"username": NAME, "password": password}).encode()
    began = time.monotonic()
    try:
        answer = urllib.request.urlopen(URL + "/v1/login/access-token", form, timeout=60)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    body = json.loads(answer.read())
    return answer.status, body.get("detail"), time.monotonic() - began


def token():
    form = urllib.parse.urlencode({"username": NAME, "password": PASSWORD}).encode()
    answer = urllib.request.urlopen(URL + "/v1/login/access-token", form, timeout=60)
    return json.loads(answer.read())["access_token"]


def submit(bearer, command):
    """The status of a submit, and its answer's text."""
    request = urllib.request.Request(
        URL + "/v1/jobs/submit",
        json.dumps({"command": command}).encode(),
        {"Authorization": "Bearer " + bearer, "Content-Type": "application/json"},
    )
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    return answer.status, answer.read().decode()


def carol():
    return User(NAME, PASSWORD, URL)


def works():
    """They log in with the directory's password, and jobs are theirs."""
    assert log_in("wrong")[:2] == (400, "Incorrect user or password"), log_in("wrong")
    job = Job(carol(), "in-directory")
    job.begin()
    assert os.stat(f"/proc/{job.pid}").st_uid == UID
    job.end()
    job.check_ended()


def check_unavailable(bearer):
    """Nobody is told that the auth service is away, or that the password is wrong."""
    status, said, took = log_in()
    assert status == 503 and took < 35, (status, said, took)
    assert "directory of accounts" in said or "password checker" in said, said
    # What the auth service knows of the account is at most five seconds old.
    def refused():
        status, said = submit(bearer, ["true"])
        return said if status != 200 else None

    said = until("a submit to be refused", refused)
    assert "directory of accounts" in said and "no such account" not in said, said


def stall(stop, go_on):
    bearer = token()
    running = Job(carol(), f"running-{stop.__name__}")
    running.begin()
    stop()
    check_unavailable(bearer)
    running.check_alive()
    go_on()
    until("the directory to be asked", known)
    until("logins to work", lambda: log_in()[0] == 200)
    running.end()
    running.check_ended()
    job = Job(carol(), f"after-{stop.__name__}")
    job.begin()
    job.end()
    job.check_ended()


def stalled():
    """While the directory stalls, its failure is told as its own, and jobs go on."""

    def stop_slapd():
        server.send_signal(signal.SIGSTOP)

    stall(stop_slapd, lambda: server.send_signal(signal.SIGCONT))


def take_down():
    """The machine's accounts are its own again."""
    text = open("/etc/nsswitch.conf").read().replace(" ldap", "")
    write("/etc/nsswitch.conf", text)
    run("systemctl", "stop", "nslcd")
    server.terminate()
    server.wait(timeout=30)


STEPS = [set_up, works, stalled, take_down]
