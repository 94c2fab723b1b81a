// The matrix of cases; see `run`. Every case counts the requests that reach the upstream under a
// path of its own.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { launch, listen, start, wait } = require("./lib.cjs");

const token = { API_TOKEN: "browser-canary" };
const example = path.join(__dirname, "../../deploy/examples/frontend");

// ---- the upstream: records, answers everything in a way that browsers could use

const reached = [];
const upstream = http.createServer((request, response) => {
  reached.push({ url: request.url, method: request.method, headers: request.headers });
  if (request.headers.authorization !== "Bearer browser-canary") {
    response.writeHead(401).end();
  } else if (request.url.includes("events")) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end("data: an event\n\n");
  } else if (request.url.includes("script")) {
    response.writeHead(200, { "content-type": "text/javascript" }).end("window.stolen = true");
  } else if (request.url.includes("page")) {
    response.writeHead(200, { "content-type": "text/html" }).end("<title>upstream</title>");
  } else {
    response.writeHead(200, { "content-type": "text/plain", "access-control-allow-origin": "*" });
    response.end("secret data");
  }
});
const handshakes = [];
upstream.on("upgrade", (request, socket) => {
  reached.push({ url: request.url, method: request.method, headers: request.headers });
  handshakes.push(request.url);
  socket.end();
});

// ---- the pages: one server plays every origin

const pages = http.createServer((request, response) => {
  const url = new URL(request.url, "http://pages");
  const file = { "/example/": "index.html", "/example/main.js": "main.js" }[url.pathname];
  if (url.pathname === "/redirect") {
    response.writeHead(302, { location: url.searchParams.get("to") }).end();
  } else if (url.pathname === "/redirect307") {
    response.writeHead(307, { location: url.searchParams.get("to") }).end();
  } else if (file) {
    const type = file.endsWith(".js") ? "text/javascript" : "text/html";
    response.writeHead(200, { "content-type": type }).end(fs.readFileSync(path.join(example, file)));
  } else {
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>a page</title>");
  }
});

// ---- what a page can try. Each runs in a page and ends whether it succeeds or not.

const quietly = (f) => f.catch(() => "failed");

const inPage = (code) => async (page, url) => {
  const result = await quietly(page.evaluate(code, url));
  await wait(150);
  return result;
};

