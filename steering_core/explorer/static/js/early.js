// Asks for what the first view shows while the page's scripts are still on their way; api.js hands the answers on.

globalThis.early = new Map();
{
  const ask = (url) => globalThis.early.set(url, fetch(url));
  const model = localStorage.getItem("model");
  ask("/api/models");
  ask("/api/operations");
  if (location.hash === "#look") ask(`/api/look${model ? `?${new URLSearchParams({ model })}` : ""}`);
}
