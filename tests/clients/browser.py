"""People at a browser: every page, and what other pages cannot have it do."""

import base64
import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

BASE = os.environ["FLUX_RESTFUL_HOST"]
USER, PASSWORD = os.environ["PERSON"], os.environ["PERSON_PASSWORD"]
NEW_PASSWORD = "canary-new-password"
COOKIE = "__Secure-warrant" if urlsplit(BASE).path else "__Host-warrant"
NARROW = 360
JOBS = "/v1/jobs?details=true&listing=true"
PATIENCE = 30


class Elsewhere(BaseHTTPRequestHandler):
    """A server of somebody else's, on another port of this machine."""

    pages = {}
    asked = []

    def do_GET(self):
        Elsewhere.asked.append(self.path)
        page = Elsewhere.pages.get(urlsplit(self.path).path, "<p>elsewhere</p>")
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(("<link rel='icon' href='data:,'>" + page).encode())

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
threading.Thread(target=server.serve_forever, daemon=True).start()
OTHER = f"http://127.0.0.1:{server.server_port}"


def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--disable-gpu", "--no-first-run", f"--window-size={NARROW + 140},900"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


ann = browser()


def until(what, condition, driver=ann):
    WebDriverWait(driver, PATIENCE, 0.05).until(lambda _: condition(), what)


def text(driver=ann):
    return driver.find_element(By.TAG_NAME, "main").text


def one(selector, driver=ann):
    return driver.find_element(By.CSS_SELECTOR, selector)


def path(driver=ann):
    return driver.current_url.removeprefix(BASE)


def is_whole(driver):
    try:
        return driver.execute_script("return document.readyState") == "complete"
    except WebDriverException:  # Between two pages.
        return False


def click(selector, driver=ann):
    """Follow a button to the page behind it."""
    before = one("html", driver)
    one(selector, driver).click()

    def is_gone():
        try:
            before.is_enabled()
        except WebDriverException:
            return is_whole(driver)
        return False

    until(f"a page behind {selector}", is_gone, driver)


def sign_in(driver=ann, password=PASSWORD, user=USER):
    for name, value in [("user", user), ("password", password)]:
        field = one(f"#{name}", driver)
        field.clear()
        field.send_keys(value)
    click("button[type=submit]", driver)


def ask(path, form=None, token=None):
    """As a program does."""
    request = urllib.request.Request(BASE + path, urlencode(form).encode() if form else None)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def is_in(driver=ann):
    driver.get(f"{BASE}/account")
    return path(driver) == "/account"


complaints = []
requests = []


def listen(driver=ann):
    """What the browser logged since the last time."""
    for entry in driver.get_log("browser"):
        # A page that says what is wrong comes with a status that says so.
        told = "the server responded with a status of 4" in entry["message"]
        if entry["level"] in ("SEVERE", "WARNING") and not told:
            complaints.append(entry["message"])
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(message["params"]["request"]["url"])


