// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// The page of librato-local. Names come from outside: they reach the document as text only (textContent).
"use strict";

const refreshEvery = 3000; // milliseconds
const colors = ["#e95f55", "#f09a3a", "#7fc86e", "#3f74ad", "#9b6bb3", "#45b5aa", "#e6c229", "#d6719e", "#8a6d4f", "#7a8894"];
const shownPosts = 10;
const shownBody = 20000; // characters

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 3 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6, notation: "compact" });

let plot = null;    // the uPlot on the page
let shown = null;   // the graph it draws, as /_local/graph gave it
let drawnFor = "";  // what the plot was built for: name, sources, stacked
let metrics = [];
let postsSeen = -1;

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

async function get(path) {
  const response = await fetch("_local/" + path);
  if (!response.ok) throw new Error(path + ": " + response.status);
  return response.json();
}

function selected() {
  let name = "";
  try { name = decodeURIComponent(location.hash.slice(1)); } catch { /* a broken link selects nothing */ }
  const found = metrics.find((m) => m.name.toLowerCase() === name.toLowerCase());
  return found || metrics.reduce((a, b) => (a && a.latest >= b.latest ? a : b), null);
}

function drawList() {
  const current = selected();
  const filter = byId("filter").value.toLowerCase();
  byId("metrics").replaceChildren(...metrics.filter((m) => m.name.toLowerCase().includes(filter)).slice(0, 500).map((m) => {
    const button = element("button", m.name);
    if (m === current) button.setAttribute("aria-current", "true");
    button.append(element("small", m.type + ", " + m.sources + (m.sources === 1 ? " source, " : " sources, ") +
      (m.function === "sum" ? "sum " + number.format(m.sum) : number.format(m.count) + (m.count === 1 ? " value" : " values"))));
    button.addEventListener("click", () => { location.hash = encodeURIComponent(m.name); });
    const item = element("li");
    item.append(button);
    return item;
  }));
  byId("empty").hidden = metrics.length > 0;
  byId("graph").hidden = metrics.length === 0;
}

// columns returns uPlot's data. A period without a value is 0 where values add up, else a gap. Stacked, each row is the
// sum of its source and those below; the highest comes first, so that the lower areas are painted over it.
function columns(graph) {
  const addsUp = graph.type === "gauge" && (graph.function === "sum" || graph.function === "count");
  const rows = graph.sources.map((s) => s.values.map((v) => (v === null && addsUp ? 0 : v)));
  if (graph.stacked) {
    for (let i = 1; i < rows.length; i++) {
      rows[i] = rows[i].map((v, t) => (v === null && rows[i - 1][t] === null ? null : (v || 0) + (rows[i - 1][t] || 0)));
    }
  }
  return [graph.times, ...rows.reverse()];
}

function drawGraph(graph) {
  shown = graph;
  byId("name").textContent = graph.name;
  byId("about").textContent = graph.function + " per " + graph.period + " s" +
    (graph.omitted ? ", " + graph.omitted + " smaller sources not shown" : "");
  const box = byId("chart");
  const size = { width: Math.max(box.clientWidth, 300), height: 320 };
  const key = JSON.stringify([graph.name, graph.stacked, graph.sources.map((s) => s.source)]);
  if (plot && key === drawnFor) {
    if (plot.width !== size.width) plot.setSize(size);
    plot.setData(columns(graph));
    drawLegend();
    return;
  }
  drawnFor = key;
  if (plot) plot.destroy();
  const grid = { stroke: "#eceef0", width: 1 };
  const axis = { stroke: "#7d8791", grid, ticks: grid, font: "12px system-ui, Arial, sans-serif" };
  plot = new uPlot({
    ...size,
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: false, y: false }, y: false },
    scales: { y: { range: (_, low, high) => uPlot.rangeNum(Math.min(0, low ?? 0), high || 1, { min: { pad: low < 0 ? 0.1 : 0 }, max: { pad: 0.1 } }) } },
    axes: [{ ...axis, values: (_, times) => times.map(clock) }, { ...axis, size: 60, values: (_, vs) => vs.map((v) => short.format(v)) }],
    series: [{}, ...graph.sources.map((_, i) => {
      const color = colorOf(i);
      return graph.stacked
        ? { stroke: "#fff", width: 1, fill: color, points: { show: false } }
        : { stroke: color, width: 2, spanGaps: true, points: { show: true, size: 4, fill: color } };
    }).reverse()],
    hooks: { setCursor: [drawLegend] },
  }, columns(graph), box);
  drawLegend();
}