const attempts = {
  "fetch GET": inPage((url) => fetch(url).then((r) => r.text(), () => "failed")),
  "fetch POST": inPage((url) => fetch(url, { method: "POST", body: "x" }).then((r) => r.text(), () => "failed")),
  "fetch PUT with JSON": inPage((url) =>
    fetch(url, { method: "PUT", headers: { "content-type": "application/json" }, body: "{}" }).then((r) => r.text(), () => "failed")),
  "fetch DELETE": inPage((url) => fetch(url, { method: "DELETE" }).then((r) => r.text(), () => "failed")),
  "fetch HEAD": inPage((url) => fetch(url, { method: "HEAD" }).then((r) => String(r.status), () => "failed")),
  "fetch with an Authorization": inPage((url) =>
    fetch(url, { headers: { authorization: "Bearer page" } }).then((r) => r.text(), () => "failed")),
  "fetch with credentials": inPage((url) => fetch(url, { credentials: "include" }).then((r) => r.text(), () => "failed")),
  "XMLHttpRequest": inPage((url) => new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.onload = () => resolve(request.responseText);
    request.onerror = () => resolve("failed");
    request.send();
  })),
  "no-cors GET": inPage((url) => fetch(url, { mode: "no-cors" }).then(() => "opaque", () => "failed")),
  "no-cors POST": inPage((url) => fetch(url, { mode: "no-cors", method: "POST", body: "x" }).then(() => "opaque", () => "failed")),
  "no-cors without referrer": inPage((url) =>
    fetch(url, { mode: "no-cors", referrerPolicy: "no-referrer" }).then(() => "opaque", () => "failed")),
  "beacon": inPage((url) => String(navigator.sendBeacon(url, "x"))),
  "keepalive POST": inPage((url) =>
    fetch(url, { mode: "no-cors", keepalive: true, method: "POST", body: "x" }).then(() => "opaque", () => "failed")),
  "image": inPage((url) => new Promise((resolve) => {
    const image = new Image();
    image.onload = image.onerror = () => resolve("done");
    image.src = url;
  })),
  "image without referrer": inPage((url) => new Promise((resolve) => {
    const image = new Image();
    image.referrerPolicy = "no-referrer";
    image.onload = image.onerror = () => resolve("done");
    image.src = url;
  })),
  "image with crossorigin": inPage((url) => new Promise((resolve) => {
    const image = new Image();
    image.crossOrigin = "anonymous";
    image.onload = image.onerror = () => resolve("done");
    image.src = url;
  })),
  "script": inPage((url) => new Promise((resolve) => {
    const script = document.createElement("script");
    script.onload = script.onerror = () => resolve(String(window.stolen));
    script.src = url + "script";
    document.head.append(script);
  })),
  "module script": inPage((url) => import(url + "script").then(() => "loaded", () => "failed")),
  "stylesheet": inPage((url) => new Promise((resolve) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: url, onload: () => resolve("loaded"), onerror: () => resolve("failed") });
    document.head.append(link);
  })),
  "prefetch": inPage((url) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "prefetch", href: url });
    document.head.append(link);
  }),
  "iframe": inPage((url) => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.onload = () => resolve("done");
    frame.src = url + "page";
    document.body.append(frame);
  })),
  "object": inPage((url) => new Promise((resolve) => {
    const object = document.createElement("object");
    object.onload = object.onerror = () => resolve("done");
    object.data = url + "page";
    document.body.append(object);
    setTimeout(() => resolve("late"), 500);
  })),
  "video": inPage((url) => new Promise((resolve) => {
    const video = document.createElement("video");
    video.onerror = video.onloadeddata = () => resolve("done");
    video.src = url;
    document.body.append(video);
  })),
  "worker": inPage((url) => {
    const source = `fetch(${JSON.stringify(url)}).catch(() => {})`;
    new Worker(URL.createObjectURL(new Blob([source])));
  }),
  "EventSource": inPage((url) => new Promise((resolve) => {
    const source = new EventSource(url + "events");
    source.onmessage = (event) => (source.close(), resolve(event.data));
    source.onerror = () => (source.close(), resolve("failed"));
  })),
  "WebSocket": inPage((url) => new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws"));
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("failed");
  })),
  "form GET": inPage((url) => {
    const form = document.createElement("form");
    form.action = url + "page";
    document.body.append(form);
    form.submit();
  }),
  "form POST": inPage((url) => {
    const form = document.createElement("form");
    Object.assign(form, { action: url + "page", method: "post" });
    document.body.append(form);
    form.submit();
  }),
  "form POST into a frame": inPage((url) => {
    document.body.innerHTML = `<iframe name="f"></iframe><form method="post" target="f" action="${url}page"></form>`;
    document.forms[0].submit();
  }),
  "link": inPage((url) => {
    location.href = url + "page";
  }),
  "window": inPage((url) => {
    window.open(url + "page");
  }),
  "meta refresh": inPage((url) => {
    document.head.innerHTML += `<meta http-equiv="refresh" content="0;url=${url}page">`;
    return new Promise((resolve) => setTimeout(resolve, 300));
  }),
  "redirected fetch": inPage((url) =>
    fetch("/redirect?to=" + encodeURIComponent(url)).then((r) => r.text(), () => "failed")),
  "redirected fetch POST": inPage((url) =>
    fetch("/redirect307?to=" + encodeURIComponent(url), { method: "POST", body: "x" }).then((r) => r.text(), () => "failed")),
  "redirected link": inPage((url) => {
    location.href = "/redirect?to=" + encodeURIComponent(url + "page");
  }),
  "redirected image": inPage((url) => new Promise((resolve) => {
    const image = new Image();
    image.onload = image.onerror = () => resolve("done");
    image.src = "/redirect?to=" + encodeURIComponent(url);
  })),
};

// What a page in a sandbox can do, whose origin is `null`.
const sandboxed = {
  "fetch": "fetch(URL).catch(() => {})",
  "fetch POST": "fetch(URL, { method: 'POST', body: 'x' }).catch(() => {})",
  "no-cors POST": "fetch(URL, { mode: 'no-cors', method: 'POST', body: 'x' }).catch(() => {})",
  "EventSource": "new EventSource(URL)",
  "WebSocket": "new WebSocket(URL.replace('http', 'ws'))",
  "form POST": "document.body.innerHTML = `<form method=post action=${URL}></form>`, document.forms[0].submit()",
  "link": "location.href = URL",
};

