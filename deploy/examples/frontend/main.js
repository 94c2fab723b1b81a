// Where bearerd listens. Behind Vite's own proxy (see vite.config.js) this would be "/api".
const api = new URLSearchParams(location.search).get("api") ?? "http://localhost:8080";

const show = (id, text) => (document.getElementById(id).textContent = text);

const answer = await fetch(`${api}/hello`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ name: "world" }),
});
show("fetched", `${answer.status} ${await answer.text()}`);

const events = new EventSource(`${api}/events`);
events.onmessage = (event) => {
  show("events", event.data);
  events.close();
};
events.onerror = () => show("events", "no events");
