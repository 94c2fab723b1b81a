"use strict";

const STATES = {
  starting: ["idle", "no token yet"],
  fresh: ["good", "fresh"],
  renewing: ["work", "being renewed"],
  stale: ["warn", "usable, renewal fails"],
  expired: ["bad", "expired"],
};

const REFUSALS = {
  host: "asked by a name that is not this listener's; list it under hosts if it is yours",
  "bad-host": "a Host field that is missing, doubled or malformed",
  origin: "sent by a web page of another site",
  caller: "without the caller's proof",
  method: "CONNECT, TRACE or another method that is never forwarded",
  target: "a request target of a wrong form",
  path: "a path that could be read in two ways",
  query: "a query that could be read in two ways",
  "no-route": "no route matches",
  denied: "the route's allow and deny rules say no",
  loop: "it came back to the proxy that had sent it",
  body: "a malformed body",
  "body-timeout": "the client stopped sending its body",
  expectation: "an Expect other than 100-continue",
  "transfer-encoding": "a transfer coding other than chunked",
  connections: "too many connections",
  "no-token": "a token was not there in time; see the tokens above",
  leak: "an answer that held the credential",
  "upstream-connect": "no connection to the upstream",
  "upstream-connect-timeout": "no connection to the upstream in time",
  "upstream-tls": "TLS with the upstream failed",
  "upstream-reset": "the upstream broke the connection",
  "upstream-invalid": "the upstream's answer was not valid HTTP",
  "upstream-timeout": "the upstream did not answer in time",
};

const byId = (id) => document.getElementById(id);

/** An element with a class, texts and children; text is never markup. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

/** Sets a text only if it differs, so that a selection survives the refresh. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function count(number) {
  return number.toLocaleString("en");
}

function bar(name) {
  const label = make("span", "", name);
  const left = make("span", "num");
  const fill = make("div", "fill");
  const track = make("div", "track", fill);
  track.setAttribute("role", "meter");
  track.setAttribute("aria-label", name);
  const root = make("div", "bar", make("div", "", label, left), track);
  return {
    root,
    set(seconds, whole, text, tone) {
      const share = whole > 0 ? Math.min(1, Math.max(0, seconds / whole)) : 0;
      fill.style.width = `${(share * 100).toFixed(1)}%`;
      fill.className = `fill ${tone}`;
      track.setAttribute("aria-valuenow", share.toFixed(2));
      track.setAttribute("aria-valuetext", text);
      say(left, text);
    },
  };
}

function tokenCard() {
  const name = make("h3");
  const state = make("span", "chip");
  const source = make("div", "quiet small wrap");
  const origin = make("div", "small");
  const renewal = bar("Renewal");
  const expiry = bar("Expiry");
  const what = make("strong");
  const detail = make("span");
  const advice = make("div", "small");
  const failure = make("div", "note small", what, detail, advice);
  const root = make("article", "card", make("div", "head", name, state), source, origin,
    renewal.root, expiry.root, failure);
  const update = (token) => {
    const [tone, words] = STATES[token.state] || ["idle", token.state];
    say(name, token.name);
    say(state, words);
    state.className = `chip ${tone}`;
    say(source, `${token.kind} · ${token.source}${token.required ? "" : " · not required"}`);
    const had = token.age_seconds !== null;
    say(origin, had
      ? `Obtained ${span(token.age_seconds)} ago by ${token.obtained_by || "its source"}, number ${token.generation}`
      : "Never obtained so far");
    showRenewal(token, tone);
    showExpiry(token, had, tone);
    const failed = token.last_failure;
    failure.hidden = !failed;
    if (failed) {
      const times = token.consecutive_failures;
      say(what, times > 1 ? `Failed ${times} times. ` : "Failed. ");
      say(detail, `${failed.reason}: ${failed.detail}`);
      say(advice, `What to do: ${failed.advice}`);
    }
  };
  let attempt = { at: null, whole: 0 };
  const showRenewal = (token, tone) => {
    const left = token.next_attempt_in_seconds;
    renewal.root.hidden = left === null;
    if (left === null) return;
    if (attempt.at !== token.next_attempt_at) {
      const since = token.last_failure || token.age_seconds === null ? 0 : token.age_seconds;
      attempt = { at: token.next_attempt_at, whole: left + since };
    }
    const now = token.state === "renewing" || left <= 0;
    const verb = token.last_failure ? "tries again" : "renews";
    renewal.set(left, attempt.whole, now ? "now" : `${verb} in ${span(left)}`, now ? "work" : tone);
  };
  const showExpiry = (token, had, tone) => {
    expiry.root.hidden = !had;
    const left = token.expires_in_seconds;
    if (left === null) {
      expiry.set(1, 1, "does not expire, as far as is known", tone);
    } else if (token.state === "expired") {
      expiry.set(0, 1, left >= 1 ? `no longer used, ${span(left)} before it expires` : "expired", tone);
    } else {
      expiry.set(left, left + token.age_seconds, `expires in ${span(left)}`, tone);
    }
  };
  return { root, update };
}

function figure(name) {
  const value = make("b", "num");
  const root = make("div", "figure small quiet", value, name);
  return { root, set: (text, tone) => { say(value, text); value.className = `num ${tone || ""}`; } };
}

function sparkline() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 59 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "requests per second in the last minute");
  svg.append(line);
  return {
    root: svg,
    set(rates) {
      const top = Math.max(1, ...rates);
      const start = 60 - rates.length;
      const point = (rate, i) => `${start + i},${(19 - (rate / top) * 18).toFixed(1)}`;
      line.setAttribute("points", rates.map(point).join(" "));
    },
  };
}

function routeRow() {
  const name = make("h3");
  const where = make("div", "quiet small wrap");
  const injects = make("div", "quiet small wrap");
  const figures = {
    rate: figure("requests/s"), total: figure("requests"), errors: figure("5xx"),
    flight: figure("in flight"), rejected: figure("rejected"),
    stripped: figure("stripped"),
  };
  const spark = sparkline();
  const root = make("article", "card row", make("div", "", name, where, injects),
    make("div", "figures", ...Object.values(figures).map((f) => f.root)), spark.root);
  const rates = [];
  let before = null;
  const update = (route, now) => {
    const t = route.traffic;
    say(name, route.name);
    say(where, `${route.host || ""}${route.path} → ${route.upstream}`);
    say(injects, `injects ${route.injects.join(", ") || "nothing"}`);
    let rate = 0;
    if (before && now > before.now) {
      rate = Math.max(0, (t.requests - before.requests) / ((now - before.now) / 1000));
      rates.push(rate);
      if (rates.length > 60) rates.shift();
    }
    before = { now, requests: t.requests };
    const share = t.requests ? (100 * t.server_errors) / t.requests : 0;
    figures.rate.set(rate < 10 ? rate.toFixed(1) : count(Math.round(rate)));
    figures.total.set(count(t.requests));
    figures.errors.set(`${share.toFixed(1)} %`, share > 1 ? "bad" : "");
    figures.flight.set(count(t.in_flight));
    figures.rejected.set(count(t.rejections), t.rejections ? "warn" : "");
    figures.stripped.set(count(t.stripped));
    spark.set(rates);
  };
  return { root, update };
}

/** Keeps one child of `parent` for each item, by its name. */
function list(parent, build) {
  const known = new Map();
  return (items, ...more) => {
    const names = new Set(items.map((item) => item.name));
    for (const [name, view] of known) {
      if (!names.has(name)) {
        view.root.remove();
        known.delete(name);
      }
    }
    items.forEach((item, index) => {
      const view = known.get(item.name) || build();
      known.set(item.name, view);
      view.update(item, ...more);
      if (parent.children[index] !== view.root) parent.insertBefore(view.root, parent.children[index] || null);
    });
  };
}

