"""CAEPE's API behind a real Keycloak, by deploy/examples/caepe-user.yaml and caepe-service.yaml as they are.

One Keycloak with three realms (keycloak/*.json: all with tokens of 5 s, one whose refresh tokens serve once, one
whose sessions end after 12 s); each scene has a bearerd and a relay before the token endpoint of its own:
  caepe-user      password, then refresh tokens, under load; at the end the session is closed
  caepe-service   client credentials, under load
  caepe-once      one-time refresh tokens: the session is ended from outside, then answers to refreshes get lost
  caepe-session   a session that ends every 12 s: a login for each, and no storm
  caepe-password  a wrong password: tried rarely
"""

import json
import os
import secrets
import shutil
import socket
import urllib.parse
from collections import Counter
from pathlib import Path

from checks import check_clients_view, check_log, check_renewals, check_rotation, check_upstream
from harness import (
    FORBIDDEN,
    HERE,
    ROOT,
    RUN,
    SECONDS,
    Bearerd,
    Load,
    Process,
    check,
    get,
    note,
    now,
    records,
    start,
    together,
    until,
)
from relay import Relay

ORGANIZATION = "acme"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REALMS = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "keycloak").glob("*.json"))}
PASSWORD = REALMS["caepe"]["users"][0]["credentials"][0]["value"]
SERVICE = REALMS["caepe"]["clients"][1]
WRONG = "wrong+" + secrets.token_hex(8)
SECRETS = [PASSWORD, urllib.parse.quote_plus(PASSWORD), SERVICE["secret"], WRONG]

# By scene: the realm, and the client that the tokens are for.
SETTINGS = {
    "caepe-user": ("caepe", "cape-client"),
    "caepe-service": ("caepe", SERVICE["clientId"]),
    "caepe-once": ("caepe-once", "cape-client"),
    "caepe-session": ("caepe-short", "cape-client"),
    "caepe-password": ("caepe", "cape-client"),
}
# For the test's own requests.
PROBES = {"probe": ("caepe", SERVICE["clientId"]), "probe-once": ("caepe-once", SERVICE["clientId"])}
SESSION = REALMS["caepe-short"]["ssoSessionMaxLifespan"]


class Keycloak:
    def __init__(self):
        home = Path(os.environ["KEYCLOAK_HOME"])
        shutil.rmtree(home / "data", ignore_errors=True)
        shutil.copytree(HERE / "keycloak", home / "data/import")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.authority = f"127.0.0.1:{port}"
        self.admin_password = secrets.token_urlsafe(24)
        command = ["bash", home / "bin/kc.sh", "start-dev", "--import-realm", "--db=dev-mem"]
        env = {
            **os.environ,
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self.admin_password,
        }
        began = now()
        self.process = Process("keycloak", [*command, "--http-host=127.0.0.1", f"--http-port={port}"], env)
        self.process.wait_for(r"Keycloak (\S+) on JVM .* Listening on: http://127", 400)
        note(f"caepe: Keycloak up after {(now() - began) / 1000:.0f} s")

    def issuer(self, realm):
        return f"http://{self.authority}/realms/{realm}"

    def token(self, realm, **form):
        path = f"/realms/{realm}/protocol/openid-connect/token"
        status, _, body = get(self.authority, path, FORM, "POST", urllib.parse.urlencode(form))
        return status, json.loads(body)

    def admin(self, path, method="GET"):
        _, answer = self.token(
            "master", grant_type="password", client_id="admin-cli", username="admin", password=self.admin_password
        )
        fields = {"Authorization": f"Bearer {answer['access_token']}"}
        status, _, body = get(self.authority, f"/admin/realms/{path}", fields, method)
        if not 200 <= status < 300:
            raise RuntimeError(f"Keycloak answered {status} to {method} {path}")
        return json.loads(body) if body else None

    def user(self, realm, name):
        return f"{realm}/users/{self.admin(f'{realm}/users?exact=true&username={name}')[0]['id']}"

    def warm(self):
        """A server of this kind is slow at first, and bearerd renews earlier where the issuer is slow."""
        for realm in REALMS:
            client = {"client_id": "cape-client"}
            for _ in range(8):
                _, answer = self.token(realm, **client, grant_type="password", username="robot", password=PASSWORD)
                if token := answer.get("refresh_token"):
                    _, answer = self.token(realm, **client, grant_type="refresh_token", refresh_token=token)
                if "refresh_token" not in answer:
                    note(f"{realm}: {answer}")
            self.admin(f"{self.user(realm, 'robot')}/logout", "POST")

    def sessions(self, realm):
        return len(self.admin(f"{self.user(realm, 'robot')}/sessions"))


