"""Two providers side by side: oidc-provider, and django-oauth-toolkit behind two more routes.

  steady  tokens of 5 s under load for a while: nothing fails, nothing of the client's arrives
  cold    1,000 requests before the first token exists: one token request
  outage  the provider is killed and comes back: served up to the guard, then 503, then served again
"""

import json
import re
import secrets
import time
from collections import Counter
from pathlib import Path

from checks import GUARD, check_clients_view, check_log, check_renewals, check_rotation, check_upstream
from harness import (
    FORBIDDEN,
    HERE,
    PYTHON,
    RUN,
    SECONDS,
    Bearerd,
    Load,
    act,
    check,
    get,
    note,
    now,
    records,
    start,
    until,
)

OUTAGE_LIFETIME = 10
OUTAGE_GUARD = 9

# What both providers know, and the secrets' files.

odd = f"p+l%us&{secrets.token_hex(8)}:co/lon="
CLIENTS = {
    "billing": {"auth": "client_secret_basic", "grant": "client_credentials", "secret": secrets.token_urlsafe(24)},
    "odd+id%with:four&": {"auth": "client_secret_basic", "grant": "client_credentials", "secret": odd},
    "poster": {"auth": "client_secret_post", "grant": "client_credentials", "secret": secrets.token_urlsafe(24)},
    "rotator": {"auth": "client_secret_basic", "grant": "refresh_token", "secret": secrets.token_urlsafe(24)},
    "slow": {"auth": "client_secret_basic", "grant": "client_credentials", "secret": secrets.token_urlsafe(24)},
    "outage": {
        "auth": "client_secret_basic",
        "grant": "client_credentials",
        "secret": secrets.token_urlsafe(24),
        "lifetime": OUTAGE_LIFETIME,
    },
}
CLIENTS["rotator"]["refresh_token_file"] = str(RUN / "first-refresh-token")
PORTAL = {
    "robot": {"client_id": "robot-" + secrets.token_hex(8), "secret": "r+b%t:s&c" + secrets.token_hex(8)},
    "public": {"client_id": "public-" + secrets.token_hex(8), "secret": secrets.token_urlsafe(24)},
}
ROBOT_PASSWORD = "pass&word+" + secrets.token_hex(8)

SECRETS = [ROBOT_PASSWORD, *(it["secret"] for it in [*CLIENTS.values(), *PORTAL.values()])]

# Which client's token each route carries.
ROUTES = {
    "basic": "billing",
    "odd": "odd+id%with:four&",
    "post": "poster",
    "rotating": "rotator",
    "cold": "slow",
    "outage": "outage",
}


def rate(name):
    """Requests a second; the portal is one Python process, and also the one that issues tokens."""
    return 25 if name in PORTAL else 50


def secret_file(client):
    path = RUN / ("secret-" + re.sub(r"\W", "-", client))
    path.write_text(CLIENTS[client]["secret"] + "\n")
    path.chmod(0o600)
    return path


def token(name, issuer, client_id, *lines):
    text = f"  {name}:\n    oauth2:\n      token_url: {issuer}\n      client_id: {json.dumps(client_id)}\n"
    return text + "".join(f"      {line}\n" for line in lines)


def route(name, upstream):
    return f"""  - name: {name}
    match: {{path: /{name}/}}
    strip_prefix: true
    upstream: {upstream}/base/{name}/
    inject: {{Authorization: "Bearer ${{{name}}}", Organization: acme-{name}}}
    strip: {{headers: [x-api-key], query: [access_token], cookies: [sid]}}
"""