function refusalItem() {
  const number = make("b", "num");
  const words = make("span", "wrap");
  return {
    root: make("li", "", number, words),
    update(item) {
      say(number, count(item.number));
      say(words, REFUSALS[item.name] ? `${item.name}: ${REFUSALS[item.name]}` : item.name);
    },
  };
}

const showTokens = list(byId("tokens"), tokenCard);
const showRoutes = list(byId("routes"), routeRow);
const showRefusals = list(byId("refusals"), refusalItem);

function show(status) {
  const ready = byId("ready");
  say(ready, status.draining ? "draining" : status.ready ? "ready" : "not ready");
  ready.className = `chip ${status.draining ? "warn" : status.ready ? "good" : "bad"}`;
  const now = Date.parse(status.now);
  say(byId("about"), `${status.version} · running for ${span((now - Date.parse(status.started_at)) / 1000)}`);
  document.title = `bearerd · ${ready.textContent}`;
  showTokens(status.tokens);
  showRoutes(status.routes, now);
  const refusals = Object.entries(status.refusals).map(([name, number]) => ({ name, number }));
  refusals.sort((a, b) => b.number - a.number);
  showRefusals(refusals);
  byId("refusals-title").hidden = !refusals.length;
  byId("tokens-title").hidden = !status.tokens.length;
}

let heard = null;

async function refresh() {
  const lost = byId("lost");
  try {
    const answer = await fetch("/status", { headers: { accept: "application/json" }, cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    heard = Date.now();
    lost.hidden = true;
  } catch {
    const since = heard ? ` since ${span((Date.now() - heard) / 1000)}; what stands below is old` : "";
    say(lost, `bearerd does not answer${since}.`);
    lost.hidden = false;
  }
}

/** Asks every second while somebody looks. */
async function run() {
  if (!document.hidden) await refresh();
  setTimeout(run, 1000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
run();
