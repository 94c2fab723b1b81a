// What the tests with Chromium share: the program in a process of its own, and the browser.
"use strict";
const { chromium } = require("playwright-core");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const [, , program, work] = process.argv;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `holds` does, ten seconds at most; whether it did. */
async function eventually(holds) {
  for (const end = Date.now() + 10000; Date.now() < end; await wait(50)) {
    if (await holds()) return true;
  }
  return false;
}

/** The port of a server that listens on loopback. */
const listen = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/** Runs the program with a configuration, on free ports. */
function start(configuration, environment = {}) {
  const file = path.join(work, `bearerd-${Math.random()}.yaml`);
  fs.writeFileSync(file, configuration);
  const child = spawn(
    program,
    ["run", "--config", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    { env: { ...process.env, ...environment } },
  );
  const instance = { child, log: "" };
  return new Promise((resolve, reject) => {
    child.stderr.on("data", (chunk) => {
      instance.log += chunk;
      const found = /listening proxy=\S*:(\d+) admin=\S*:(\d+)/.exec(instance.log);
      if (found) resolve(Object.assign(instance, { port: Number(found[1]), admin: Number(found[2]) }));
    });
    child.on("exit", () => reject(new Error(instance.log)));
  });
}

/** Chromium, which takes these names for loopback. */
const launch = (names) =>
  chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      // The guard must hold without the browser's own gate between sites and loopback.
      "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
      `--host-resolver-rules=${names.map((name) => `MAP ${name} 127.0.0.1`).join(",")}`,
    ],
  });

module.exports = { eventually, launch, listen, start, wait, work };