async function main() {
  const upstreamPort = await listen(upstream);
  const pagesPort = await listen(pages);
  const url = `http://127.0.0.1:${upstreamPort}`;
  const listed = `http://listed.test:${pagesPort}`;
  const local = `http://localhost:${pagesPort}`;
  const tokens = "tokens: {api: {value: {from: {env: API_TOKEN}}}}\n";
  const route = `{upstream: "${url}", inject: {Authorization: "Bearer \${api}"}`;
  const plain = await start(`${tokens}routes: [${route}}]\n`, token);
  const open = await start(
    fs.readFileSync(path.join(example, "bearerd.yaml"), "utf8")
      .replace("${env.API_URL}", url)
      .replace('"http://localhost:5173"', `"${listed}", "${local}"`),
    token,
  );
  const browser = await launch(["evil.test", "listed.test", "rebound.test"]);

  const failures = [];
  let cases = 0;
  let number = 0;
  // Requests that reached the upstream: under the case's own path, and all others such as icons.
  async function run(name, attempt, origin, base, expected) {
    cases += 1;
    const mark = `/case-${(number += 1)}/`;
    reached.length = 0;
    const context = await browser.newContext();
    const page = await context.newPage();
    if (origin) await page.goto(`${origin}/`);
    const result = await attempt(page, `${base}${mark}`);
    await context.close();
    await wait(20);
    const got = reached.map((r) => `${r.method} ${r.url}`);
    const fine = expected === 0 ? got.length === 0 : expected(got, result);
    if (!fine) failures.push(`${name}: ${JSON.stringify(result)}, reached: ${got.join(", ") || "nothing"}`);
  }

  const port = (instance) => `http://localhost:${instance.port}`;
  // Without bearerd between, each attempt does reach the upstream, or it would show nothing.
  for (const [name, attempt] of Object.entries(attempts)) {
    const bare = `http://localhost:${upstreamPort}`;
    const reaches = (got) => got.some((request) => request.includes("/case-"));
    await run(`control, ${name}`, attempt, `http://evil.test:${pagesPort}`, bare, reaches);
  }
  for (const [origin, label] of [
    [`http://evil.test:${pagesPort}`, "another site"],
    [local, "another port of localhost"],
  ]) {
    for (const [name, attempt] of Object.entries(attempts)) {
      await run(`${label}, ${name}`, attempt, origin, port(plain), 0);
    }
  }
  // An unlisted origin where another one is listed.
  for (const name of ["fetch GET", "fetch POST", "no-cors POST", "EventSource", "WebSocket", "form POST", "script", "iframe"]) {
    await run(`unlisted, ${name}`, attempts[name], `http://evil.test:${pagesPort}`, port(open), 0);
  }
  for (const instance of [plain, open]) {
    for (const [name, code] of Object.entries(sandboxed)) {
      const attempt = async (page, base) => {
        const script = code.replaceAll("URL", JSON.stringify(base)).replaceAll("${" + JSON.stringify(base) + "}", base);
        await page.evaluate((html) => {
          const frame = document.createElement("iframe");
          frame.sandbox = "allow-scripts allow-forms allow-top-navigation";
          frame.srcdoc = html;
          document.body.append(frame);
        }, `<body><script>${script}</script>`);
        await wait(250);
      };
      await run(`origin null, ${name}`, attempt, listed, port(instance), 0);
    }
  }
  // A name of the attacker's that now leads here: to the browser all one origin.
  const rebound = `http://rebound.test:${plain.port}`;
  for (const name of ["fetch GET", "fetch POST", "XMLHttpRequest", "EventSource", "WebSocket", "image", "script"]) {
    const attempt = async (page, base) => {
      await page.goto(`${rebound}/page`).catch(() => {});
      return attempts[name](page, base);
    };
    await run(`rebound name, ${name}`, attempt, null, rebound, 0);
  }
  for (const host of ["0.0.0.0", "rebound.test", "evil.test"]) {
    const attempt = (page, base) => quietly(page.goto(`${base}page`)).then(() => wait(200));
    await run(`address ${host}`, attempt, null, `http://${host}:${plain.port}`, 0);
  }

  // The user's own hand.
  const typed = (page, base) => page.goto(`${base}page`).then(() => page.title());
  await run("a typed address", typed, null, port(plain), (got, title) => title === "upstream" && got.length >= 1);

  // A listed origin.
  const works = (wanted) => (got, result) => got.length === 1 && result === wanted;
  for (const [name, wanted] of [
    ["fetch GET", "secret data"], ["fetch POST", "secret data"], ["fetch PUT with JSON", "secret data"],
    ["fetch DELETE", "secret data"], ["fetch HEAD", "200"], ["fetch with an Authorization", "secret data"],
    ["XMLHttpRequest", "secret data"], ["EventSource", "an event"],
  ]) {
    await run(`listed, ${name}`, attempts[name], listed, port(open), works(wanted));
    await run(`listed on localhost, ${name}`, attempts[name], local, port(open), works(wanted));
  }
  for (const name of ["form POST", "link", "iframe", "script", "image", "window", "redirected link"]) {
    await run(`listed, ${name}`, attempts[name], listed, port(open), 0);
  }
  await run("listed, reads why it was refused", inPage((url) =>
    fetch(url.replace("/case", "/%00case")).then(async (r) => `${r.status} ${r.headers.get("bearerd-refusal")}`, () => "failed")),
    listed, port(open), (got, result) => got.length === 0 && result === "400 path");

  // The example as it stands in deploy/examples/frontend.
  const tryExample = async (page) => {
    await page.goto(`${local}/example/?api=${encodeURIComponent(port(open))}`);
    await page.waitForFunction(() => document.getElementById("events").textContent !== "..", null, { timeout: 5000 }).catch(() => {});
    return `${await page.textContent("#fetched")} | ${await page.textContent("#events")}`;
  };
  await run("the front-end example", tryExample, null, "", (got, result) =>
    result === "200 secret data | an event" && got.join() === "POST /hello,GET /events");

  await browser.close();
  for (const { child } of [plain, open]) child.kill();
  upstream.closeAllConnections();
  upstream.close();
  pages.closeAllConnections();
  pages.close();
  console.log(`${cases} cases, ${failures.length} failures`);
  for (const failure of failures) console.log(`  ${failure}`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
