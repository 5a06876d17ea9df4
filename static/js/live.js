/**
 * Live updates of one topic ("processingjob:<id>"): over a websocket, or, where none can be had, by polling.
 *
 * subscribe("processingjob:…", onEvent, { since, poll, onState }) calls onEvent(event) for the snapshot (type "status")
 * and for each event after it. After a lost connection it asks for what it missed. `poll` is called every 2 s while
 * there is no socket, and gives a status event. onState is told "live", "polling" or "ended".
 * Returns { close() }.
 */
const FIRST_DELAY = 500;
const LAST_DELAY = 15000;
const POLL_MS = 2000;
const REFUSED = new Set([4400, 4401, 4404]);

export function subscribe(topic, onEvent, { since = "", poll = null, onState = () => {}, Socket = globalThis.WebSocket } = {}) {
  let seq = since === "" ? null : Number(since);
  let delay = FIRST_DELAY;
  let socket = null;
  let closed = false;
  let pollTimer = null;
  let retryTimer = null;

  const address = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const query = new URLSearchParams({ topic, ...(seq === null ? {} : { since: seq }) });
    return `${scheme}://${location.host}/ws/live?${query}`;
  };

  const take = (message) => {
    if (message.snapshot) {
      if (seq === null) seq = message.seq;
      onEvent(message.snapshot);
      return;
    }
    if (message.seq <= seq) return; // heard before the connection was lost
    seq = message.seq;
    for (const event of message.events) onEvent(event);
  };

  const startPolling = () => {
    if (!poll || pollTimer !== null || closed) return;
    onState("polling");
    const tick = async () => {
      try {
        const event = await poll();
        if (event && !closed) onEvent(event);
      } catch {
        // The server is away: the next tick, or the socket, will tell.
      }
      if (pollTimer !== null) pollTimer = setTimeout(tick, POLL_MS);
    };
    pollTimer = setTimeout(tick, POLL_MS);
  };

  const stopPolling = () => {
    clearTimeout(pollTimer);
    pollTimer = null;
  };

  const connect = () => {
    if (closed) return;
    socket = new Socket(address());
    socket.addEventListener("open", () => {
      delay = FIRST_DELAY;
      stopPolling();
      onState("live");
    });
    socket.addEventListener("message", ({ data }) => take(JSON.parse(data)));
    socket.addEventListener("close", ({ code }) => {
      if (closed) return;
      if (REFUSED.has(code)) {
        onState("ended");
        stopPolling();
        return;
      }
      startPolling();
      retryTimer = setTimeout(connect, delay * (0.75 + Math.random() / 2));
      delay = Math.min(delay * 2, LAST_DELAY);
    });
  };

  connect();
  return {
    close() {
      closed = true;
      stopPolling();
      clearTimeout(retryTimer);
      socket?.close();
    },
  };
}
