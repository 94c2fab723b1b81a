// WebSockets of pages: one of a listed origin works in both directions, one of any other page never
// reaches the upstream. See `run`.
"use strict";
const { chromium } = require("playwright-core");
const { spawn } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const [, , program, work] = process.argv;
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

// An upstream that echoes short messages, and notes who asked for it.
const reached = [];
const upstream = http.createServer((request, response) => {
  reached.push(request.url);
  response.end("plain");
});
upstream.on("upgrade", (request, socket) => {
  reached.push(request.url);
  const accept = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + GUID).digest("base64");
  const known = request.headers.authorization === "Bearer browser-canary" && !request.headers.cookie;
  const protocol = request.headers["sec-websocket-protocol"];
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n` +
      (protocol ? `Sec-WebSocket-Protocol: ${protocol.split(",")[0].trim()}\r\n` : "") + "\r\n",
  );
  let buffer = Buffer.alloc(0);
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    while (buffer.length >= 6) {
      const length = buffer[1] & 0x7f;
      if (length > 125 || buffer.length < 6 + length) return;
      const [opcode, mask] = [buffer[0] & 0x0f, buffer.subarray(2, 6)];
      const payload = Buffer.from(buffer.subarray(6, 6 + length).map((byte, i) => byte ^ mask[i % 4]));
      buffer = buffer.subarray(6 + length);
      const told = opcode === 1 ? Buffer.from(`${known ? "ours" : "not ours"}: ${payload}`) : payload;
      socket.write(Buffer.concat([Buffer.from([0x80 | opcode, told.length]), told]));
      if (opcode === 8) socket.end();
    }
  });
});

const pages = http.createServer((_, response) =>
  response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>a page</title>"));

const listen = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

function start(configuration) {
  const file = path.join(work, `websocket-${process.pid}-${Math.random()}.yaml`);
  fs.writeFileSync(file, configuration);
  const child = spawn(
    program,
    ["run", "--config", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    { env: { ...process.env, API_TOKEN: "browser-canary" } },
  );
  return new Promise((resolve, reject) => {
    let text = "";
    child.stderr.on("data", (chunk) => {
      text += chunk;
      const found = /listening proxy=\S*:(\d+)/.exec(text);
      if (found) resolve({ child, port: Number(found[1]), file });
    });
    child.on("exit", () => reject(new Error(text)));
  });
}

// Runs in the page: talks, and says what happened.
const talk = ([url, protocols]) =>
  new Promise((resolve) => {
    const socket = protocols ? new WebSocket(url, protocols) : new WebSocket(url);
    socket.onerror = () => resolve("refused");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => {
      socket.onclose = (end) => resolve(`${event.data}, ${socket.protocol || "no protocol"}, ${end.code}`);
      socket.close(4000);
    };
    setTimeout(() => resolve("nothing"), 5000);
  });

async function main() {
  const [upstreamPort, pagesPort] = [await listen(upstream), await listen(pages)];
  const listed = `http://app.test:${pagesPort}`;
  const route = (cors) =>
    `tokens: {api: {value: {from: {env: API_TOKEN}}}}\nroutes:\n  - upstream: http://127.0.0.1:${upstreamPort}\n` +
    `    inject: {Authorization: "Bearer \${api}"}\n${cors}`;
  const plain = await start(route(""));
  const open = await start(route(`    cors: {origins: ["${listed}"]}\n`));
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--host-resolver-rules=MAP *.test 127.0.0.1"],
  });
  const failures = [];
  let cases = 0;
  async function run(name, origin, instance, expected, { protocols, host = "localhost", inFrame = false } = {}) {
    cases += 1;
    reached.length = 0;
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${origin}/`).catch(() => {});
    const url = `ws://${host}:${instance.port}/socket-${cases}`;
    let result;
    if (inFrame) {
      await page.evaluate(([html]) => {
        window.told = new Promise((resolve) => { window.onmessage = (event) => resolve(event.data); });
        const frame = document.createElement("iframe");
        frame.sandbox = "allow-scripts";
        frame.srcdoc = html;
        document.body.append(frame);
      }, [`<script>(${talk})(${JSON.stringify([url])}).then((told) => parent.postMessage(told, "*"))</script>`]);
      result = await page.evaluate(() => window.told);
    } else {
      result = await page.evaluate(talk, [url, protocols]).catch((error) => `failed: ${error}`);
    }
    await context.close();
    const count = reached.filter((seen) => seen.includes("/socket-")).length;
    const [wanted, times] = expected;
    if (result !== wanted || count !== times) {
      failures.push(`${name}: ${result}, reached: ${reached.join(", ") || "nothing"}`);
    }
  }

  const works = ["ours: hello, no protocol, 4000", 1];
  const refused = ["refused", 0];
  // Without bearerd between, any page can.
  await run("control", `http://evil.test:${pagesPort}`, { port: upstreamPort }, ["not ours: hello, no protocol, 4000", 1]);
  await run("a listed origin", listed, open, works);
  await run("a listed origin, by address", listed, open, works, { host: "127.0.0.1" });
  await run("a listed origin, with a protocol", listed, open, ["ours: hello, chat, 4000", 1], { protocols: ["chat", "x"] });
  for (const [name, origin] of [
    ["another site", `http://evil.test:${pagesPort}`],
    ["a name below the listed one", `http://x.app.test:${pagesPort}`],
    ["another port of localhost", `http://localhost:${pagesPort}`],
    ["another port of the address", `http://127.0.0.1:${pagesPort}`],
    ["the listed name at another port", `http://app.test:${upstreamPort}`],
  ]) {
    await run(`${name}, where one is listed`, origin, open, refused);
    await run(`${name}, where none is`, origin, plain, refused);
  }
  await run("the listed origin, where none is listed", listed, plain, refused);
  await run("a sandboxed frame of the listed origin", listed, open, refused, { inFrame: true });
  await run("a sandboxed frame of another", `http://evil.test:${pagesPort}`, plain, refused, { inFrame: true });
  // A name of the attacker's that now leads here, from its own page and from another.
  await run("a rebound name", `http://rebound.test:${pagesPort}`, plain, refused, { host: "rebound.test" });
  await run("a rebound name of the listed origin", listed, open, refused, { host: "app.test" });
  await run("no address", listed, open, refused, { host: "0.0.0.0" });

  await browser.close();
  for (const { child, file } of [plain, open]) {
    child.kill();
    fs.rmSync(file);
  }
  upstream.closeAllConnections();
  upstream.close();
  pages.closeAllConnections();
  pages.close();
  console.log(`websocket: ${cases} cases, ${failures.length} failures`);
  for (const failure of failures) console.log(`  ${failure}`);
  process.exit(failures.length === 0 ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
