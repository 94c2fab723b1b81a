"""A training portal, by deploy/examples/educates.yaml as it is: only its variables are set.

Each scene has a portal of its own, with its database:
  educates        rotating refresh tokens without grace, tokens of 5 s under load; 403 with a text is passed on
  educates-grace  the same with a grace period for the old refresh token
  educates-dead   an access token is revoked: its refresh token answers 500 for ever, so the password comes next
  educates-stop   asked to end while a renewal is on its way
"""

import contextlib
import secrets
import sqlite3
import time
import urllib.parse
from base64 import b64encode
from collections import Counter

from checks import check_clients_view, check_log, check_renewals, check_rotation, check_upstream
from harness import (
    FORBIDDEN,
    HERE,
    PYTHON,
    ROOT,
    RUN,
    SECONDS,
    Bearerd,
    Load,
    check,
    get,
    now,
    records,
    start,
    together,
    until,
)

EXAMPLE = ROOT / "deploy/examples/educates.yaml"
# The robot's application is a public one, yet it has a secret.
CLIENT = ("robot-" + secrets.token_hex(8), "r+b%t:s&c" + secrets.token_hex(8))
USER = ("robot@educates", "pass&word+" + secrets.token_hex(8))
SECRETS = [CLIENT[1], USER[1]]


class Portal:
    def __init__(self, name, **settings):
        self.name = name
        self.database = RUN / f"{name}.sqlite3"
        self.token_log, self.request_log = RUN / f"{name}-tokens.jsonl", RUN / f"{name}-requests.jsonl"
        self.process, port = start(
            f"{name}-portal",
            [PYTHON, HERE / "portal.py"],
            {
                "database": str(self.database),
                "token_log": str(self.token_log),
                "request_log": str(self.request_log),
                "forbidden": FORBIDDEN,
                "username": USER[0],
                "password": USER[1],
                "answer_delay": 0.06,
                "applications": [{"client_type": "public", "client_id": CLIENT[0], "client_secret": CLIENT[1]}],
                **settings,
            },
            60,
        )
        self.authority = f"127.0.0.1:{port}"

    def bearerd(self):
        env = {
            "EDUCATES_URL": f"http://{self.authority}",
            "EDUCATES_CLIENT_ID": CLIENT[0],
            "EDUCATES_CLIENT_SECRET": CLIENT[1],
            "EDUCATES_USERNAME": USER[0],
            "EDUCATES_PASSWORD": USER[1],
        }
        bearerd = Bearerd(self.name, EXAMPLE, env)
        check(bearerd.ready(20), f"{self.name}: ready within 20 s", get(bearerd.admin, "/readyz")[2])
        return bearerd

    def asked(self):
        """The token requests so far."""
        return [it for it in records(self.token_log) if "grant" in it]

    def withdrawn(self):
        return [it for it in records(self.token_log) if it.get("path") == "/oauth2/revoke-token/"]

    def revoke(self, token):
        """What another client of the robot's would do."""
        basic = b64encode(":".join(map(urllib.parse.quote_plus, CLIENT)).encode()).decode()
        fields = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        return get(self.authority, "/oauth2/revoke-token/", fields, "POST", urllib.parse.urlencode({"token": token}))[0]

    def live(self, table):
        """How many tokens the database holds that would still be taken."""
        alive = {"refreshtoken": "revoked IS NULL", "accesstoken": "expires > datetime('now')"}[table]
        return self.count(table, alive)

    def count(self, table, condition="TRUE"):
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(f"SELECT count(*) FROM oauth2_provider_{table} WHERE {condition}").fetchone()[0]

    def check_nothing_left(self, claim):
        left = {table: self.live(table) for table in ("refreshtoken", "accesstoken")}
        check(not any(left.values()), f"{self.name}: {claim}, no live token is left in the database", left)


