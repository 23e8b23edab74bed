// Shows the server that this page was opened with its token. Cookies go to all ports of a machine; storage belongs to one.

const NAME = "runner-proof";
const address = new URL(location.href);
const given = address.searchParams.get("proof");

function kept() {
  try {
    if (given) localStorage.setItem(NAME, given);
    return given ?? localStorage.getItem(NAME);
  } catch {
    return given;
  }
}

/** The header X-Runner of each request. */
export const proof = kept() ?? "";
if (given) {
  address.searchParams.delete("proof");
  history.replaceState(null, "", address);
}
// another server has this port now, and its address was opened in another tab
addEventListener("storage", ({ key, newValue }) => { if (key === NAME && newValue !== proof) location.reload(); });