class Stage:
    """What a scene has: its relay, its bearerd, its client."""

    def __init__(self, name, keycloak, api, **env):
        self.name, self.keycloak, self.api = name, keycloak, api
        self.realm, _ = SETTINGS[name]
        self.relay = Relay(keycloak.authority)
        example = "caepe-service" if "CAEPE_CLIENT_ID" in env else "caepe-user"
        self.env = {
            "CAEPE_URL": f"http://127.0.0.1:{api}",
            "CAEPE_TOKEN_URL": f"{self.relay.base}/realms/{self.realm}/protocol/openid-connect/token",
            "CAEPE_ORGANIZATION": ORGANIZATION,
            **(env or {"CAEPE_USERNAME": "robot", "CAEPE_PASSWORD": PASSWORD}),
        }
        self.load = None
        self.example = ROOT / f"deploy/examples/{example}.yaml"

    def start(self, seconds, rate=20, ready=True):
        settings = {"seconds": seconds, "prefix": "/base/", "roads": ["organization", "authentication"]}
        self.load = Load(f"{self.name}-load", {**settings, "routes": [{"name": self.name, "rate": rate}]})
        self.bearerd = Bearerd(self.name, self.example, self.env)
        if ready:
            check(self.bearerd.ready(20), f"{self.name}: ready within 20 s", get(self.bearerd.admin, "/readyz")[2])
        self.load.start(self.bearerd.base)

    def check_traffic(self, results):
        check_clients_view(self.name, results)
        log = [it for it in records(RUN / "organization.jsonl") if it.get("route", self.name) == self.name]
        tokens = {self.name: {it["access"] for it in self.relay.tokens() if not it["lost"]}}
        check_upstream(self.name, log, results, tokens, organization=ORGANIZATION, cookie=None)
        refused = Counter(it["fault"] for it in log if it.get("fault"))
        note(f"{self.name}: {len(results)} requests, refused at the API and sent again: {dict(refused)}")

    def check_end(self):
        """Asks bearerd to end; the session must end with it."""
        living = self.keycloak.sessions(self.realm)
        check(living >= 1, f"{self.name}: Keycloak has {living} open sessions while the program works", living)
        last = self.relay.tokens()[-1]
        self.bearerd.close()
        ended = now()
        used = [(it["withdrawn"], it["status"]) for it in self.relay.withdrawals()]
        check((last["new_refresh"], 200) in used, f"{self.name}: at the end the refresh token in use is withdrawn", len(used))
        left = self.keycloak.sessions(self.realm)
        check(left == 0, f"{self.name}: and Keycloak has no open session left", left)
        status, answer = self.keycloak.token(
            self.realm, grant_type="refresh_token", client_id="cape-client", refresh_token=last["new_refresh"]
        )
        check(
            (status, answer.get("error")) == (400, "invalid_grant"),
            f"{self.name}: nor does it take that refresh token any more",
            (status, answer.get("error")),
        )
        return ended

    def check_log(self):
        check_log(self.bearerd, self.relay.log, SECRETS)


def check_ways(name, posts, wanted):
    ways = Counter((it["grant"], it["client"], it["auth"]) for it in posts)
    check(set(ways) == wanted, f"{name}: grants and client authentication as configured", dict(ways))
    return ways


def user(keycloak, api):
    stage = Stage("caepe-user", keycloak, api)
    stage.start(SECONDS)
    denied = [
        get(stage.bearerd.proxy, path, FORM, "POST", "grant_type=password")[0]
        for path in ("/realms/caepe/protocol/openid-connect/token", "/x/../realms/caepe", "/%72ealms/caepe")
    ]
    results = stage.load.finish(SECONDS + 40)
    ended = stage.check_end()
    stage.check_traffic(results)
    check(all(400 <= it < 500 for it in denied), "caepe-user: /realms/ is out of reach", denied)
    posts = stage.relay.tokens()
    check_renewals("caepe-user", posts, ended)
    check_rotation("caepe-user", posts, None)
    ways = check_ways(
        "caepe-user", posts, {("password", "cape-client", "none"), ("refresh_token", "cape-client", "none")}
    )
    check(ways["password", "cape-client", "none"] == 1, "caepe-user: the password is sent once", ways)
    stage.check_log()


