"use strict";

const TONES = {
  starting: "idle", fresh: "good", renewing: "work", stale: "warn", expired: "bad", rejected: "bad",
};

/** So many seconds are drawn, and so many requests listed. */
const DRAWN = 60;
const LISTED = 200;

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
const SVG = "http://www.w3.org/2000/svg";

/** An element with a class, texts and children; text is never markup. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

/** An SVG element with attributes and children. */
function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
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

/** A short time, to three figures at most. */
function brief(seconds) {
  const ms = seconds * 1000;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

function count(number) {
  return number.toLocaleString("en");
}

function bar(name) {
  const left = make("span", "num");
  const fill = draw("rect", { height: 1 });
  const track = draw("svg", { class: "track", viewBox: "0 0 100 1", preserveAspectRatio: "none", role: "img" }, fill);
  return {
    root: make("div", "bar", make("div", "", make("span", "", name), left), track),
    set(seconds, whole, text, tone) {
      const share = whole > 0 ? Math.min(1, Math.max(0, seconds / whole)) : 0;
      fill.setAttribute("width", (share * 100).toFixed(2));
      fill.setAttribute("class", tone);
      track.setAttribute("aria-label", `${name}: ${text}`);
      say(left, text);
    },
  };
}

/** What happened, and what to do about it. */
function note() {
  const what = make("strong");
  const detail = make("span");
  const advice = make("div");
  return {
    root: make("div", "note small", what, detail, advice),
    set(title, text, help) {
      say(what, `${title} `);
      say(detail, text);
      say(advice, `What to do: ${help}`);
    },
  };
}

// ---- renewal by hand

const key = document.querySelector("meta[name=bearerd-key]").content;

async function renew(name, tell) {
  try {
    const answer = await fetch(`/tokens/${encodeURIComponent(name)}/renew`, {
      method: "POST", headers: { "bearerd-key": key }, cache: "no-store",
    });
    const text = await answer.text();
    if (!answer.headers.get("content-type").includes("json")) {
      tell(answer.status === 403 ? "bearerd was restarted; load this page anew" : text.trim());
      return;
    }
    const { renewal, retry_after_seconds: wait } = JSON.parse(text);
    tell(wait ? `${renewal}; again in ${wait} s` : renewal);
  } catch {
    tell("bearerd does not answer");
  }
}

function renewButton() {
  const button = make("button", "", "Renew now");
  button.type = "button";
  const told = make("span", "small quiet");
  told.setAttribute("role", "status");
  let name = "";
  let forget = 0;
  button.addEventListener("click", async () => {
    button.disabled = true;
    await renew(name, (text) => say(told, text));
    button.disabled = false;
    clearTimeout(forget);
    forget = setTimeout(() => say(told, ""), 8000);
  });
  return {
    root: make("div", "act", button, told),
    of(token) {
      name = token;
      button.setAttribute("aria-label", `Renew ${token} now`);
    },
  };
}

// ---- tokens

function tokenCard() {
  const name = make("h3");
  const state = make("span", "chip");
  const source = make("div", "quiet small wrap");
  const origin = make("div", "small");
  const renewal = bar("Renewal");
  const expiry = bar("Expiry");
  const failure = note();
  const rejection = note();
  const act = renewButton();
  const root = make("article", "card", make("div", "head", name, state), source, origin,
    renewal.root, expiry.root, failure.root, rejection.root, act.root);
  const update = (token, renewable) => {
    const tone = TONES[token.state] || "idle";
    say(name, token.name);
    say(state, token.says);
    state.className = `chip ${tone}`;
    say(source, `${token.kind} · ${token.source}${token.required ? "" : " · not\u00a0required"}`);
    const had = token.age_seconds !== null;
    say(origin, had
      ? `Obtained ${span(token.age_seconds)} ago by ${token.obtained_by || "its source"}, number ${token.generation}`
      : token.last_failure ? "Never obtained so far" : "Asking its source");
    showRenewal(token, tone);
    showExpiry(token, had, tone);
    showOutcome(token);
    act.root.hidden = !renewable;
    act.of(token.name);
  };
  const showOutcome = (token) => {
    const failed = token.last_failure;
    failure.root.hidden = !failed;
    if (failed) {
      const times = token.consecutive_failures;
      failure.set(times > 1 ? `Failed ${times} times.` : "Failed.", `${failed.reason}: ${failed.detail}`, failed.advice);
    }
    const rejected = token.rejected_by_upstream;
    rejection.root.hidden = !rejected;
    if (rejected) {
      rejection.set("An upstream rejected", `the value in use, ${span(rejected.seconds_ago)} ago`, rejected.advice);
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
    const usable = token.usable_for_seconds;
    if (left === null) {
      expiry.set(1, 1, "does not expire, as far as is known", tone);
    } else if (usable === 0) {
      expiry.set(0, 1, left >= 1 ? `no longer used, ${span(left)} before it expires` : "expired", tone);
    } else {
      expiry.set(left, left + token.age_seconds, `expires in ${span(left)}`, tone);
    }
  };
  return { root, update };
}

// ---- routes

function figure(name) {
  const value = make("b", "num");
  const label = make("span", "", name);
  return {
    root: make("div", "figure small quiet", value, label),
    set(text, tone, more) {
      say(value, text);
      say(label, more ? `${name}: ${more}` : name);
      value.className = `num ${tone || ""}`;
    },
  };
}

/** A figure with its last minute. */
function curve(name, tone) {
  const shown = figure(name);
  const line = draw("polyline", {});
  const area = draw("polygon", {});
  const svg = draw("svg", { class: `spark ${tone}`, viewBox: `0 0 ${DRAWN - 1} 20`, preserveAspectRatio: "none", role: "img" }, area, line);
  shown.root.append(svg);
  const points = [];
  return {
    root: shown.root,
    set(value, text, least, warning) {
      points.push(value);
      if (points.length > DRAWN) points.shift();
      const top = Math.max(least, ...points);
      const start = DRAWN - points.length;
      const drawn = points.map((point, i) => `${start + i},${(19 - (point / top) * 18).toFixed(1)}`);
      line.setAttribute("points", drawn.join(" "));
      area.setAttribute("points", `${start},20 ${drawn.join(" ")} ${DRAWN - 1},20`);
      svg.setAttribute("aria-label", `${name} in the last minute: ${text} now`);
      shown.set(text, warning);
    },
  };
}

/** The duration that a share of the requests between two histograms did not exceed. */
function quantile(before, after, share) {
  const steps = after.at_most.map(([bound, number], i) => [bound, number - (before.at_most[i] || [0, 0])[1]]);
  const whole = after.requests - before.requests;
  if (whole <= 0 || !steps.length) return null;
  const found = steps.findIndex(([, number]) => number >= share * whole);
  if (found < 0) return steps[steps.length - 1][0];
  const [low, below] = found ? steps[found - 1] : [0, 0];
  const [high, above] = steps[found];
  return above > below ? low + ((high - low) * (share * whole - below)) / (above - below) : high;
}

function routeRow() {
  const name = make("h3");
  const where = make("div", "quiet small wrap");
  const injects = make("div", "quiet small wrap");
  const rate = curve("requests/s", "work");
  const errors = curve("5xx", "bad");
  const latency = curve("mean time", "good");
  const figures = {
    slow: figure("95 % within"), total: figure("requests"), flight: figure("in flight"),
    rejected: figure("rejected"), lacking: figure("no token"), stripped: figure("stripped"),
  };
  const root = make("article", "card row", make("div", "", name, where, injects),
    make("div", "figures", ...Object.values(figures).map((f) => f.root)),
    make("div", "curves", rate.root, errors.root, latency.root));
  const looks = [];
  const update = (route, now) => {
    const t = route.traffic;
    say(name, route.name);
    say(where, `${route.host || ""}${route.path} → ${route.upstream}`);
    say(injects, `injects ${route.injects.join(", ") || "nothing"}`);
    const look = { now, requests: t.requests, errors: t.server_errors, sum: t.durations.sum_seconds, at_most: t.durations.at_most };
    const last = looks[looks.length - 1];
    // A count that falls is another process's.
    if (last && (last.requests > look.requests || now <= last.now)) looks.length = 0;
    if (looks.length) showCurves(looks[looks.length - 1], look);
    looks.push(look);
    if (looks.length > DRAWN) looks.shift();
    const slow = quantile(looks[0], look, 0.95);
    figures.slow.set(slow === null ? "–" : brief(slow));
    figures.total.set(count(t.requests));
    figures.flight.set(count(t.in_flight));
    figures.rejected.set(count(t.rejections), t.rejections ? "warn" : "", Object.keys(t.rejections_by_code).join(", "));
    figures.lacking.set(count(t.without_token), t.without_token ? "bad" : "");
    figures.stripped.set(count(t.stripped));
  };
  const showCurves = (before, after) => {
    const requests = after.requests - before.requests;
    const perSecond = requests / ((after.now - before.now) / 1000);
    rate.set(perSecond, perSecond < 9.95 ? perSecond.toFixed(1) : count(Math.round(perSecond)), 1);
    const share = requests ? (after.errors - before.errors) / requests : 0;
    errors.set(share, `${(100 * share).toFixed(1)} %`, 0.05, share > 0.01 ? "bad" : "");
    const mean = requests ? (after.sum - before.sum) / requests : 0;
    latency.set(mean, requests ? brief(mean) : "–", 0.001);
  };
  rate.set(0, "–", 1);
  errors.set(0, "–", 0.05);
  latency.set(0, "–", 0.001);
  return { root, update };
}

// ---- refusals and requests

/** Keeps one child of `parent` for each item, by its name; what the first view put there goes. */
function list(parent, build) {
  const known = new Map();
  return (items, ...more) => {
    if (!known.size) parent.replaceChildren();
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

function tag(name, values) {
  return values.length ? [make("span", "tag", `${name} ${values.join(", ")}`)] : [];
}

function requestItem(request) {
  const { status } = request;
  const tone = status === null || status >= 500 ? "bad" : status >= 400 ? "warn" : "good";
  const at = new Date(request.at);
  const clock = make("time", "quiet num", at.toLocaleTimeString("en-GB"));
  clock.dateTime = request.at;
  const target = make("span", "target wrap", make("b", "", request.route || "no route"), ` ${request.path || ""}`);
  return make("li", "", clock, make("b", "method", request.method.slice(0, 12)),
    make("b", `num ${tone}`, status === null ? "left" : String(status)),
    make("span", "num took", brief(request.seconds)), target,
    make("span", "tags", ...(request.refusal ? [make("span", "tag bad", `refused: ${request.refusal}`)] : []),
      ...(request.replayed ? [make("span", "tag work", "sent twice")] : []),
      ...(request.aborted ? [make("span", "tag warn", "cut off")] : []),
      ...tag("−", request.stripped), ...tag("+", request.injected)));
}

const log = byId("requests");
let newest = 0;
let paused = false;

function showRequests(requests) {
  const news = requests.filter((request) => request.number > newest).reverse();
  if (!news.length || paused) return;
  newest = news[0].number;
  log.hidden = false;
  log.prepend(...news.map(requestItem));
  while (log.children.length > LISTED) log.lastChild.remove();
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  say(byId("pause"), paused ? "Go on" : "Pause");
  // What was missed comes with a new stream.
  if (!paused) follow();
});

// ---- the whole

const showTokens = list(byId("tokens"), tokenCard);
const showRoutes = list(byId("routes"), routeRow);
const showRefusals = list(byId("refusals"), refusalItem);

const NOTES = {
  paths: "Those that end while this page is open: − is what was removed, + what was injected, by name. Paths without their query.",
  names: "Those that end while this page is open: − is what was removed, + what was injected, by name.",
  none: "Not listed: `inspect` is none, or admin is not a loopback address.",
};

let started = null;

function show(status) {
  const ready = byId("ready");
  say(ready, status.draining ? "draining" : status.ready ? "ready" : "not ready");
  ready.className = `chip ${status.draining ? "warn" : status.ready ? "good" : "bad"}`;
  const now = Date.parse(status.now);
  say(byId("about"), `${status.version} · running for ${span((now - Date.parse(status.started_at)) / 1000)}`);
  document.title = `bearerd · ${ready.textContent}`;
  if (started !== status.started_at) {
    started = status.started_at;
    newest = 0;
    log.replaceChildren();
    log.hidden = true;
  }
  showTokens(status.tokens, status.renewable);
  showRoutes(status.routes, now);
  const refusals = Object.entries(status.refusals).map(([name, number]) => ({ name, number }));
  refusals.sort((a, b) => b.number - a.number);
  showRefusals(refusals);
  byId("refusals-part").hidden = !refusals.length;
  byId("tokens-part").hidden = !status.tokens.length;
  say(byId("requests-note"), NOTES[status.inspect] || "");
  byId("pause").hidden = status.inspect === "none";
  heard = Date.now();
  byId("lost").hidden = true;
}

let heard = 0;
let source = null;
let again = 0;

/** Follows the events while somebody looks. */
function follow() {
  unfollow();
  source = new EventSource("/status/events");
  source.addEventListener("status", (event) => show(JSON.parse(event.data)));
  source.addEventListener("requests", (event) => showRequests(JSON.parse(event.data)));
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    // Refused: there may be too many streams. Ask for single looks meanwhile.
    unfollow();
    look();
    again = setTimeout(follow, 2000);
  };
}

function unfollow() {
  clearTimeout(again);
  if (source) source.close();
  source = null;
}

async function look() {
  try {
    const answer = await fetch("/status", { headers: { accept: "application/json" }, cache: "no-store" });
    if (answer.ok) show(await answer.json());
  } catch {
    // `complain` tells.
  }
}

function complain() {
  if (document.hidden || Date.now() - heard < 3500) return;
  const since = heard ? ` for ${span((Date.now() - heard) / 1000)}; what stands below is old` : "";
  say(byId("lost"), `bearerd does not answer${since}.`);
  byId("lost").hidden = false;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) unfollow();
  else follow();
});
heard = Date.now();
setInterval(complain, 1000);
if (!document.hidden) follow();
