// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// The page of librato-local. Names come from outside: they reach the document as text only (textContent).
// The address holds what is shown: /?minutes=30#name.
"use strict";

const refreshEvery = 3000; // milliseconds
const narrowest = 4;       // pixels of a bar; below that, steps are drawn
const colors = 8;          // --c0 to --c7 in page.css, as many as the server sends sources
const ticks = [1, 2, 5, 10, 15, 30, 60, 120, 240].map((minutes) => minutes * 60); // of the time axis, in seconds
const shownPosts = 10;
const shownMetrics = 500;
const shownBody = 20000;   // characters

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 3 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6, notation: "compact" });
const counted = (n, noun) => number.format(n) + " " + noun + (n === 1 ? "" : "s");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const same = (a, b) => a.toLowerCase() === b.toLowerCase();

let metrics = [];
let chosen = "";         // the name of the metric on the page
let shown = null;        // its graph, as /_local/graph gave it
let plot = null;         // the uPlot that draws it
let drawnFor = "";       // what the plot was built for
let given = new Map();   // source: its colour, kept while the metric stays
let postsSeen = -1;

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

// keep gives box a child for each key, in their order. Children that are there already stay, with focus and scrolling.
function keep(box, keys, make) {
  const old = new Map([...box.children].map((c) => [c.dataset.key, c]));
  const children = keys.map((key, i) => {
    const child = old.get(key) ?? make(i);
    child.dataset.key = key;
    old.delete(key);
    return child;
  });
  old.forEach((c) => c.remove());
  children.forEach((c, i) => { if (box.children[i] !== c) box.insertBefore(c, box.children[i] ?? null); });
  return children;
}

async function get(path) {
  const response = await fetch("_local/" + path);
  if (!response.ok) throw new Error(path + ": " + response.status);
  return response.json();
}

// choose follows the address. Without a name in it the metric with the newest value is chosen, once: it then stays.
function choose() {
  try { chosen = decodeURIComponent(location.hash.slice(1)) || chosen; } catch { /* a broken link chooses nothing */ }
  let metric = metrics.find((m) => same(m.name, chosen));
  if (!metric && metrics.length > 0) {
    metric = metrics.reduce((a, b) => (a.latest >= b.latest ? a : b));
    chosen = metric.name;
    history.replaceState(null, "", "#" + encodeURIComponent(chosen));
  }
  return metric;
}