def steady(issuer, issuer_log, protected):
    token_log, request_log = RUN / "portal-tokens.jsonl", RUN / "portal-requests.jsonl"
    portal, port = start(
        "portal",
        [PYTHON, HERE / "portal.py"],
        {
            "database": str(RUN / "portal.sqlite3"),
            "token_log": str(token_log),
            "request_log": str(request_log),
            "forbidden": FORBIDDEN,
            "username": "robot@educates",
            "password": ROBOT_PASSWORD,
            "answer_delay": 0.06,
            "applications": [
                {"client_type": kind, "client_id": it["client_id"], "client_secret": it["secret"]}
                for kind, it in [("confidential", PORTAL["robot"]), ("public", PORTAL["public"])]
            ],
        },
        40,
    )
    portal_url = f"http://127.0.0.1:{port}"
    robot_secret = RUN / "robot-password"
    robot_secret.write_text(ROBOT_PASSWORD)
    robot_secret.chmod(0o600)

    robot = (
        "grant: password",
        "username: robot@educates",
        f"password: {{file: {robot_secret}}}",
        'scopes: ["user:info"]',
        "rejected: [{status: [401]}, {status: [403], body: empty}]",
    )
    tokens = "tokens:\n"
    tokens += token("basic", issuer, "billing", f"client_secret: {{file: {secret_file('billing')}}}", "scopes: [read, write]")
    tokens += token("odd", issuer, ROUTES["odd"], f"client_secret: {{file: {secret_file(ROUTES['odd'])}}}")
    tokens += token("post", issuer, "poster", "client_secret: {env: POSTER_SECRET}", "client_auth: body")
    tokens += token(
        "rotating",
        issuer,
        "rotator",
        f"client_secret: {{file: {secret_file('rotator')}}}",
        "grant: refresh_token",
        f"refresh_token: {{file: {CLIENTS['rotator']['refresh_token_file']}}}",
    )
    endpoint = f"{portal_url}/oauth2/token/"
    tokens += token(
        "robot",
        endpoint,
        PORTAL["robot"]["client_id"],
        *robot,
        "client_secret: {env: ROBOT_SECRET}",
        "refresh: {client_auth: body}",
    )
    tokens += token("public", endpoint, PORTAL["public"]["client_id"], *robot, "client_auth: none")
    routes = "routes:\n"
    for name in ("basic", "odd", "post", "rotating"):
        routes += route(name, protected)
    for name in ("robot", "public"):
        routes += route(name, portal_url)

    first_refresh = Path(CLIENTS["rotator"]["refresh_token_file"]).read_text()
    names = ["basic", "odd", "post", "rotating", "robot", "public"]
    load = Load("steady-load", {"seconds": SECONDS, "routes": [{"name": it, "rate": rate(it)} for it in names]})
    bearerd = Bearerd("steady", tokens + routes, {"POSTER_SECRET": CLIENTS["poster"]["secret"], "ROBOT_SECRET": PORTAL["robot"]["secret"]})
    check(bearerd.ready(15), "steady: ready within 15 s", get(bearerd.admin, "/readyz")[2])
    began = now()
    load.start(bearerd.base)
    results = load.finish(SECONDS + 40)
    note(f"steady: {len(results)} requests in {(now() - began) / 1000:.0f} s over {len(names)} routes")

    # A page that rebinds its name to this address must not get at the token.
    before = len(records(protected_log()))
    status, _, _ = get(bearerd.proxy, "/basic/items/0", {"Host": "api.attacker.example"})
    check(400 <= status < 500, "steady: a foreign Host is refused", f"status {status}")
    check(len(records(protected_log())) == before, "steady: and the API hears nothing of it")
    check(
        [bearerd.status(it) for it in ("/livez", "/startupz", "/readyz", "/status", "/metrics")] == [200] * 5,
        "steady: the admin endpoints answer 200",
        [bearerd.status(it) for it in ("/livez", "/startupz", "/readyz", "/status", "/metrics")],
    )
    told = get(bearerd.admin, "/metrics")[2] + get(bearerd.admin, "/status")[2]
    bearerd.close()
    ended = now()
    time.sleep(0.2)

    asked = records(issuer_log)
    by_route = {name: [it for it in asked if it["client"] == ROUTES[name]] for name in names[:4]}
    portal_asked = records(token_log)
    ids = {PORTAL["robot"]["client_id"]: "robot", "basic": "robot", PORTAL["public"]["client_id"]: "public"}
    for name in ("robot", "public"):
        by_route[name] = [it for it in portal_asked if ids.get(it["client"]) == name]
    issued = {name: {it["access"]: it for it in posts if it["access"]} for name, posts in by_route.items()}

    check_clients_view("steady", results)
    log = records(protected_log()) + records(request_log)
    requests = check_upstream("steady", log, results, issued)
    check(not any(word in told.decode() for it in issued.values() for word in it), "steady: metrics and status hold no token")
    check_log(bearerd, [*asked, *portal_asked], SECRETS)
    refused = Counter((it["route"], it["status"]) for it in requests if it["status"] != 200)
    again = sum(count for (name, _), count in refused.items() if name in ("robot", "public"))
    check(again, f"steady: {again} requests met a token that its renewal had killed, and were sent again", dict(refused))
    late = [
        (it["route"], round(it["arrived"] - issued[it["route"]][it["token"]]["arrived"]))
        for it in requests
        if it["token"] in issued[it["route"]]
        and it["arrived"] - issued[it["route"]][it["token"]]["arrived"] > GUARD * 1000 + 250
    ]
    check(not late, "steady: no token arrives past its guard (4.5 of 5 s)", late[:5])

    for name, posts in by_route.items():
        check_renewals(name, posts, ended)
    check(
        all(it["scope"] == "read write" for it in by_route["basic"]), "basic: the configured scopes are asked for", by_route["basic"][:1]
    )
    auth = {name: Counter((it["grant"], it["auth"]) for it in posts) for name, posts in by_route.items()}
    wanted = {
        "basic": {("client_credentials", "basic")},
        "odd": {("client_credentials", "basic")},
        "post": {("client_credentials", "body")},
        "rotating": {("refresh_token", "basic")},
        "robot": {("password", "basic"), ("refresh_token", "body")},
        "public": {("password", "none"), ("refresh_token", "none")},
    }
    for name, ways in wanted.items():
        check(set(auth[name]) == ways, f"{name}: grant and client authentication as configured", dict(auth[name]))
    for name in ("robot", "public"):
        check(auth[name]["password", min(way for grant, way in wanted[name] if grant == "password")] == 1, f"{name}: the password is sent once")
    check_rotation("rotating", by_route["rotating"], first_refresh)
    check_rotation("robot", by_route["robot"], None)
    check_rotation("public", by_route["public"], None)
    portal.kill()


