"use strict";
(() => {
  const root = document.documentElement;
  const specifications = JSON.parse(document.getElementById("specifications").textContent);
  const narrow = window.matchMedia("(max-width: 640px)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const named = document.getElementById("theme-name");

  // A specification names its colours ("var:raw"); this turns them into those of the theme, in a copy.
  const resolved = (value, colours) => {
    if (typeof value === "string" && value.startsWith("var:")) {
      const name = value.slice(4);
      return colours.getPropertyValue(`--${name}`).trim() || value;
    }
    if (Array.isArray(value)) return value.map((item) => resolved(item, colours));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, colours)]));
    }
    return value;
  };

  const draw = () => {
    const colours = getComputedStyle(root);
    const [ink, muted, surface, line] = ["--ink", "--muted", "--surface", "--line"].map((name) =>
      colours.getPropertyValue(name).trim()
    );
    const font = { family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 12, color: muted };
    for (const place of document.querySelectorAll("[data-chart]")) {
      const { data, layout } = resolved(specifications[place.dataset.chart], colours);
      layout.font = font;
      layout.hoverlabel = { ...layout.hoverlabel, bgcolor: surface, bordercolor: line, font: { ...font, color: ink } };
      layout.legend = { ...layout.legend, font: { ...font, color: ink } };
      if (narrow.matches) {
        // A finger that drags wants to scroll the page.
        layout.dragmode = false;
        layout.margin = { ...layout.margin, l: 40, r: 8 };
        for (const key of Object.keys(layout)) {
          if (/^[xy]axis\d*$/.test(key)) layout[key].fixedrange = true;
        }
      }
      const config = {
        responsive: true,
        displaylogo: false,
        displayModeBar: narrow.matches ? false : "hover",
        modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
        showTips: false,
      };
      Plotly.react(place, data, layout, config);
    }
    named.textContent = isDark() ? "Light" : "Dark";
    root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
  };

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const store = (read) => {
    try {
      return read(window.localStorage);
    } catch {
      return null; // a page from a file may have no storage
    }
  };

  const chosen = store((storage) => storage.getItem("plimsoll-theme"));
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    store((storage) => storage.setItem("plimsoll-theme", root.dataset.theme));
    draw();
  });
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
