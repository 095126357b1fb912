// The page of the server.
import { stateFromHash } from "./store.js";
import { HttpTransport } from "./transport.js";
import { Viewer } from "./viewer.js";

// the token has been exchanged for a cookie, and does not belong in a copied address
const address = new URL(location.href);
address.searchParams.delete("token");
history.replaceState(null, "", address);

const root = document.getElementById("viewer");
if (root) {
  const scene = Number(address.searchParams.get("scene") ?? 0) || 0;
  const viewer = new Viewer(root, new HttpTransport(), { scene, start: stateFromHash(location.hash) });
  // for tests and benchmarks in a browser
  Object.assign(window, { viewer });
  void viewer.start();
}
