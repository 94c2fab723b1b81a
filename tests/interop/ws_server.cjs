// A WebSocket server on npm's ws that does what the path asks for; prints its port.
"use strict";
const { WebSocketServer } = require("ws");
const http = require("node:http");

const server = http.createServer((request, response) => response.writeHead(426).end());
const deflating = new WebSocketServer({ noServer: true, perMessageDeflate: true, maxPayload: 64 * 1024 * 1024,
  handleProtocols: (offered) => (offered.has("chat") ? "chat" : false) });
const plain = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024 * 1024 });

server.on("upgrade", (request, socket, head) => {
  if (request.headers.authorization !== process.env.EXPECT_CREDENTIAL && process.env.EXPECT_CREDENTIAL) {
    socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    return;
  }
  if (request.url === "/refuse") {
    socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnope");
    return;
  }
  const wss = request.url === "/deflate" || request.url === "/chat" ? deflating : plain;
  wss.handleUpgrade(request, socket, head, (ws) => {
    if (request.url === "/close") ws.close(4321, "of its own accord");
    if (request.url === "/kill") ws.terminate();
    if (request.url === "/first") ws.send("the server speaks first");
    if (request.url === "/ping") ws.ping("are you there");
    ws.on("message", (data, binary) => {
      if (request.url === "/fragments") {
        for (const part of ["a", "bc", "", "def"]) ws.send(part, { fin: false, binary });
        ws.send("!", { fin: true, binary });
      } else {
        ws.send(data, { binary });
      }
    });
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