def fits(driver=ann):
    """At the width of a telephone, nothing is cut off; everything has a name."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": NARROW, "height": 800, "deviceScaleFactor": 1, "mobile": True})
    width = driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= NARROW, f"{driver.current_url} is {width} wide"
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    unnamed = driver.execute_script("""
        return [...document.querySelectorAll('input:not([type=hidden]):not([hidden]), button, a')]
            .filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()
                         && !e.getAttribute('aria-label'))
            .map(e => e.outerHTML)""")
    assert not unnamed, unnamed
    assert driver.title.endswith("· Warrant"), driver.title
    assert len(driver.find_elements(By.TAG_NAME, "h1")) == 1
    contrast(driver)


def contrast(driver):
    """Every text stands out from what is behind it. Source: WCAG 2.2, 1.4.3."""
    faint = driver.execute_script("""
        const numbers = c => c.match(/[\\d.]+/g).map(Number);
        const light = c => {
            const [r, g, b] = numbers(c).slice(0, 3).map(v => v / 255)
                .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const behind = e => {
            for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor;
                const n = numbers(c);
                if (n.length < 4 || n[3] > 0) return c;
            }
            return 'rgb(255, 255, 255)';
        };
        return [...document.querySelectorAll('main *, header *')]
            .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
            .map(e => {
                const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
                return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML];
            })
            .filter(([ratio]) => ratio < 4.5)""")
    assert not faint, faint


# A wrong password, and ways to another server.
ann.get(f"{BASE}/account")
assert path() == "/login?next=%2Faccount", path()
fits()
sign_in(password="wrong")
assert "Incorrect user or password." in text() and path() == "/login", text()
assert one("#user").get_attribute("value") == USER
assert not one("#password").get_attribute("value")
fits()
assert not ann.get_cookie(COOKIE)
for following in ["//evil.test", "/\\evil.test", "https://evil.test/", "/%2f/evil.test"]:
    ann.get(f"{BASE}/login?" + urlencode({"next": following}))
    assert "the path of a page" in text() and ann.current_url.startswith(BASE), text()

# Signed in; the cookie is for this server alone, and for no script.
ann.get(f"{BASE}/login?next=/account")
sign_in()
assert path() == "/account" and USER in text(), text()
fits()
cookie = ann.get_cookie(COOKIE)
assert cookie["secure"] and cookie["httpOnly"], cookie
assert cookie["sameSite"] == "Lax" and cookie["path"] == (urlsplit(BASE).path or "/"), cookie
assert not cookie["domain"].startswith("."), cookie
assert 6 * 86400 < cookie["expiry"] - time.time() <= 7 * 86400 + 60, cookie
assert ann.execute_script("return document.cookie") == ""
assert cookie["value"] not in ann.page_source
assert not ann.get_cookie(f"{COOKIE}-login")
assert not ann.execute_script("return document.scripts.length + document.images.length")

# A client is let in, and another time not.
VERIFIER = "v" * 64
digest = hashlib.sha256(VERIFIER.encode()).digest()
request = {
    "response_type": "code", "client_id": "warrant", "redirect_uri": f"{OTHER}/callback",
    "state": "a&b=c", "scope": "read submit", "code_challenge_method": "S256",
    "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
}


def decided(button):
    ann.get(f"{BASE}/oauth/authorize?{urlencode(request)}")
    assert "Warrant command line" in text() and "submit jobs" in text(), text()
    assert "cancel jobs" not in text()
    fits()
    one(f"button[value={button}]").click()
    until("the client's page", lambda: ann.current_url.startswith(f"{OTHER}/callback"))
    fields = {k: v[0] for k, v in parse_qs(urlsplit(ann.current_url).query).items()}
    assert fields["state"] == "a&b=c" and fields["iss"] == BASE, fields
    assert ann.execute_script("return document.referrer") == ""
    return fields


assert decided("deny")["error"] == "access_denied"
code = decided("approve")["code"]
given = ask("/oauth/token", {
    "grant_type": "authorization_code", "client_id": "warrant", "code": code,
    "redirect_uri": request["redirect_uri"], "code_verifier": VERIFIER})
assert given["scope"] == "read submit"
assert ask(JOBS, token=given["access_token"]) == []
ann.get(f"{BASE}/oauth/authorize?{urlencode({**request, 'redirect_uri': 'https://evil.test/'})}")
assert "cannot be let in" in ann.title + text() and "evil" not in text()
fits()

# A device is let in by whoever types its code in.
begun = ask("/oauth/device_authorization", {"client_id": "warrant"})
ann.get(begun["verification_uri_complete"])
assert one("#code").get_attribute("value") == begun["user_code"]
fits()
one("#code").clear()
one("#code").send_keys("bcdf ghjk")
click("button.wide")
assert "No device shows this code" in text(), text()
one("#code").clear()
one("#code").send_keys(begun["user_code"].lower().replace("-", " "))
click("button.wide")
assert "Warrant command line" in text(), text()
fits()
click("button[value=approve]")
assert "is let in" in text()
fits()
given = ask("/oauth/token", {
    "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": "warrant",
    "device_code": begun["device_code"]})
assert ask(JOBS, token=given["access_token"]) == []

# The API takes the cookie: to read; to change something with its token.
API = """
    const [path, options, done] = arguments;
    fetch(path, options).then(async a => done([a.status, await a.text()]), e => done([0, `${e}`]))"""


def api(path, **options):
    return ann.execute_async_script(API, BASE + path, options)


ann.get(f"{BASE}/openapi.json")
status, told = api("/v1/session")
told = json.loads(told)
assert status == 200 and told["user"] == USER and told["role"] == "user", told
assert told["scopes"] == "read submit control" and len(told["csrf"]) == 43, told
assert api("/v1/jobs")[0] == 200
submit = "/v1/jobs/submit?command=true"
assert api(submit, method="POST")[0] == 403
assert api(submit, method="POST", headers={"X-Warrant-CSRF": "x"})[0] == 403
status, job = api(submit, method="POST", headers={"X-Warrant-CSRF": told["csrf"]})
assert status == 200, job

# Another page of this machine: the browser sends the cookie along, and yet.
listen()
assert not complaints, complaints
FORMS = {
    "/logout": {}, "/account/sessions": {"others": "yes"},
    "/account/keys": {"label": "x", "read": "yes", "days": "1"},
    "/account/password": {"present": PASSWORD, "fresh": "stolen stolen", "again": "stolen stolen"},
    "/oauth/authorize": {**request, "decision": "approve"},
    "/login": {"user": USER, "password": PASSWORD},
    submit: {},
}
for action, fields in FORMS.items():
    inputs = "".join(f"<input name='{n}' value='{v}'>" for n, v in fields.items())
    Elsewhere.pages["/attack"] = (
        f"<form method='post' action='{BASE}{action}'>{inputs}"
        f"<input name='csrf' value='{told['csrf']}'></form>"
        "<script>document.forms[0].submit()</script>")
    ann.get(f"{OTHER}/attack")
    until(f"{action} to answer", lambda: ann.current_url.startswith(BASE))
    body = one("body").text
    assert "not sent by a page of this server" in body, (action, body)
assert ann.get_cookie(COOKIE)["value"] == cookie["value"]
assert len(ask(JOBS, token=given["access_token"])) == 1
Elsewhere.pages["/attack"] = "<p>elsewhere</p>"
ann.get(f"{OTHER}/attack")
for where, options in [
    ("/v1/jobs", {"credentials": "include"}),
    ("/v1/session", {"credentials": "include"}),
    ("/account", {"credentials": "include"}),
    (submit, {"credentials": "include", "method": "POST"}),
    ("/logout", {"credentials": "include", "method": "POST"}),
]:
    status, body = ann.execute_async_script(API, BASE + where, options)
    assert status == 0, (where, status, body)
    # Nor unseen, as a picture or a script would be asked for.
    ann.execute_async_script(API, BASE + where, {**options, "mode": "no-cors"})
assert is_in()
assert "Revoke" not in text() and "this one" in text()
assert len(ask(JOBS, token=given["access_token"])) == 1
# No page of ours is shown within another.
for framed in ["/login", "/account", "/oauth/device"]:
    Elsewhere.pages["/frame"] = f"<iframe src='{BASE}{framed}'></iframe>"
    ann.get(f"{OTHER}/frame")
    ann.switch_to.frame(0)
    assert not ann.find_elements(By.TAG_NAME, "form"), framed
    ann.switch_to.default_content()
listen()
complaints.clear()

# Another browser, which this one signs out.
bob = browser()
bob.execute_cdp_cmd("Emulation.setEmulatedMedia", {
    "features": [{"name": "prefers-color-scheme", "value": "dark"}]})
bob.get(f"{BASE}/login")
fits(bob)
sign_in(bob)
fits(bob)
assert is_in(bob)
assert is_in()
rows = ann.find_elements(By.CSS_SELECTOR, "#sessions > li")
browsers = [row.text for row in rows if "on Linux" in row.text]
assert len(browsers) == 2 and "this one" in browsers[0], browsers
ends = [row for row in rows if "on Linux" in row.text and "this one" not in row.text]
button = ends[0].find_element(By.TAG_NAME, "button")
ann.execute_script("arguments[0].id = 'end'", button)
click("#end")
assert "That session has ended." in text()
assert is_in() and not is_in(bob)

# A key is shown once.
one("#label").send_keys("nightly")
one("input[name=read]").click()
one("form[action$='/account/keys'] input[name=password]").send_keys(PASSWORD)
click("form[action$='/account/keys'] button")
key = one("#key").text
assert key.startswith("wrt_"), key
fits()
made = urllib.request.Request(f"{BASE}/v1/jobs", headers={"X-API-Key": key})
with urllib.request.urlopen(made) as answer:
    assert answer.status == 200
assert is_in() and "nightly" in text() and key not in ann.page_source
fits()
click("#keys button")
assert "counts no more" in text() and "nightly" not in text()

# A new password.
sign_in(bob)
assert is_in(bob)


def change(present, fresh, again):
    for name, value in [("present", present), ("fresh", fresh), ("again", again)]:
        one(f"#{name}").send_keys(value)
    click("form[action$='/account/password'] button")


change("wrong", NEW_PASSWORD, NEW_PASSWORD)
assert "The present password is another one." in text(), text()
change(PASSWORD, NEW_PASSWORD, NEW_PASSWORD + "x")
assert "The two new passwords differ." in text(), text()
change(PASSWORD, NEW_PASSWORD, NEW_PASSWORD)
assert "Your password is changed" in text(), text()
assert is_in() and not is_in(bob)
sign_in(bob)
assert "Incorrect user or password." in text(bob)
sign_in(bob, NEW_PASSWORD)
assert is_in(bob)
fresh = ann.get_cookie(COOKIE)["value"]
assert fresh != cookie["value"]

# Signed out: the cookie is gone, and counts no more where somebody kept it.
click("form[action$='/logout'] button")
assert path() == "/login" and not ann.get_cookie(COOKIE)
for value in [fresh, cookie["value"]]:
    kept = urllib.request.Request(f"{BASE}/account", headers={"Cookie": f"{COOKIE}={value}"})
    with urllib.request.urlopen(kept) as answer:
        assert answer.url.endswith("/login?next=%2Faccount"), answer.url

for driver in [ann, bob]:
    listen(driver)
    driver.quit()
assert not complaints, complaints
# Chromium asks for an icon of its own accord where a page is JSON.
OURS = (BASE, BASE.removesuffix(urlsplit(BASE).path) + "/favicon.ico", OTHER, "data:", "chrome")
strangers = [url for url in requests if not url.startswith(OURS)]
assert not strangers, strangers
assert not [asked for asked in Elsewhere.asked if "wrw_" in asked]
print("every page was walked through")