def cold(issuer, issuer_log, protected):
    tokens = "tokens:\n" + token("cold", issuer, "slow", f"client_secret: {{file: {secret_file('slow')}}}")
    load = Load("cold-load", {"burst": 1000, "routes": [{"name": "cold"}]})
    time.sleep(0.5)  # The client is up and waits for the address.
    before = len(records(protected_log()))
    bearerd = Bearerd("cold", tokens + "routes:\n" + route("cold", protected))
    load.start(bearerd.base)
    results = load.finish(30)
    asked = [it for it in records(issuer_log) if it["client"] == "slow"]
    last = max((it["done"] for it in results), default=now())
    until_then = [it for it in asked if it["arrived"] <= last]
    check(len(until_then) == 1, "cold: exactly one token request", f"{len(until_then)}")
    answered = until_then[0]["answered"] if until_then else 0
    early = sum(it["sent"] < answered for it in results)
    check(early >= 900, f"cold: {early:,} of the requests were there before the token", f"{early}")
    check_clients_view("cold", results, 1000)
    times = sorted(it["done"] - it["sent"] for it in results)
    if times:
        note(f"cold: answered after {times[0]}-{times[-1]} ms, half within {times[len(times) // 2]} ms")
    bearerd.close()
    time.sleep(0.2)
    asked = [it for it in records(issuer_log) if it["client"] == "slow"]
    log = records(protected_log())[before:]
    check_upstream("cold", log, results, {"cold": {it["access"] for it in asked}})
    check_log(bearerd, asked, SECRETS)


