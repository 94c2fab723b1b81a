"""What must hold in more than one scene."""

import urllib.parse
from collections import Counter

from harness import FORBIDDEN, check

# Of tokens that live for 5 s: the renewal is drawn from 70-80 % of that, with room for a busy machine.
GAP = (3.4, 4.3)
GUARD = 4.5


def header(record, name):
    """The values of a field, also under spellings that some servers take for it."""
    return [value for key, value in record["headers"] if key.lower().replace("_", "-") == name]


def check_clients_view(scene, results, expected=None):
    bad = [it for it in results if it.get("status") != 200]
    what = Counter((it["route"], it["variant"], it.get("status") or it.get("error")) for it in bad)
    count = f"all {len(results)}" if expected is None else f"{expected:,} of {expected:,}"
    check(
        not bad and results and expected in (None, len(results)),
        f"{scene}: no failure that a client could see, {count} answers are 200",
        f"{len(results)} answers, not 200 (route, variant, status): {dict(what.most_common(8))} {bad[:1]}",
    )
    mixed = [it for it in results if it.get("wrong")]
    check(not mixed, f"{scene}: every answer is the answer to its own request, bodies whole", mixed[:2])


def check_upstream(scene, log, results, tokens, organization="acme-{}", cookie="theme=dark"):
    """`tokens`: by route, the tokens that the provider issued for it. `organization`, `cookie`: what must arrive."""
    leaks = [it for it in log if "forbidden" in it]
    check(not leaks, f"{scene}: no credential of the client's reached the API", [it["forbidden"] for it in leaks[:2]])

    requests = [it for it in log if "headers" in it]
    wrong = [it for it in requests if header(it, "authorization") != [f"Bearer {it['token']}"]]
    check(not wrong and requests, f"{scene}: exactly one Authorization on each request", [it["headers"] for it in wrong[:1]])
    wrong = [it for it in requests if it["token"] not in tokens.get(it["route"], ())]
    check(not wrong and requests, f"{scene}: its value is a token issued for that route", [it["headers"] for it in wrong[:1]])
    if organization:
        wrong = [it for it in requests if header(it, "organization") != [organization.format(it["route"])]]
        check(not wrong and requests, f"{scene}: exactly one Organization, the configured one", [it["headers"] for it in wrong[:1]])
    wrong = [it for it in requests if header(it, "x-api-key") or header(it, "proxy-authorization") or it["trailers"]]
    check(not wrong, f"{scene}: no X-Api-Key, no Proxy-Authorization, no trailers", wrong[:1])

    sent = {(it["route"], it["id"]): it for it in results}
    wrong = [
        it
        for it in requests
        if (it["route"], it["id"]) in sent
        and (
            urllib.parse.urlsplit(it["url"]).query != sent[it["route"], it["id"]]["expect"]
            or urllib.parse.urlsplit(it["url"]).path != f"/base/{it['route']}/items/{it['id']}"
            or it["method"] != sent[it["route"], it["id"]]["method"]
            or header(it, "cookie") != ([cookie] if cookie else [])
        )
    ]
    check(
        not wrong,
        f"{scene}: what is no credential arrives as sent (method, path, query, cookie)",
        [(it["method"], it["url"], header(it, "cookie")) for it in wrong[:3]],
    )

    tries = Counter((it["route"], it["id"]) for it in requests if (it["route"], it["id"]) in sent)
    check(max(tries.values(), default=0) <= 2, f"{scene}: no request was sent more than twice", tries.most_common(3))
    answered = Counter((it["route"], it["id"]) for it in requests if it["status"] == 200)
    twice = [key for key, count in answered.items() if count > 1]
    check(not twice, f"{scene}: no request was carried out twice", twice[:5])
    return requests


def check_log(bearerd, issued, secret_words):
    text = bearerd.log.read_text(errors="replace")
    words = [*FORBIDDEN, *secret_words]
    words += [it[key] for it in issued for key in ("access", "new_refresh", "used_refresh") if it.get(key)]
    found = [word for word in words if word in text]
    check(not found, f"{bearerd.name}: its log holds no token, no secret and nothing of the client's", found[:3])
    check("panic" not in text, f"{bearerd.name}: its log tells of no panic")


def check_renewals(name, posts, ended):
    failures = [it for it in posts if it["status"] != 200]
    check(not failures and posts, f"{name}: every token request succeeded", [(it["status"], it["error"]) for it in failures[:3]])
    at = [it["arrived"] for it in posts]
    gaps = [(b - a) / 1000 for a, b in zip(at, at[1:])]
    # The slower the provider, the earlier it is asked, and the later it notes that it was.
    slowest = max((it["answered"] - it["arrived"] for it in posts), default=0) / 1000
    low, high = max(0.45, min(GAP[0], GUARD - 0.2 - 2 * slowest)), min(GUARD, GAP[1] + slowest)
    check(
        gaps and all(low <= gap <= high for gap in gaps),
        f"{name}: renewed every 3.5-4.0 s ({min(gaps, default=0):.2f}-{max(gaps, default=0):.2f} s, {len(gaps)} gaps)",
        [round(gap, 2) for gap in gaps],
    )
    span = (ended - at[0]) / 1000 if at else 0
    least, most = int(span / high), int(span / low) + 1
    check(least <= len(posts) <= most, f"{name}: {len(posts)} token requests in {span:.0f} s", f"expected {least}-{most}")


def check_rotation(name, posts, first):
    used = [it["used_refresh"] for it in posts if it["grant"] == "refresh_token"]
    check(used and len(set(used)) == len(used), f"{name}: no refresh token was used twice", f"{len(used)} uses of {len(set(used))}")
    given = [first] if first else []
    given += [it["new_refresh"] for it in posts]
    check(used == given[: len(used)], f"{name}: each renewal used the refresh token of the answer before")
