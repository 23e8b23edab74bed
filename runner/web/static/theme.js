// Before anything is drawn: the colours that this browser was told to use, else those of the system.
(() => {
  const KEY = "runner-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const show = (theme) => {
    root.dataset.theme = theme;
    document.getElementById("theme")?.setAttribute("aria-pressed", String(theme === "dark"));
  };
  const apply = () => {
    const chosen = kept();
    show(chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light");
  };
  apply();
  dark.addEventListener("change", apply);
  // another tab has chosen
  addEventListener("storage", (event) => { if (event.key === KEY) apply(); });
  addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      show(root.dataset.theme === "dark" ? "light" : "dark");
      try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* a browser that keeps nothing: until the page is closed */ }
    });
  });
})();