def outage(issuer, issuer_log, protected, restart):
    def asked():
        return [it for it in records(issuer_log) if it["client"] == "outage" and it["status"] == 200]

    tokens = "tokens:\n" + token("outage", issuer, "outage", f"client_secret: {{file: {secret_file('outage')}}}")
    load = Load("outage-load", {"seconds": 60, "routes": [{"name": "outage", "rate": 25}]})
    before = len(records(protected_log()))
    bearerd = Bearerd("outage", tokens + "routes:\n" + route("outage", protected))
    check(bearerd.ready(15), "outage: ready within 15 s")
    load.start(bearerd.base)
    time.sleep(1.5)
    server = restart(None)
    first = asked()
    guard = first[0]["arrived"] + OUTAGE_GUARD * 1000
    slack = 300

    # A request without a token waits up to 5 s for one; 503 is seen after that.
    time.sleep(max(0, (guard - now()) / 1000 + 1))
    check(bearerd.status("/readyz") == 503, "outage: not ready once the guard has passed", bearerd.status("/readyz"))
    check(bearerd.status("/livez") == 200, "outage: alive all the same")
    time.sleep(max(0, (guard - now()) / 1000 + 8.5))
    restarted = now()
    server = restart(server)
    until(lambda: asked()[1:], 20)
    time.sleep(3)
    load.stop()
    results = load.finish(30)
    check(bearerd.status("/readyz") == 200, "outage: ready again")
    bearerd.close()
    time.sleep(0.2)

    early = [it for it in results if it["sent"] < guard - slack]
    check(
        early and all(it.get("status") == 200 for it in early),
        f"outage: served up to the guard, {len(early)} answers are 200",
        Counter(str(it.get("status") or it.get("error")) for it in early),
    )
    dark = [it for it in results if it["sent"] > guard + slack and it["done"] < restarted]
    check(
        len(dark) > 25 and all(it.get("status") == 503 for it in dark),
        f"outage: then 503, {len(dark)} times",
        Counter(str(it.get("status") or it.get("error")) for it in dark),
    )
    refusals = [it for it in results if it.get("status") == 503]
    check(
        refusals and all((it["retry_after"] or "").isdigit() for it in refusals),
        "outage: each 503 says Retry-After",
        refusals[:1],
    )
    check(
        refusals and all((it["type"] or "").split(";")[0] == "application/problem+json" for it in refusals),
        "outage: each 503 is application/problem+json",
        refusals[:1],
    )
    others = Counter(str(it.get("status") or it.get("error")) for it in results if it.get("status") not in (200, 503))
    check(not others, "outage: and no other failure", others)
    back = min((it["done"] for it in results if it.get("status") == 200 and it["done"] > restarted), default=None)
    took = (back - restarted) / 1000 if back else None
    check(took is not None and took <= 16, f"outage: served again {took or 0:.1f} s after the provider's return", took)
    if back:
        late = [it for it in results if it["sent"] > back + 500]
        check(late and all(it.get("status") == 200 for it in late), f"outage: and from then on, {len(late)} answers are 200")
    check(len(asked()) == 2, "outage: one token before, one token after", len(asked()))

    log = records(protected_log())[before:]
    requests = check_upstream("outage", log, results, {"outage": {it["access"] for it in asked()}})
    expired = [it for it in requests if it["expired"]]
    check(not expired and requests, "outage: the API never saw an expired token", len(expired))
    past = [it for it in requests if it["token"] == first[0]["access"] and it["arrived"] > guard + slack]
    check(not past, "outage: nor any token past its guard", len(past))
    check_log(bearerd, asked(), SECRETS)
    server.kill()


def protected_log():
    return RUN / "protected-requests.jsonl"


def run(names):
    """The scenes of those names, one after the other: their clocks are strict."""
    issuer_log = RUN / "issuer-tokens.jsonl"
    settings = {
        "log": str(issuer_log),
        "clients": CLIENTS,
        "delays": {"slow": 1000},
        "protected_secret": secrets.token_urlsafe(24),
    }
    server, port = start("issuer", ["node", HERE / "issuer.mjs"], settings)
    issuer = f"http://127.0.0.1:{port}"
    _, api = start(
        "protected",
        ["node", HERE / "protected.mjs"],
        {
            "issuer": issuer,
            "protected_secret": settings["protected_secret"],
            "routes": ROUTES,
            "forbidden": FORBIDDEN,
            "log": str(protected_log()),
        },
    )
    protected = f"http://127.0.0.1:{api}"

    def restart(old):
        """Kills the first provider, or starts the next one on the same port."""
        if old is None:
            server.kill()
            return server
        return start("issuer-again", ["node", HERE / "issuer.mjs"], {**settings, "port": port})[0]

    endpoint = f"{issuer}/token"
    scenes = {
        "steady": lambda: steady(endpoint, issuer_log, protected),
        "cold": lambda: cold(endpoint, issuer_log, protected),
        "outage": lambda: outage(endpoint, issuer_log, protected, restart),
    }
    for name in names:
        act(name, scenes[name])