def service(keycloak, api):
    stage = Stage("caepe-service", keycloak, api, CAEPE_CLIENT_ID=SERVICE["clientId"], CAEPE_CLIENT_SECRET=SERVICE["secret"])
    stage.start(SECONDS)
    results = stage.load.finish(SECONDS + 40)
    stage.bearerd.close()
    ended = now()
    stage.check_traffic(results)
    posts = stage.relay.tokens()
    check_renewals("caepe-service", posts, ended)
    check_ways("caepe-service", posts, {("client_credentials", SERVICE["clientId"], "basic")})
    stage.check_log()


def once(keycloak, api):
    name = "caepe-once"
    stage = Stage(name, keycloak, api)
    stage.start(180)
    posts = stage.relay.tokens

    def renewed(times):
        """Waits for that many renewals by refresh token in a row."""
        return until(lambda: [it["grant"] for it in posts()[-times:]] == ["refresh_token"] * times, 6 * times + 6)

    check(renewed(3), f"{name}: renews by one-time refresh tokens")
    keycloak.admin(f"{keycloak.user(stage.realm, 'robot')}/logout", "POST")
    refused = until(lambda: [it for it in posts() if it["status"] != 200], 10)
    check(
        [(it["grant"], it["status"], it["error"]) for it in refused] == [("refresh_token", 400, "invalid_grant")],
        f"{name}: the end of the session from outside costs one refused refresh",
        [(it["grant"], it["status"], it["error"]) for it in refused],
    )
    after = until(lambda: posts()[posts().index(refused[0]) + 1 :], 5)
    pause = after[0]["arrived"] - refused[0]["answered"] if after else None
    check(after and after[0]["grant"] == "password" and pause < 500, f"{name}: and at once a login", pause)

    for way in ("half", "all", "gateway"):
        check(renewed(1), f"{name}: renews again, before an answer gets lost ({way})")
        stage.relay.lose.append(way)
        lost = until(lambda: [it for it in posts() if it["lost"] == way], 10)
        after = until(lambda: posts()[posts().index(lost[0]) + 1 :], 10)
        check(
            after and (after[0]["grant"], after[0]["status"]) == ("password", 200),
            f"{name}: the next request is a login ({way})",
            [(it["grant"], it["status"]) for it in after or []],
        )
    check(renewed(1), f"{name}: renews again")
    stage.load.stop()
    results = stage.load.finish(40)
    stage.check_end()
    stage.check_traffic(results)
    used = Counter(it["used_refresh"] for it in posts() if it["used_refresh"])
    check(max(used.values()) == 1, f"{name}: none of {len(used)} refresh tokens was sent twice", used.most_common(1)[0][1])
    logins = [it["status"] for it in posts() if it["grant"] == "password"]
    check(logins == [200] * 5, f"{name}: the password was sent once at first and once for each loss", logins)
    stage.check_log()


def session(keycloak, api):
    name = "caepe-session"
    stage = Stage(name, keycloak, api)
    seconds = 4 * SESSION + 2
    stage.start(seconds)
    results = stage.load.finish(seconds + 40)
    stage.check_end()
    stage.check_traffic(results)
    posts = stage.relay.tokens()
    logins = [it for it in posts if it["grant"] == "password"]
    gaps = [(b["arrived"] - a["arrived"]) / 1000 for a, b in zip(logins, logins[1:])]
    check(
        len(gaps) >= 3 and all(SESSION - 3 <= gap <= SESSION + 1 for gap in gaps),
        f"{name}: a login about every {SESSION} s ({min(gaps, default=0):.1f}-{max(gaps, default=0):.1f} s, {len(gaps)} gaps)",
        gaps,
    )
    # 5 s, 5 s, what is left, and the last scrap.
    check(len(posts) <= 6 * len(logins), f"{name}: {len(posts)} token requests in {len(logins)} sessions", len(posts))
    # A login follows a scrap at once, and a refusal.
    calm = [(a, b) for a, b in zip(posts, posts[1:]) if a["status"] == 200 and a["expires_in"] >= 2.5]
    near = min(b["arrived"] - a["answered"] for a, b in calm)
    check(near >= 400, f"{name}: never sooner than half a second after a success ({near:.0f} ms)", near)
    note(f"{name}: " + " ".join(f"{(it['arrived'] - posts[0]['arrived']) / 1000:.1f}:{it['grant'][:1]}{it['expires_in']}" for it in posts))
    used = Counter(it["used_refresh"] for it in posts if it["used_refresh"])
    check(max(used.values(), default=0) == 1, f"{name}: no refresh token was sent twice")
    stage.check_log()


