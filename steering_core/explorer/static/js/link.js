// A link that opens the page with the same model, prompt and steering. What it says stays in the browser: it stands
// behind the #, which no server is sent.

/** The address that opens a request again. */
export const linkTo = (body) => `${location.origin}${location.pathname}#steer?${encodeURIComponent(JSON.stringify(body))}`;

/** What the address asks to open, or nothing. Throws an error in words for a link that cannot be read. */
export function linked() {
  const [view, given] = location.hash.slice(1).split("?");
  if (view !== "steer" || !given) return null;
  try {
    const body = JSON.parse(decodeURIComponent(given));
    if (Array.isArray(body?.steering?.vectors)) return body;
  } catch {
    // told below, as any other link that says nothing
  }
  throw new Error("That link cannot be read: copy it again, whole.");
}
