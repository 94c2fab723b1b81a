// npm's ws as a client: one scenario, told as JSON lines.
"use strict";
const WebSocket = require("ws");
const crypto = require("node:crypto");
const [, , base, scenario] = process.argv;

const told = [];
const tell = (...what) => told.push(what);
const end = () => { console.log(JSON.stringify(told)); process.exit(0); };
setTimeout(() => { tell("nothing more"); end(); }, 15000).unref();
const sum = (data) => crypto.createHash("sha256").update(data).digest("hex").slice(0, 16);

const paths = { deflate: "/deflate", chat: "/chat", fragments: "/fragments", close: "/close", kill: "/kill",
  first: "/first", "ping from the server": "/ping", refuse: "/refuse" };
const url = base + (paths[scenario] || "/echo?a=1&&b");
const options = { perMessageDeflate: scenario === "deflate", headers: { "x-test": "1" } };
const ws = scenario === "chat" ? new WebSocket(url, ["other", "chat"], options) : new WebSocket(url, options);

ws.on("unexpected-response", (_, response) => { tell("refused", response.statusCode); end(); });
ws.on("error", (error) => { tell("error", error.code || "x"); });
ws.on("upgrade", (response) => tell("upgrade", response.statusCode, response.headers["sec-websocket-extensions"] || ""));
ws.on("ping", (data) => { tell("ping", data.toString()); ws.send("after the ping"); });
ws.on("pong", (data) => { tell("pong", data.toString()); ws.close(1000); });
ws.on("close", (code, reason) => { tell("close", code, reason.toString()); end(); });

let left = 1;
ws.on("message", (data, binary) => {
  tell("message", binary, data.length, data.length < 100 ? data.toString("latin1") : sum(data));
  if (--left <= 0) ws.close(1000, "done");
});
ws.on("open", () => {
  tell("open", ws.protocol, ws.extensions);
  const scenarios = {
    text: () => ws.send("hello"),
    unicode: () => ws.send("h\u00e9llo \u{1f600}"),
    empty: () => ws.send(""),
    binary: () => ws.send(Buffer.from([0, 13, 10, 255, 0])),
    many: () => { left = 500; for (let i = 0; i < 500; i++) ws.send(`message ${i}`); },
    large: () => ws.send(Buffer.alloc(16 * 1024 * 1024, "0123456789abcde")),
    deflate: () => { left = 3; for (const n of [1, 1000, 1000000]) ws.send("z".repeat(n)); },
    chat: () => ws.send("in a protocol"),
    fragments: () => ws.send("go"),
    "fragments to the server": () => { for (const p of ["a", "", "bc"]) ws.send(p, { fin: false }); ws.send("d", { fin: true }); },
    ping: () => ws.ping("payload"),
    "close 1000": () => ws.close(1000),
    "close 1001": () => ws.close(1001, "going away"),
    "close 3000": () => ws.close(3000, "registered"),
    "close 4999": () => ws.close(4999, "x".repeat(120)),
    "close without a code": () => ws.close(),
    terminate: () => { ws.terminate(); },
    "http inside": () => ws.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
  };
  (scenarios[scenario] || (() => {}))();
});
