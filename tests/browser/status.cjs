// The status page in all of its states, at three sizes, light and dark; and every way in which a
// page of another site could have it act or read it. See `run`.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { eventually, launch, listen, start, wait, work } = require("./lib.cjs");

const screens = path.join(work, "screens");
const SIZES = { phone: [390, 844], laptop: [1280, 800], wide: [1920, 1080] };
const CANARY = "status-page-canary";

// ---- an issuer that does what a token's name says, and an upstream

const asked = {};
const issuer = http.createServer((request, response) => {
  const name = request.url.slice(1);
  asked[name] = (asked[name] || 0) + 1;
  const give = (lifetime) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ access_token: `${CANARY}-${name}-${asked[name]}`, token_type: "Bearer", expires_in: lifetime }));
  };
  const refuse = (status, body) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  };
  request.resume();
  const first = asked[name] === 1;
  if (name === "starting") return; // It never answers.
  if (name === "renewing") return first ? give(600) : undefined;
  if (name === "stale") return first ? give(600) : refuse(503, {});
  if (name === "expired") return first ? give(2) : refuse(503, {});
  if (name === "refused") {
    return refuse(401, { error: "invalid_client", error_description: "Client authentication failed" });
  }
  return give(name === "fresh" ? 900 : 120);
});

const upstream = http.createServer((request, response) => {
  request.resume();
  if (request.url.startsWith("/reports")) return response.writeHead(401).end();
  if (request.url.startsWith("/slow")) return setTimeout(() => response.end("late"), 180);
  if (request.url.startsWith("/broken")) return response.writeHead(500).end("no");
  response.end("fine");
});

const pages = http.createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>a page</title>");
});

function configuration(issuerPort, upstreamPort) {
  const names = ["fresh", "renewing", "starting", "stale", "expired", "refused", "unwanted"];
  const token = (name) => `  ${name}:
    oauth2:
      token_url: http://127.0.0.1:${issuerPort}/${name}
      client_id: billing
      client_secret: {env: SECRET}
      required: ${["fresh", "unwanted"].includes(name)}
      renew: {timeout: 60s}
`;
  const route = (name, prefix, name_of_token) => `  - name: ${name}
    match: {path: ${prefix}}
    upstream: http://127.0.0.1:${upstreamPort}
    inject: {Authorization: "Bearer \${${name_of_token}}", Organization: acme}
`;
  return `token_wait: 100ms
tokens:
${names.map(token).join("")}routes:
${route("orders", "/orders", "fresh")}${route("reports", "/reports", "unwanted")}${route("ledger", "/ledger", "starting")}${route("everything-else", "/", "fresh")}`;
}

// ---- what happens: requests of all sorts