def steady(name, grace=0):
    portal = Portal(name, grace=grace)
    settings = {"seconds": SECONDS, "prefix": "/base/", "roads": ["access_token"]}
    load = Load(f"{name}-load", {**settings, "routes": [{"name": name, "rate": 20}]})
    bearerd = portal.bearerd()
    load.start(bearerd.base)
    refusals = []
    for number in range(10):
        time.sleep(SECONDS / 20)
        method, body = (("GET", None), ("POST", b"x"))[number % 2]
        refusals.append(get(bearerd.proxy, f"/base/{name}/refused/{number}", {"X-Request-Number": f"no-{number}"}, method, body))
    denied = [
        get(bearerd.proxy, path, {"Authorization": "Bearer CANARY"}, method, body)[0]
        for path in ("/oauth2/token/", "/oauth2/revoke-token/", "/OAuth2/../oauth2/token/", "/%6fauth2/token/", "/admin/")
        for method, body in (("GET", None), ("POST", b"grant_type=password"))
    ]
    results = load.finish(SECONDS + 40)
    check(portal.live("refreshtoken") == 1, f"{name}: one refresh token lives while the robot works", portal.live("refreshtoken"))
    bearerd.close()
    ended = now()
    portal.check_nothing_left("after the end")

    check_clients_view(name, results)
    said = Counter((status, body) for status, _, body in refusals)
    check(said == {(403, b"Environment does not exist"): 10}, f"{name}: a 403 with a text is passed on", said)
    check(all(400 <= it < 500 for it in denied), f"{name}: the portal's /oauth2/ and /admin/ are out of reach", denied)
    asked, log = portal.asked(), records(portal.request_log)
    # One that met a token which a renewal had just killed was told so by a 403 without a text, before.
    tries = Counter(it["id"] for it in log if (it.get("id") or "").startswith("no-") and it["length"])
    check(len(tries) == 10 and set(tries.values()) == {1}, f"{name}: and is not tried again", tries)
    check_upstream(name, log, results, {name: {it["access"] for it in asked}}, organization=None, cookie=None)
    check_renewals(name, asked, ended)
    check_rotation(name, asked, None)
    ways = Counter((it["grant"], it["auth"]) for it in asked)
    check(set(ways) == {("password", "basic"), ("refresh_token", "basic")}, f"{name}: asked as the portal wants it", ways)
    check(ways["password", "basic"] == 1, f"{name}: the password is sent once", ways)
    wanted = [(asked[-1]["new_refresh"], 200)]
    found = [(it["withdrawn"], it["status"]) for it in portal.withdrawn()]
    check(found == wanted, f"{name}: at the end the refresh token in use is withdrawn", f"{len(found)} withdrawals")
    check_log(bearerd, asked, SECRETS)
    portal.process.kill()


def dead(name):
    portal = Portal(name, lifetime=36000)
    bearerd = portal.bearerd()

    def works():
        return get(bearerd.proxy, f"/base/{name}/items/1")[0] == 200

    check(works(), f"{name}: works at first")
    first = portal.asked()[0]
    check(portal.revoke(first["access"]) == 200, f"{name}: another client revokes the access token")
    began = now()
    back = until(works, 20)
    took = (now() - began) / 1000
    check(back and took < 8, f"{name}: works again {took:.1f} s later", took)
    asked = portal.asked()
    ways = [(it["grant"], it["status"]) for it in asked]
    check(
        ways in ([("password", 200), *[("refresh_token", 500)] * n, ("password", 200)] for n in (1, 2)),
        f"{name}: the refresh token that answers 500 gave way to the password",
        ways,
    )
    time.sleep(2)
    check(len(portal.asked()) == len(asked), f"{name}: and then all is quiet", portal.asked()[len(asked) :])
    bearerd.close()
    portal.check_nothing_left("after the end")
    check_log(bearerd, asked, SECRETS)
    portal.process.kill()


def stop(name):
    # The answer comes so late that the end comes first; the portal has rotated by then.
    portal = Portal(name, answer_delay=1.0, lifetime=10)
    bearerd = portal.bearerd()
    rotated = until(lambda: portal.count("refreshtoken") == 2, 20)
    check(rotated and len(portal.asked()) == 1, f"{name}: a renewal is on its way", [it["grant"] for it in portal.asked()])
    bearerd.close()
    until(lambda: len(portal.asked()) == 2, 5)
    time.sleep(0.2)
    portal.check_nothing_left("after an end amid a renewal")
    portal.process.kill()


SCENES = {
    "educates": lambda: steady("educates"),
    "educates-grace": lambda: steady("educates-grace", grace=120),
    "educates-dead": lambda: dead("educates-dead"),
    "educates-stop": lambda: stop("educates-stop"),
}


def run(names):
    together({name: SCENES[name] for name in names})