def password(keycloak, api):
    name = "caepe-password"
    stage = Stage(name, keycloak, api, CAEPE_USERNAME="careless", CAEPE_PASSWORD=WRONG)
    stage.start(75, rate=2, ready=False)
    posts = stage.relay.tokens
    until(lambda: len(posts()) >= 2, 72)
    stage.load.stop()
    results = stage.load.finish(40)
    tries = posts()
    check(stage.bearerd.status("/readyz") == 503, f"{name}: not ready")
    stage.bearerd.close()
    at = [(it["arrived"] - tries[0]["arrived"]) / 1000 for it in tries]
    check(len(at) == 2 and 59.9 <= at[1] <= 68, f"{name}: one try, then none for a minute", at)
    said = {(it["grant"], it["error"]) for it in tries}
    check(said == {("password", "invalid_grant")}, f"{name}: Keycloak says invalid_grant", said)
    counted = keycloak.admin(f"caepe/attack-detection/brute-force/{keycloak.user('caepe', 'careless')[6:]}")["numFailures"]
    check(counted == len(tries), f"{name}: and counts {counted} failed logins")
    answers = Counter(it.get("status") or it.get("error") for it in results)
    check(set(answers) == {503}, f"{name}: clients are told 503, {len(results)} times", answers)
    reached = [it for it in records(RUN / "organization.jsonl") if it.get("route") == name]
    check(not reached, f"{name}: and the API hears nothing of it", len(reached))
    check("invalid_grant" in stage.bearerd.log.read_text(), f"{name}: the log says why")
    stage.check_log()


SCENES = {
    "caepe-user": user,
    "caepe-service": service,
    "caepe-once": once,
    "caepe-session": session,
    "caepe-password": password,
}


def check_api(keycloak, api):
    """The API is as strict as it must be for the rest to mean something."""
    _, answer = keycloak.token(
        "caepe", grant_type="client_credentials", client_id=SERVICE["clientId"], client_secret=SERVICE["secret"]
    )
    token = answer["access_token"]
    good = {"Authorization": f"Bearer {token}", "Organization": ORGANIZATION}
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[:-8]}{signature[-8:][::-1]}"

    def of(route, **fields):
        fields = {name: value for name, value in fields.items() if value}
        status, told, _ = get(f"127.0.0.1:{api}", f"/base/{route}/items/0", fields)
        return status, 'error="invalid_token"' in (told.get("WWW-Authenticate") or "")

    found = [
        of("probe", **good),
        of("probe", **{**good, "Organization": None}),
        of("probe", **{**good, "Organization": "other"}),
        of("probe", **{**good, "Authorization": None}),
        of("probe", **{**good, "Authorization": f"Bearer {forged}"}),
        of("probe-once", **good),
    ]
    wanted = [(200, False), (400, False), (403, False), (401, True), (401, True), (401, True)]
    check(found == wanted, "caepe: the API tells good tokens and organizations from others", found)


def run(names):
    keycloak = Keycloak()
    routes = {name: {"issuer": keycloak.issuer(realm), "client": client} for name, (realm, client) in {**SETTINGS, **PROBES}.items()}
    settings = {"routes": routes, "organization": ORGANIZATION, "forbidden": FORBIDDEN, "log": str(RUN / "organization.jsonl")}
    _, api = start("organization", ["node", HERE / "organization.mjs"], settings)
    check_api(keycloak, api)
    keycloak.warm()
    together({name: SCENES[name] for name in names}, keycloak, api)
    keycloak.process.kill()