function drawList(current) {
  const filter = byId("filter").value.toLowerCase();
  const found = metrics.filter((m) => m.name.toLowerCase().includes(filter));
  const listed = found.slice(0, shownMetrics);
  const items = keep(byId("metrics"), listed.map((m) => m.name), (i) => {
    const link = element("a", listed[i].name);
    link.href = "#" + encodeURIComponent(listed[i].name);
    link.append(element("small"));
    const item = element("li");
    item.append(link);
    return item;
  });
  listed.forEach((m, i) => {
    const link = items[i].firstChild;
    link.lastChild.textContent = m.type + ", " + counted(m.sources, "source") + ", " +
      (m.function === "sum" ? "sum " + number.format(m.sum) : counted(m.count, "value"));
    if (m === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  byId("more").textContent = found.length === 0 ? "None has such a name." :
    found.length > listed.length ? "and " + number.format(found.length - listed.length) + " more: filter by name" : "";
  byId("empty").hidden = metrics.length > 0;
  byId("graph").hidden = byId("list").hidden = metrics.length === 0;
}

// rows returns what is drawn: each source, and the rest as one where it adds up. A period without a value is 0 where
// values add up, else a gap.
function rows(graph) {
  const addsUp = graph.type === "gauge" && (graph.function === "sum" || graph.function === "count");
  given = new Map(graph.sources.map((s) => [s.source, given.get(s.source)]));
  const free = [...Array(colors).keys()].filter((c) => ![...given.values()].includes(c));
  const out = graph.sources.map((s) => {
    if (given.get(s.source) === undefined) given.set(s.source, free.shift());
    return { name: s.source, color: style("--c" + given.get(s.source)), values: s.values };
  });
  if (graph.others) out.push({ name: counted(graph.omitted, "smaller source"), color: style("--others"), values: graph.others });
  return out.map((row) => ({ ...row, values: row.values.map((v) => (v === null && addsUp ? 0 : v)) }));
}

// columns returns uPlot's data. Stacked, each row is the sum of its source and those below; the highest comes first, so
// that the lower ones are painted over it, and nothing is drawn for a 0.
function columns(graph) {
  let values = graph.rows.map((row) => row.values);
  if (graph.stacked) {
    const sums = graph.times.map(() => 0);
    values = values.map((row) => row.map((v, t) => (v ? (sums[t] += v) : null)));
  }
  return [graph.times, ...values.reverse()];
}

function drawGraph(graph) {
  if (!shown || shown.name !== graph.name) given.clear();
  shown = graph;
  graph.rows = rows(graph);
  document.title = graph.name + " – librato-local";
  byId("name").textContent = graph.name;
  byId("about").textContent = graph.function + " per " + graph.period + " s" +
    (graph.omitted ? ", " + graph.sources.length + " largest of " + counted(graph.sources.length + graph.omitted, "source") : "");
  byId("source").hidden = !graph.omitted && byId("source").value === "";
  const empty = graph.rows.length === 0;
  byId("drawn").hidden = empty;
  byId("nothing").hidden = !empty;
  if (empty) {
    const metric = metrics.find((m) => same(m.name, graph.name));
    byId("nothing").textContent = byId("source").value !== "" ? "No source with such a name has values in this time." :
      "No values in this time" + (metric ? "; the last is of " + new Date(metric.latest * 1000).toLocaleString("en-GB") : "") + ".";
    return;
  }
  const box = byId("chart");
  const size = { width: Math.max(box.clientWidth, 240), height: box.clientWidth < 500 ? 230 : 320 };
  const bars = graph.stacked && (size.width - 60) / graph.times.length >= narrowest;
  const key = JSON.stringify([graph.name, graph.stacked, bars, graph.rows.map((r) => [r.name, r.color]), style("--card")]);
  if (plot && key === drawnFor) {
    if (plot.width !== size.width) plot.setSize(size);
    plot.setData(columns(graph));
    drawLegend();
    return;
  }
  drawnFor = key;
  if (plot) plot.destroy();
  const grid = { stroke: style("--grid"), width: 1 };
  const axis = { stroke: style("--quiet"), grid, ticks: grid, font: "12px system-ui, Arial, sans-serif" };
  const paths = bars ? uPlot.paths.bars({ align: 1, size: [1, Infinity], gap: 1 }) : steps;
  plot = new uPlot({
    ...size,
    legend: { show: false },
    cursor: {
      points: { show: false }, drag: { x: false, y: false }, y: false,
      move: (u, left, top) => [left < 0 ? left : middle(u, columnAt(u, left)), top],
    },
    scales: {
      x: { range: () => [shown.times[0], shown.times.at(-1) + shown.period] },
      y: { range: (_, low, high) => uPlot.rangeNum(Math.min(0, low ?? 0), high || 1, { min: { pad: low < 0 ? 0.1 : 0 }, max: { pad: 0.1 } }) },
    },
    axes: [{ ...axis, size: 36, incrs: ticks, values: (_, times) => times.map(clock) }, { ...axis, size: 56, values: (_, vs) => vs.map((v) => short.format(v)) }],
    series: [{}, ...graph.rows.map(({ color }) => graph.stacked
      ? { fill: color, stroke: style("--card"), width: bars ? 1 : 0, paths, points: { show: false } }
      : { stroke: color, width: 2, paths, points: { show: false } }).reverse()],
    hooks: { setCursor: [drawLegend], draw: [markRunning] },
  }, columns(graph), box);
  drawLegend();
}

// steps draws a value as long as its period, and joins it to the next only if that has one, too.
function steps(u, row) {
  const [times] = u.data, values = u.data[row], stroke = new Path2D(), fill = new Path2D(), zero = u.valToPos(0, "y", true);
  const edge = (seconds) => Math.round(u.valToPos(seconds, "x", true));
  values.forEach((v, t) => {
    if (v === null) return;
    const left = edge(times[t]), right = Math.max(left + 1, edge(times[t] + shown.period));
    const y = u.valToPos(v, "y", true);
    if (t > 0 && values[t - 1] !== null) stroke.lineTo(left, y);
    else stroke.moveTo(left, y);
    stroke.lineTo(right, y);
    fill.rect(left, y, right - left, zero - y);
  });
  return { stroke, fill };
}

// markRunning pales the last period, which has not ended, and sets it off.
function markRunning(u) {
  const { ctx, bbox } = u;
  const left = u.valToPos(shown.times.at(-1), "x", true), right = bbox.left + bbox.width;
  ctx.save();
  ctx.fillStyle = style("--card");
  ctx.globalAlpha = 0.5;
  ctx.fillRect(left, bbox.top, right - left, bbox.height);
  ctx.globalAlpha = 1;
  ctx.strokeStyle = ctx.fillStyle = style("--quiet");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.strokeRect(left, bbox.top, right - left, bbox.height);
  ctx.font = 11 * devicePixelRatio + "px system-ui, Arial, sans-serif";
  ctx.textAlign = "right";
  ctx.textBaseline = "bottom";
  ctx.fillText("running", right, bbox.top - 2 * devicePixelRatio);
  ctx.restore();
}

const columnAt = (u, left) => Math.max(0, Math.min(shown.times.length - 1, Math.floor((u.posToVal(left, "x") - shown.times[0]) / shown.period)));
const middle = (u, column) => u.valToPos(shown.times[column] + shown.period / 2, "x");

// current is the period at the cursor, or else the last one that has any value.
function current() {
  if (plot.cursor.left >= 0) return columnAt(plot, plot.cursor.left);
  const last = shown.times.findLastIndex((_, t) => shown.sources.some((s) => s.values[t] !== null));
  return Math.max(last, 0);
}

function drawLegend() {
  if (!shown || !plot) return;
  const at = current(), last = shown.times.length - 1;
  const day = new Date(shown.times[at] * 1000).toString().replace(/^(\w+ \w+ \d+ \d+).* GMT([+-]\d\d)(\d\d).*/, "$1 ($2:$3)");
  byId("time").textContent = clock(shown.times[at]) + " – " + clock(shown.times[at] + shown.period) + ", " + day +
    (at === last ? ", still running" : "");
  const lines = shown.rows.map((row) => ({ ...row, value: row.values[at] }));
  if (shown.stacked && lines.length > 1) {
    lines.push({ name: "total", className: "total", value: lines.reduce((sum, l) => sum + (l.value || 0), 0) });
  }
  for (const l of lines) l.text = l.value === null ? "–" : number.format(l.value);
  byId("sources").replaceChildren(...lines.map((l) => {
    const row = element("li", undefined, l.className);
    const dot = element("i");
    dot.style.background = l.color ?? "none";
    row.append(dot, element("span", l.name), element("b", l.text));
    return row;
  }));
  const slider = { min: 0, max: last, now: at, text: byId("time").textContent + ": " + lines.map((l) => l.name + " " + l.text).join(", ") };
  for (const [name, value] of Object.entries(slider)) byId("chart").setAttribute("aria-value" + name, value);
}

function pickByKey(event) {
  if (!plot || !shown) return;
  const last = shown.times.length - 1;
  const to = { ArrowLeft: current() - 1, ArrowRight: current() + 1, Home: 0, End: last }[event.key];
  if (to === undefined && event.key !== "Escape") return;
  event.preventDefault();
  plot.setCursor({ left: to === undefined ? -10 : middle(plot, Math.max(0, Math.min(last, to))), top: 0 });
}

function pretty(body) {
  if (!body) return "(the body is not kept any more)";
  const cut = (text) => (text.length > shownBody ? text.slice(0, shownBody) + "\n… " + number.format(text.length - shownBody) + " more characters" : text);
  if (body.length > 4 * shownBody) return cut(body);
  try { return cut(JSON.stringify(JSON.parse(body), null, 2)); } catch { return cut(body); /* as it came */ }
}

function post(p) {
  const details = element("details");
  const summary = element("summary");
  summary.append(
    element("span", new Date(p.time).toLocaleTimeString("en-GB")),
    element("span", "POST " + p.path),
    element("span", p.status ? String(p.status) : "no answer", p.status >= 200 && p.status < 300 ? "good" : "bad"),
    element("span", counted(p.measurements, "measurement")),
    element("span", counted(p.size, "byte"), "quiet"));
  details.append(summary);
  for (const text of [p.answer && "answer: " + p.answer, pretty(p.body)]) {
    if (!text) continue;
    const pre = element("pre", text);
    pre.tabIndex = 0; // it scrolls
    details.append(pre);
  }
  return details;
}

// drawPosts lists the last posts, newest first. One that is open stays, with what is in it, when newer ones have come.
function drawPosts(posts) {
  const box = byId("posts");
  const first = box.children.length === 0;
  const keyOf = (p) => p.time + " " + p.size;
  const newest = posts.reverse().map(keyOf);
  const open = [...box.children].filter((d) => d.open && posts.length > 0).map((d) => d.dataset.key).filter((key) => !newest.includes(key));
  const items = keep(box, [...newest, ...open], (i) => post(posts[i]));
  if (first && items.length > 0) items[0].open = true;
  byId("last").hidden = items.length === 0;
}

async function refresh() {
  try {
    const stats = await get("stats");
    byId("stats").textContent = stats.posts === 0 ? "" : counted(stats.posts, "post") + ", " + counted(stats.measurements, "measurement") + " stored" +
      Object.entries(stats.statuses).filter(([s]) => s < 200 || s >= 300).map(([s, n]) => ", " + n + " × " + (s === "0" ? "no answer" : s)).join("");
    metrics = await get("metrics");
    const metric = choose();
    drawList(metric);
    if (metric) {
      const query = new URLSearchParams({ name: metric.name, minutes: byId("minutes").value, source: byId("source").value });
      const graph = await get("graph?" + query);
      if (same(graph.name, chosen)) drawGraph(graph); // unless another was chosen meanwhile
    }
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

const minutes = byId("minutes");
const asked = new URLSearchParams(location.search).get("minutes");
if ([...minutes.options].some((o) => o.value === asked)) minutes.value = asked;
minutes.addEventListener("change", () => {
  history.replaceState(null, "", "?minutes=" + minutes.value + location.hash);
  refresh();
});
byId("direct").textContent = "curl -u any:token " + location.origin +
  "/v1/metrics -H 'Content-Type: application/json' -d '{\"gauges\":[{\"name\":\"hello\",\"source\":\"curl\",\"value\":1}]}'";
byId("filter").addEventListener("input", () => drawList(choose()));
byId("source").addEventListener("input", refresh);
byId("chart").addEventListener("keydown", pickByKey);
const redraw = () => shown && drawGraph(shown);
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("hashchange", () => {
  byId("source").value = "";
  byId("graph").scrollIntoView({ block: "nearest" });
  refresh();
});
refreshForever();
