"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const zone = document.getElementById("zone");
  const theme = document.getElementById("theme");
  const plots = [];
  const sizes = [];
  let utc = false;

  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const faint = (name) => `${color(name)}2e`;
  const two = (number) => String(number).padStart(2, "0");

  // An instant as its parts, in the zone that the reader has chosen.
  function parts(seconds) {
    const at = new Date(Math.round(seconds * 1000));
    const get = (what) => at[`get${utc ? "UTC" : ""}${what}`]();
    return {
      day: `${get("FullYear")}-${two(get("Month") + 1)}-${two(get("Date"))}`,
      minute: `${two(get("Hours"))}:${two(get("Minutes"))}`,
      second: two(get("Seconds")),
      part: String(get("Milliseconds")).padStart(3, "0"),
    };
  }

  function zoneName(seconds) {
    if (utc) return "UTC";
    const named = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(new Date(seconds * 1000));
    const found = named.find((part) => part.type === "timeZoneName");
    return found ? found.value : "";
  }

  // How many decimals a second has, so that two instants so many seconds apart are not the same.
  const decimals = (step) => (step < 0.1 ? 2 : step < 1 ? 1 : 0);

  // An instant as short as it can be said beside an axis.
  function clock(seconds, width) {
    const at = parts(seconds);
    if (width >= 86400) return at.day;
    if (width >= 60) return at.minute;
    const part = at.part.slice(0, decimals(width));
    return `${at.minute}:${at.second}${Number(part) ? `.${part}` : ""}`;
  }

  // The same in full, as tables and the keyboard tell it.
  function told(seconds, step) {
    const at = parts(seconds);
    const part = decimals(step) ? `.${at.part.slice(0, decimals(step))}` : "";
    return `${at.day} ${at.minute}${step >= 60 ? "" : `:${at.second}${part}`} ${zoneName(seconds)}`;
  }

  function number(value) {
    if (value === 0) return "0";
    if (Math.abs(value) >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
  }

  function short(value) {
    const size = Math.abs(value);
    for (const [least, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
      if (size >= least) return `${number(value / (unit === "k" ? 1e3 : least))}${unit}`;
    }
    return number(value);
  }

  function amount(value, unit) {
    if (unit === "$") return `$${value >= 1 ? value.toFixed(2) : value === 0 ? "0" : Number(value.toPrecision(2))}`;
    if (unit === "%") return `${number(value)} %`;
    if (unit === "s") return value !== 0 && value < 0.0995 ? `${number(value * 1000)} ms` : `${number(value)} s`;
    return short(value);
  }

  const FONT = "12px system-ui, sans-serif";
  const RIGHT = 12;
  const ruler = document.createElement("canvas").getContext("2d");

  // The pixels that a label takes.
  function widthOf(text) {
    ruler.font = FONT;
    return ruler.measureText(text).width;
  }

  // Labels without those for which there is no room beside others, or before the end of the chart. Those at first places come first.
  function apart(plot, places, texts, first) {
    const end = plot.bbox.width / devicePixelRatio + RIGHT;
    const taken = [];
    const shown = texts.map(() => null);
    const order = texts.map((_, at) => at).sort((one, two) => first.includes(places[two]) - first.includes(places[one]) || one - two);
    for (const at of order) {
      const half = widthOf(texts[at]) / 2;
      const middle = plot.valToPos(places[at], "x");
      const [left, right] = [middle - half, middle + half];
      if (right > end || taken.some((other) => left < other.right + 8 && other.left < right + 8)) continue;
      taken.push({ left, right });
      shown[at] = texts[at];
    }
    return shown;
  }

  function axes(unit, labels, splits, first) {
    const ink = () => color("soft");
    const lines = { stroke: () => color("line"), width: 1 };
    const values = (plot, places) => apart(plot, places, labels(places), first);
    const numbers = (_, ticks) => ticks.map((tick) => amount(tick, unit));
    const wide = (_, texts) => Math.max(52, 12 + Math.max(0, ...(texts || []).map(widthOf)));
    return [
      { stroke: ink, font: FONT, values, splits, grid: { show: false }, ticks: { ...lines, size: 5 }, size: 32, gap: 4 },
      { stroke: ink, font: FONT, values: numbers, grid: lines, ticks: { show: false }, size: wide, gap: 6 },
    ];
  }

  // Which slices get a label: those at round times, so many that there is room for their names.
  function labelled(axis, width) {
    const room = Math.max(2, Math.floor(width / 84));
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
    const step = steps.find((each) => each >= axis.width && (axis.begins.length * axis.width) / each <= room) || Infinity;
    const shift = utc ? 0 : new Date(axis.begins[0] * 1000).getTimezoneOffset() * 60;
    const round = (seconds) => Math.abs((seconds - shift) / step - Math.round((seconds - shift) / step)) < 1e-6;
    const found = axis.begins.map((_, at) => at).filter((at) => round(axis.begins[at]));
    if (found.length >= 2 && found.length <= room + 1) return found;
    const every = Math.ceil(axis.begins.length / room);
    return axis.begins.map((_, at) => at).filter((at) => at % every === 0);
  }

  function timed(chart) {
    const axis = figures.axes[chart.run];
    const shown = chart.values.map((values) => values.slice());
    const stack = chart.style === "stack";
    const behind = axis.first.slice(1);
    if (stack) for (let at = 1; at < shown.length; at++) shown[at] = shown[at].map((value, place) => value + shown[at - 1][place]);
    const bars = uPlot.paths.bars({ size: [0.86, 40] });
    const series = chart.series.map(([name, tone], at) => ({
      label: name,
      stroke: () => color(tone),
      width: stack ? 0 : 2,
      fill: stack ? () => color(tone) : chart.style === "area" && at === 0 ? () => faint(tone) : undefined,
      paths: stack ? bars : undefined,
      dash: chart.style === "area" && at > 0 ? [5, 4] : undefined,
      points: { show: !stack && axis.begins.length === 1, size: 7 },
    }));
    // the highest of a stack is drawn first, and the others over it
    const order = chart.series.map((_, at) => (stack ? chart.series.length - 1 - at : at));
    return {
      data: [axis.begins.map((_, at) => at), ...order.map((at) => shown[at])],
      series: [{}, ...order.map((at) => series[at])],
      range: [-0.6, axis.begins.length - 0.4],
      axes: axes(
        chart.unit,
        (places) => places.map((at) => (axis.begins[at] === undefined ? "" : clock(axis.begins[at], axis.width))),
        // where time was left out, the label of the first slice says so
        (plot) => [...new Set([...labelled(axis, plot.width), ...behind])].sort((one, two) => one - two),
        behind,
      ),
      read(at) {
        const said = chart.series.map(([name], one) => `${name} ${chart.values[one][at] === null ? "unknown" : amount(chart.values[one][at], chart.unit)}`);
        const of = chart.unit === "$" || chart.unit === "open" ? "" : ` ${chart.unit}`;
        return `${told(axis.begins[at], axis.width)}: ${said.join(", ")}${of}`;
      },
      sync: `time-${chart.run}`,
      draw(plot) {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.strokeStyle = color("soft");
        ctx.setLineDash([4, 4]);
        for (const first of behind) {
          const x = Math.round(plot.valToPos(first - 0.5, "x", true)) + 0.5;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
      },
    };
  }

  // Where a value lies between the bounds of bars.
  function among(edges, value) {
    for (let at = 0; at < edges.length - 1; at++) {
      if (value < edges[at + 1] || at === edges.length - 2) {
        const width = edges[at + 1] - edges[at] || 1;
        return at - 0.5 + Math.min(1, Math.max(0, (value - edges[at]) / width));
      }
    }
    return 0;
  }

  const allOf = (chart) => chart.values[0].reduce((sum, each) => sum + each, 0);

  function spread(chart) {
    const { edges } = chart;
    const places = chart.values[0].map((_, at) => at);
    const [, tone] = chart.series[0];
    // one value stands below the middle of its bar, bounds between two bars
    const shift = chart.single ? 0 : 0.5;
    const all = allOf(chart);
    // few bars stand in the middle, so that they are not as wide as the chart
    const beside = Math.max(0, (8 - places.length) / 2);
    const range = [-0.7 - beside, places.length - 0.3 + beside];
    // a bar is as wide as from one value to the next, also where there is only one
    const paths = (plot, ...which) => uPlot.paths.bars({ size: [0.96, (0.96 * plot.bbox.width) / devicePixelRatio / (range[1] - range[0])] })(plot, ...which);
    return {
      data: [places, chart.values[0].map((each) => (100 * each) / all)],
      series: [{}, { label: chart.series[0][0], stroke: () => color(tone), width: 0, fill: () => color(tone), paths, points: { show: false } }],
      range,
      axes: axes(
        "%",
        (places) => places.map((each) => amount(edges[Math.round(each + shift)] ?? 0, chart.unit)),
        (plot) => {
          const labels = chart.single ? places.length : edges.length;
          const every = Math.ceil(labels / Math.max(2, Math.floor((plot.width - 64) / 64)));
          return edges.slice(0, labels).map((_, at) => at - shift).filter((_, at) => at % every === 0);
        },
        [],
      ),
      read: (at) =>
        `${amount(edges[at], chart.unit)}${chart.single ? "" : ` to ${amount(edges[at + 1], chart.unit)}`}: ${number(chart.values[0][at])} answers (${number((100 * chart.values[0][at]) / all)} %)`,
      draw(plot) {
        const { ctx, bbox } = plot;
        const scale = devicePixelRatio;
        ctx.save();
        ctx.font = `${11 * scale}px system-ui, sans-serif`;
        ctx.textBaseline = "top";
        let free = -Infinity;
        for (const [name, value] of chart.marks) {
          const x = Math.round(plot.valToPos(chart.single ? Math.floor(among(edges, value) + 0.5) : among(edges, value), "x", true)) + 0.5;
          ctx.strokeStyle = color("ink");
          ctx.fillStyle = color("ink");
          ctx.setLineDash([3 * scale, 3 * scale]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          const left = x + ctx.measureText(name).width + 8 * scale < bbox.left + bbox.width + 30 * scale;
          const from = left ? x + 4 * scale : x - ctx.measureText(name).width - 4 * scale;
          if (from > free) {
            ctx.fillText(name, from, bbox.top - 14 * scale);
            free = from + ctx.measureText(name).width + 4 * scale;
          }
        }
        ctx.restore();
      },
    };
  }

  // The charts of several runs that show the same have one scale, so that they can be compared by eye.
  const kindOf = (name, chart) => `${name.replace(/-\d+$/, "")} ${chart.unit}`;
  const tops = {};
  for (const [name, chart] of Object.entries(figures.charts)) {
    const all = chart.kind === "time" ? 1 : allOf(chart) / 100;
    const of = (at) => (chart.kind !== "time" ? chart.values[0][at] / all : chart.style === "stack" ? chart.values.reduce((sum, each) => sum + each[at], 0) : Math.max(...chart.values.map((each) => each[at] || 0)));
    tops[kindOf(name, chart)] = Math.max(tops[kindOf(name, chart)] || 0, ...chart.values[0].map((_, at) => of(at)));
  }

  function draw(figure) {
    const chart = figures.charts[figure.dataset.chart];
    const place = figure.querySelector(".plot");
    const readout = figure.querySelector(".readout");
    const made = chart.kind === "time" ? timed(chart) : spread(chart);
    place.hidden = readout.hidden = false;
    const top = tops[kindOf(figure.dataset.chart, chart)] || 0;
    const plot = new uPlot(
      {
        width: Math.max(200, place.clientWidth),
        height: 230,
        padding: [18, RIGHT, 0, 0],
        legend: { show: false },
        scales: { x: { time: false, range: made.range }, y: { range: (_, __, most) => [0, 1.06 * Math.max(most, top) || 1] } },
        cursor: { drag: { x: false, y: false }, y: false, points: { show: chart.kind === "time" && chart.style !== "stack" }, sync: made.sync ? { key: made.sync } : undefined },
        axes: made.axes,
        series: made.series,
        hooks: {
          draw: [made.draw],
          setCursor: [
            (self) => {
              const at = self.cursor.idx;
              const inside = self.cursor.left >= 0 && at !== null && at !== undefined;
              readout.textContent = inside ? made.read(at) : "";
            },
          ],
        },
      },
      made.data,
      place,
    );
    const canvas = place.querySelector("canvas");
    canvas.setAttribute("aria-hidden", "true");
    const last = made.data[0].length - 1;
    place.addEventListener("keydown", (event) => {
      const now = plot.cursor.left >= 0 ? plot.cursor.idx : null;
      const steps = { ArrowRight: now === null ? 0 : now + 1, ArrowLeft: now === null ? last : now - 1, Home: 0, End: last };
      if (event.key === "Escape") plot.setCursor({ left: -10, top: -10 });
      else if (event.key in steps) {
        const at = Math.min(last, Math.max(0, steps[event.key]));
        plot.setCursor({ left: plot.valToPos(at, "x"), top: 10 });
      } else return;
      event.preventDefault();
    });
    place.addEventListener("blur", () => plot.setCursor({ left: -10, top: -10 }));
    // the width is that of the page, which changes with the window and when a phone is turned
    const fit = () => {
      const width = Math.max(200, place.clientWidth);
      if (width !== plot.width) plot.setSize({ width, height: 230 });
    };
    new ResizeObserver(fit).observe(place);
    // the width on paper is not known before: what is drawn is scaled to it
    const onPaper = () => plot.setSize(figure.closest(".three") ? { width: 230, height: 180 } : { width: 340, height: 190 });
    plots.push(plot);
    sizes.push({ fit, onPaper });
  }

  function write() {
    for (const element of document.querySelectorAll("time")) {
      element.textContent = told(Date.parse(element.dateTime) / 1000, Number(element.dataset.step || 1));
    }
    zone.setAttribute("aria-pressed", String(utc));
    for (const plot of plots) plot.redraw(false, true);
  }

  function paint() {
    const chosen = root.dataset.theme || (dark.matches ? "dark" : "light");
    theme.setAttribute("aria-pressed", String(chosen === "dark"));
    // the paths too, as those of bars keep their colours, and the axes, as the size may be another one
    for (const plot of plots) plot.redraw(true, true);
  }

  document.querySelector(".switches").hidden = false;
  zone.addEventListener("click", () => { utc = !utc; write(); });
  theme.addEventListener("click", () => {
    root.dataset.theme = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
    paint();
  });
  dark.addEventListener("change", paint);
  let before;
  const folded = () => [...document.querySelectorAll("details.fold:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    opened = folded();
    for (const fold of opened) fold.open = true;
    for (const size of sizes) size.onPaper();
    paint();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    for (const fold of opened) fold.open = false;
    for (const size of sizes) size.fit();
    paint();
  });
  for (const figure of document.querySelectorAll("[data-chart]")) draw(figure);
  write();
  paint();
})();
