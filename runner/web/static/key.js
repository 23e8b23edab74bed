// What shows the server that this page was opened with its token. A browser sends a cookie to all ports of a machine, also to
// those where another user listens; what it keeps in its storage, it gives to the pages of one port alone.

const NAME = "runner-proof";
const address = new URL(location.href);
const given = address.searchParams.get("proof");

function kept() {
  try {
    if (given) localStorage.setItem(NAME, given);
    return given ?? localStorage.getItem(NAME);
  } catch {
    // a browser that keeps nothing: until the page is loaded again
    return given;
  }
}

/** The header X-Runner of each request. */
export const proof = kept() ?? "";
if (given) {
  address.searchParams.delete("proof");
  history.replaceState(null, "", address);
}
