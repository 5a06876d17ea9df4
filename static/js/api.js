/** Calls to the REST API from its own pages: session, CSRF token, problem+json errors. */

export class Problem extends Error {
  constructor(body, status) {
    super(body.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "unknown";
    this.errors = body.errors ?? [];
    this.body = body;
  }
}

const csrfToken = () => document.querySelector("meta[name=csrf-token]")?.content ?? "";

/**
 * Call `path` below /api/v1 (or any own address starting with "/") and return the parsed body.
 * Options: method, json, ifMatch (an ETag), idempotencyKey, signal, headers.
 */
export async function api(path, { method = "GET", json, ifMatch, idempotencyKey, signal, headers = {} } = {}) {
  const url = path.startsWith("/") ? path : `/api/v1/${path}`;
  const sent = { Accept: "application/json", ...headers };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  if (method !== "GET") sent["X-CSRFToken"] = csrfToken();
  if (ifMatch) sent["If-Match"] = ifMatch;
  if (idempotencyKey) sent["Idempotency-Key"] = idempotencyKey;
  const response = await fetch(url, { method, headers: sent, body: json === undefined ? undefined : JSON.stringify(json), signal });
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(body, response.status);
  return body;
}