const colorOf = (i) => colors[i % colors.length];

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

// drawLegend shows the values at the cursor, or else those of the last period that has any.
function drawLegend() {
  if (!shown || !plot) return;
  let at = plot.cursor.idx;
  if (at === null || at === undefined || at >= shown.times.length) {
    at = shown.times.length - 1;
    while (at > 0 && shown.sources.every((s) => s.values[at] === null)) at--;
  }
  byId("time").textContent = new Date(shown.times[at] * 1000).toString().replace(/ GMT([+-]\d\d)(\d\d).*/, " ($1:$2)");
  const value = (v) => element("b", v === null ? "–" : number.format(v));
  const rows = shown.sources.map((s, i) => {
    const row = element("li");
    const dot = element("i");
    dot.style.background = colorOf(i);
    row.append(dot, element("span", s.source), value(s.values[at]));
    return row;
  });
  if (shown.stacked && shown.sources.length > 1) {
    const row = element("li", undefined, "total");
    row.append(element("i"), element("span", "total"), value(shown.sources.reduce((sum, s) => sum + (s.values[at] || 0), 0)));
    rows.push(row);
  }
  byId("sources").replaceChildren(...rows);
}

function pretty(body) {
  if (!body) return "(the body is not kept any more)";
  if (body.length > 4 * shownBody) return body.slice(0, shownBody) + "\n… " + (body.length - shownBody) + " more characters";
  let text = body;
  try { text = JSON.stringify(JSON.parse(body), null, 2); } catch { /* shown as it came */ }
  return text.length > shownBody ? text.slice(0, shownBody) + "\n… " + (text.length - shownBody) + " more characters" : text;
}

function drawPosts(posts) {
  const open = new Set([...document.querySelectorAll("#posts details[open]")].map((d) => d.dataset.key));
  byId("no-posts").hidden = posts.length > 0;
  byId("posts").replaceChildren(...posts.reverse().map((p, i) => {
    const details = element("details");
    details.dataset.key = p.time + p.size;
    details.open = open.has(details.dataset.key) || (open.size === 0 && i === 0);
    const summary = element("summary");
    summary.append(
      element("span", new Date(p.time).toLocaleTimeString("en-GB")),
      element("span", "POST " + p.path),
      element("span", p.status ? String(p.status) : "no answer", p.status >= 200 && p.status < 300 ? "good" : "bad"),
      element("span", p.measurements + (p.measurements === 1 ? " measurement" : " measurements")),
      element("span", number.format(p.size) + " bytes", "quiet"));
    details.append(summary);
    if (p.answer) details.append(element("pre", "answer: " + p.answer));
    details.append(element("pre", pretty(p.body)));
    return details;
  }));
}

async function refresh() {
  try {
    const stats = await get("stats");
    byId("stats").textContent = number.format(stats.posts) + (stats.posts === 1 ? " post, " : " posts, ") +
      number.format(stats.measurements) + " measurements stored" +
      Object.entries(stats.statuses).filter(([s]) => s < 200 || s >= 300).map(([s, n]) => ", " + n + " × " + (s === "0" ? "no answer" : s)).join("");
    metrics = await get("metrics");
    drawList();
    const current = selected();
    if (current) drawGraph(await get("graph?minutes=" + byId("minutes").value + "&name=" + encodeURIComponent(current.name)));
    if (stats.posts !== postsSeen) {
      drawPosts(await get("requests?posts=true&bodies=true&last=" + shownPosts));
      postsSeen = stats.posts;
    }
    byId("state").textContent = "";
  } catch {
    byId("state").textContent = "cannot reach librato-local, trying again";
  }
}

async function refreshForever() {
  for (;;) {
    await refresh();
    await new Promise((done) => setTimeout(done, refreshEvery));
  }
}

byId("filter").addEventListener("input", drawList);
byId("minutes").addEventListener("change", refresh);
window.addEventListener("hashchange", refresh);
window.addEventListener("resize", () => plot && plot.setSize({ width: Math.max(byId("chart").clientWidth, 300), height: 320 }));
refreshForever();
