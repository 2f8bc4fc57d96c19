"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const text = byId("text"), paper = byId("paper"), clear = byId("clear"), fold = byId("fold"), theme = byId("theme");
  const toggles = [...document.querySelectorAll(".toggle")];
  const claims = [...document.querySelectorAll(".claim")].map((node) => ({
    node,
    state: node.dataset.state,
    paper: node.dataset.paper,
    words: node.textContent.toLowerCase(),
  }));
  const sections = [...document.querySelectorAll("section.paper")];
  const details = [...document.querySelectorAll(".claim details")];

  function filter() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = toggles.filter((toggle) => toggle.getAttribute("aria-pressed") === "true")
      .map((toggle) => toggle.dataset.state);
    let shown = 0;
    for (const claim of claims) {
      const match = (!states.length || states.includes(claim.state))
        && (!paper.value || claim.paper === paper.value)
        && words.every((word) => claim.words.includes(word));
      claim.node.hidden = !match;
      shown += match;
    }
    for (const section of sections) section.hidden = !section.querySelector(".claim:not([hidden])");
    const total = claims.length;
    byId("shown").textContent = shown === total ? `${total} claims` : `${shown} of ${total} claims`;
    byId("none").hidden = shown > 0;
    clear.hidden = !(words.length || states.length || paper.value);
  }

  function reset() {
    text.value = paper.value = "";
    for (const toggle of toggles) toggle.setAttribute("aria-pressed", "false");
    filter();
  }

  /* A link to a claim that the filter hides shows it. */
  function reveal() {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]") && target.closest("section.paper")) reset();
    target.querySelector("details")?.setAttribute("open", "");
    target.scrollIntoView();
  }

  function setFold(folded) {
    for (const item of details) item.open = !folded;
    fold.setAttribute("aria-pressed", String(folded));
    fold.textContent = folded ? "Unfold all" : "Fold all";
  }

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : prefersDark.matches;
  }
  function showTheme() {
    theme.setAttribute("aria-pressed", String(isDark()));
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
  }

  text.addEventListener("input", filter);
  paper.addEventListener("change", filter);
  for (const toggle of toggles) {
    toggle.addEventListener("click", () => {
      toggle.setAttribute("aria-pressed", String(toggle.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  clear.addEventListener("click", () => { reset(); text.focus(); });
  fold.addEventListener("click", () => setFold(fold.getAttribute("aria-pressed") !== "true"));
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  addEventListener("hashchange", reveal);
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = details.filter((item) => !item.open);
    for (const item of closed) item.open = true;
  });
  addEventListener("afterprint", () => { for (const item of closed) item.open = false; });

  byId("filters").hidden = theme.hidden = false;
  showTheme();
  filter();
  if (location.hash) reveal();
})();