function send(port, method, target, headers = {}) {
  return new Promise((resolve) => {
    const request = http.request({ port, method, path: target, headers: { host: "localhost", ...headers } }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    request.on("error", () => resolve(0));
    request.end();
  });
}

async function traffic(port) {
  const own = { authorization: `Bearer ${CANARY}-client`, "x-api-key": CANARY };
  for (let number = 0; number < 6; number += 1) {
    await send(port, "GET", `/orders/${number}?token=${CANARY}`, own);
  }
  await send(port, "POST", "/orders/5f2c9a81d4e6b7a0c3/lines", own);
  await send(port, "GET", "/slow/thing");
  await send(port, "GET", "/broken");
  await send(port, "GET", "/reports/2026-01");
  await send(port, "GET", "/ledger/entries");
  await send(port, "GET", "/orders/1", { host: "evil.example" });
  await send(port, "GET", "/orders/1", { origin: "http://evil.example" });
  await send(port, "DELETE", "/orders/../x");
}

// ---- the checks

const failures = [];
let cases = 0;
function check(name, holds, seen) {
  cases += 1;
  if (!holds) failures.push(`${name}: ${JSON.stringify(seen)}`);
}

const stateOf = (page, name) =>
  page.evaluate((wanted) => {
    const cards = [...document.querySelectorAll("#tokens .card")];
    const card = cards.find((card) => card.querySelector("h3").textContent === wanted);
    return card && card.querySelector(".chip").textContent;
  }, name);

const STATES = {
  fresh: "fresh", renewing: "being renewed", starting: "no token yet",
  stale: "usable, renewal fails", expired: "expired", refused: "rejected by its issuer",
  unwanted: "rejected by an upstream",
};

async function showsAllStates(page, instance) {
  for (const [name, says] of Object.entries(STATES)) {
    const there = await eventually(async () => (await stateOf(page, name)) === says);
    check(`the state of ${name}`, there, await stateOf(page, name));
  }
  const text = await page.textContent("body");
  for (const wanted of ["What to do: check client_id and client_secret", "tries again in", "renews in", "injects authorization", "rejected: 401"]) {
    check(`the page says "${wanted}"`, text.includes(wanted), text.slice(0, 3000));
  }
  check("a refusal is counted by its reason", /host: asked by a name/.test(text) && /no-token/.test(text), text.slice(-2500));
  const log = await page.textContent("#requests");
  for (const wanted of ["/orders/0", "− authorization", "+ authorization, organization", "refused: host", "refused: no-token", "/orders/[..]/lines"]) {
    check(`the list of requests has "${wanted}"`, log.includes(wanted), log.slice(0, 2500));
  }
  check("no credential is on the page", !(await page.content()).includes(CANARY), "the canary");
  check("nothing is asked for elsewhere", instance.elsewhere.length === 0, instance.elsewhere);
}

/** Ratios of contrast below what WCAG 2 asks of text (AA: 4.5). */
const faintTexts = (page) =>
  page.evaluate(() => {
    const parse = (color) => color.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
      for (let e = element; e; e = e.parentElement) {
        const color = parse(getComputedStyle(e).backgroundColor);
        if (color.length < 4 || color[3] > 0) return color;
      }
      return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
      const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
      if (!own || !element.getClientRects().length || element.closest("svg, script, style")) continue;
      const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < 4.5) faint.push(`${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
    }
    return faint;
  });

async function photograph(browser, instance, url) {
  fs.rmSync(screens, { recursive: true, force: true });
  fs.mkdirSync(screens, { recursive: true });
  let looked = false;
  for (const [size, [width, height]] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: { width, height }, colorScheme });
      const page = await context.newPage();
      page.on("request", (request) => {
        if (!request.url().startsWith(url) && !request.url().startsWith("data:")) instance.elsewhere.push(request.url());
      });
      page.on("console", (message) => {
        if (message.type() === "error") failures.push(`${size} ${colorScheme}: ${message.text()}`);
      });
      await page.goto(`${url}/status`);
      await page.waitForSelector("#tokens button");
      await traffic(instance.port);
      await wait(1200);
      await traffic(instance.port);
      if (!looked) await showsAllStates(page, instance);
      looked = true;
      await eventually(async () => (await stateOf(page, "unwanted")) === STATES.unwanted);
      await page.waitForSelector("#requests li");
      await wait(1100);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(`${size} ${colorScheme}: nothing sticks out`, overflow <= 0, overflow);
      const faint = await faintTexts(page);
      check(`${size} ${colorScheme}: contrast`, faint.length === 0, faint.slice(0, 5));
      await page.screenshot({ path: path.join(screens, `${size}-${colorScheme}.png`), fullPage: true });
      await context.close();
    }
  }
}

async function withoutScript(browser, url) {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await page.goto(`${url}/status`);
  const text = await page.textContent("main");
  for (const wanted of [...Object.values(STATES), "What to do:", "expires in", "injects authorization, organization"]) {
    check(`without script the page says "${wanted}"`, text.includes(wanted), text.slice(0, 2000));
  }
  await page.screenshot({ path: path.join(screens, "no-script.png"), fullPage: true });
  await context.close();
}

// ---- renewal by hand: the own page can, no other can

async function renewal(browser, instance, url) {
  const page = await (await browser.newContext({ reducedMotion: "reduce" })).newPage();
  await page.goto(`${url}/status`);
  const before = asked.fresh;
  await page.getByRole("button", { name: "Renew fresh now" }).click();
  check("the button renews", await eventually(() => asked.fresh === before + 1), asked);
  check("the button tells", await eventually(async () => /renewal has begun/.test(await page.textContent("#tokens"))), "");
  await page.getByRole("button", { name: "Renew fresh now" }).click();
  check("a second click tells why not", await eventually(async () => /less than 30 s ago; again in \d+ s/.test(await page.textContent("#tokens"))), await page.textContent("#tokens"));
  check("the issuer is asked once", asked.fresh === before + 1, asked);
  const moving = await page.evaluate(() => getComputedStyle(document.querySelector(".track rect")).transitionDuration);
  check("reduced motion is obeyed", moving === "0s", moving);
  await page.context().close();
}

// Each runs in a page of another origin; none may have a token renewed.
const attempts = {
  "fetch POST": (url) => fetch(url, { method: "POST" }).catch(() => {}),
  "fetch POST with the field": (url) => fetch(url, { method: "POST", headers: { "bearerd-key": "0" } }).catch(() => {}),
  "fetch POST with JSON": (url) => fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }).catch(() => {}),
  "no-cors POST": (url) => fetch(url, { method: "POST", mode: "no-cors", body: "x" }).catch(() => {}),
  "no-cors POST with credentials": (url) => fetch(url, { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => {}),
  "keepalive POST": (url) => fetch(url, { method: "POST", mode: "no-cors", keepalive: true, body: "x" }).catch(() => {}),
  beacon: (url) => navigator.sendBeacon(url, "x"),
  "form POST": (url) => {
    document.body.innerHTML = `<form method="post" action="${url}"><input name="token" value="fresh"></form>`;
    document.forms[0].submit();
  },
  "form POST as plain text": (url) => {
    document.body.innerHTML = `<form method="post" enctype="text/plain" action="${url}"><input name='{"a":"' value='b"}'></form>`;
    document.forms[0].submit();
  },
  "form POST into a frame": (url) => {
    document.body.innerHTML = `<iframe name="f"></iframe><form method="post" target="f" action="${url}"></form>`;
    document.forms[0].submit();
  },
  "form POST of a sandbox": (url) => {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts allow-forms";
    frame.srcdoc = `<form method="post" action="${url}"></form><script>document.forms[0].submit()</script>`;
    document.body.append(frame);
  },
  "GET by an image": (url) => { new Image().src = url; },
  "GET by a link": (url) => { location.href = url; },
};

/** What a page of another origin can learn; it must be nothing. */
const readings = {
  "fetch of the key": (url) => fetch(`${url}/status/key`).then((r) => r.text(), () => ""),
  "fetch of the page": (url) => fetch(`${url}/status`).then((r) => r.text(), () => ""),
  "fetch of the requests": (url) => fetch(`${url}/status/requests`).then((r) => r.text(), () => ""),
  "a frame of the page": (url) => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.onload = () => {
      try {
        resolve(frame.contentDocument.body.textContent);
      } catch {
        resolve("");
      }
    };
    frame.src = `${url}/status`;
    document.body.append(frame);
  }),
  events: (url) => new Promise((resolve) => {
    const source = new EventSource(`${url}/status/events`);
    source.addEventListener("status", (event) => (source.close(), resolve(event.data)));
    source.onerror = () => (source.close(), resolve(""));
  }),
};

async function crossSite(browser, instance, pagesPort) {
  const wanted = () => (instance.log.match(/asks for a renewal/g) || []).length;
  const before = wanted();
  const admin = `http://localhost:${instance.admin}`;
  const origins = { "another site": `http://evil.test:${pagesPort}`, "another port": `http://localhost:${pagesPort}` };
  for (const [label, origin] of Object.entries(origins)) {
    for (const [name, attempt] of Object.entries(attempts)) {
      const page = await (await browser.newContext()).newPage();
      await page.goto(origin);
      await page.evaluate(attempt, `${admin}/tokens/spare/renew`).catch(() => {});
      await wait(150);
      check(`${label}, ${name}`, wanted() === before, instance.log.slice(-300));
      await page.context().close();
    }
    for (const [name, reading] of Object.entries(readings)) {
      const page = await (await browser.newContext()).newPage();
      await page.goto(origin);
      const text = await page.evaluate(reading, admin).catch(() => "");
      check(`${label}, ${name}`, text === "", text);
      await page.context().close();
    }
  }
  // A name of the attacker's that now leads here: to the browser all one origin.
  const page = await (await browser.newContext()).newPage();
  const rebound = `http://rebound.test:${instance.admin}`;
  await page.goto(`${rebound}/status`).catch(() => {});
  const text = await page.evaluate(readings["fetch of the key"], rebound).catch(() => "");
  check("a rebound name, the key", !/^[0-9a-f]{32}/.test(text), text);
  await page.evaluate(attempts["fetch POST with the field"], `${rebound}/tokens/spare/renew`).catch(() => {});
  check("a rebound name, POST", wanted() === before, instance.log.slice(-300));
  await page.context().close();
}

async function main() {
  const [issuerPort, upstreamPort, pagesPort] = [await listen(issuer), await listen(upstream), await listen(pages)];
  const instance = await start(configuration(issuerPort, upstreamPort), { SECRET: CANARY });
  instance.elsewhere = [];
  const spare = await start(
    `tokens: {spare: {oauth2: {token_url: "http://127.0.0.1:${issuerPort}/spare", client_id: a, client_secret: {env: SECRET}}}}
routes: [{upstream: "http://127.0.0.1:${upstreamPort}", inject: {Authorization: "Bearer \${spare}"}}]\n`,
    { SECRET: CANARY },
  );
  const url = `http://localhost:${instance.admin}`;
  const browser = await launch(["evil.test", "rebound.test"]);
  await eventually(() => asked.expired && asked.stale && asked.renewing);
  // By hand, as a program of this machine: the second answer is what makes these two.
  const key = (await (await fetch(`${url}/status/key`)).text()).trim();
  for (const name of ["stale", "renewing"]) {
    const answer = await fetch(`${url}/tokens/${name}/renew`, { method: "POST", headers: { "bearerd-key": key } });
    check(`a program renews ${name}`, answer.status === 202, answer.status);
  }
  await photograph(browser, instance, url);
  await withoutScript(browser, url);
  await renewal(browser, instance, url);
  await crossSite(browser, spare, pagesPort);
  await browser.close();
  for (const { child } of [instance, spare]) child.kill();
  for (const server of [issuer, upstream, pages]) {
    server.closeAllConnections();
    server.close();
  }
  console.log(`the status page: ${cases} cases, ${failures.length} failures; screenshots in ${screens}`);
  for (const failure of failures) console.log(`  ${failure}`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
