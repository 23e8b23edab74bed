// Before anything is drawn: the colours that this browser was told to use, else those of the system.
(() => {
  const KEY = "runner-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const apply = () => {
    const chosen = kept();
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
    document.getElementById("theme")?.setAttribute("aria-pressed", String(now() === "dark"));
  };
  apply();
  dark.addEventListener("change", apply);
  // another tab has chosen
  addEventListener("storage", (event) => { if (event.key === KEY) apply(); });
  addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = now() === "dark" ? "light" : "dark";
      try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* a browser that keeps nothing: until the page is closed */ }
      apply();
    });
  });
})();
