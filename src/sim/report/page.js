"use strict";
const run = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const entries = run.entries;
const end = Math.max(run.took_us, ...entries.slice(-1).map((e) => e.at_us), 1);
const LABEL = 58, TOP = 26, LANE = 62;

// What is drawn: messages by what they carry, and marks on the lanes.
const KINDS = {
  batch: ["#3d7dca", true], "catch-up": ["#c9772b", true], heartbeat: ["#9aa0a6", false], report: ["#8a6fb3", false],
  link: ["#5b8f5b", true], other: ["#777777", false],
};
const MARKS = { write: "#2f9e6e", acknowledged: "#2f9e6e", failed: "#d1453b", unknown: "#c77f12", start: "#2f9e6e", stop: "#d1453b", alarm: "#d1453b", disk: "#8d99a6", link: "#5b8f5b" };
// Of real processes only what clients were told is seen from outside, no message between nodes.
const lab = run.lab;
if (lab) MARKS.write = "#3d7dca";
const OPERATIONS = Object.fromEntries(["write", "acknowledged", "failed", "unknown"].map((what) => [what, [MARKS[what], true]]));
const TOGGLES = lab ? OPERATIONS : KINDS;
const shown = Object.fromEntries(Object.entries(TOGGLES).map(([k, v]) => [k, v[1]]));
const kindOf = (text) => text.startsWith("batch") ? "batch" : text.startsWith("sync") ? "catch-up"
  : text.startsWith("heartbeat") ? "heartbeat" : text.startsWith("report") ? "report" : "other";

// A message is drawn from its sending to the arrival of the same kind on the same pair that follows.
const messages = [];
const waiting = new Map();
for (const e of entries) {
  if (e.what === "send") {
    const key = e.node + ">" + e.peer + ":" + e.text.replace(/ \d+ B.*/, "");
    const message = { from: e.node, to: e.peer, at: e.at_us, until: null, kind: kindOf(e.text) };
    messages.push(message);
    if (!waiting.has(key)) waiting.set(key, []);
    waiting.get(key).push(message);
  } else if (e.what === "arrive") {
    const message = (waiting.get(e.peer + ">" + e.node + ":" + e.text) || []).shift();
    if (message) message.until = e.at_us;
  } else if (e.what === "lost") {
    messages.push({ from: e.node, to: e.peer, at: e.at_us, until: null, kind: kindOf(e.text), lost: true });
  }
}
const faults = [];
for (const e of entries) {
  if (e.what === "fault") faults.push({ text: e.text, node: e.node, peer: e.peer, at: e.at_us, until: null });
  if (e.what === "healed") {
    const open = faults.find((f) => f.until === null && f.text === e.text);
    if (open) open.until = e.at_us;
  }
}
const marks = entries.filter((e) => MARKS[e.what]);
const lastNode = entries.reduce((n, e) => Math.max(n, e.node, e.peer ?? 0), 0);
const nodes = Math.max(run.nodes, lastNode + 1);
const found = run.finding;

const ms = (us) => (us / 1000).toFixed(us < 10000 ? 2 : 0) + " ms";
$("name").textContent = run.scenario + ", seed " + run.seed;
$("about").textContent = run.about;
const agreed = run.converged_us === null ? "." : "; all agreed " + ms(run.converged_us) + " after the last heal and the last write.";
const wrong = lab ? lab.checks.filter((check) => check.wrong.length) : [];
$("verdict").textContent = wrong.length
  ? wrong.length + " of " + lab.checks.length + " checks found something. “" + wrong[0].oracle + "”: " + wrong[0].wrong[0]
  : lab ? "All " + lab.checks.length + " checks hold" + agreed
  : found ? "The oracle “" + found.oracle + "” found at " + ms(found.at_us) + (found.at_us ? " on n" + found.node : "") + ": " + found.text
  : "All oracles hold" + agreed;
$("verdict").classList.toggle("bad", !!found || wrong.length > 0);
const told_of = lab
  ? [lab.acknowledged + " writes acknowledged (" + lab.write_p50_ms.toFixed(1) + " / " + lab.write_p99_ms.toFixed(1) + " ms p50 / p99)",
    lab.refused + " failed", lab.unknown + " unknown", run.tally.faults + " faults", "links: " + lab.links,
    lab.packets.passed + " packets between nodes, and " + lab.packets.cut + " cut off, " + lab.packets.lost + " lost, " + lab.packets.overflowed + " too many",
    "most memory of a node " + lab.memory_mib_max + " MiB"]
  : [run.tally.writes + " writes", run.tally.messages + " messages", run.tally.faults + " faults", run.tally.starts + " starts", "trace " + run.trace_hash];
$("facts").textContent = [nodes + " nodes", ...told_of, run.drawn.length ? "drawn: " + run.drawn.join(", ") : ""].filter(Boolean).join(" · ")
  + (run.entries_dropped ? " · " + run.entries_dropped + " entries left out" : "");
if (lab) {
  const line = (text, ...classes) => { const li = document.createElement("li"); li.textContent = text; li.classList.add(...classes); return li; };
  $("note").textContent = "Real processes in network namespaces, real time. Messages between nodes are not visible from outside and are not drawn: "
    + "the lanes show what was done to the nodes and what their clients were told.";
  $("checks").replaceChildren(...lab.checks.flatMap((check) => [
    line(check.oracle + " (" + check.checked + " looked at)", ...(check.wrong.length ? ["bad", "check"] : ["good"])),
    ...check.wrong.map((text) => line(text, "bad"))]));
  $("left").replaceChildren(...lab.left_out.map((text) => line(text, "left")));
  $("left-title").hidden = !lab.left_out.length;
  $("note").hidden = $("lab").hidden = false;
}
$("plan").textContent = run.plan_toml;

for (const [kind, [colour]] of Object.entries(TOGGLES)) {
  const label = document.createElement("label"), box = document.createElement("input"), swatch = document.createElement("i");
  box.type = "checkbox";
  box.checked = shown[kind];
  box.onchange = () => { shown[kind] = box.checked; draw(); };
  swatch.style.background = colour;
  label.append(box, swatch, kind);
  $("kinds").append(label);
}

// The view: `from` to `from + span`, and a cursor in it.
const start = found && found.at_us ? Math.max(0, found.at_us - 1500000) : 0;
const view = { from: start, span: found && found.at_us ? 2000000 : lab ? end * 1.02 : Math.min(end, 4000000), cursor: found && found.at_us ? found.at_us : 0 };
const canvas = $("lanes"), pen = canvas.getContext("2d");
let width = 0;
const x = (us) => LABEL + (us - view.from) / view.span * (width - LABEL);
const y = (node) => TOP + node * LANE + LANE / 2;
const firstAt = (list, us, at) => {
  let low = 0, high = list.length;
  while (low < high) { const mid = (low + high) >> 1; at(list[mid]) < us ? low = mid + 1 : high = mid; }
  return low;
};
const lanesOf = (fault) => {
  const groups = fault.text.match(/n\d+/g);
  return groups ? [...new Set(groups.map((g) => +g.slice(1)))] : [...Array(nodes).keys()];
};

function draw() {
  const style = getComputedStyle(document.documentElement), tone = (name) => style.getPropertyValue(name).trim();
  const scale = window.devicePixelRatio || 1, height = TOP + nodes * LANE + 10;
  width = canvas.clientWidth;
  canvas.width = width * scale; canvas.height = height * scale; canvas.style.height = height + "px";
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  const to = view.from + view.span;
  // Faults shade the lanes they hit.
  for (const fault of faults) {
    const until = fault.until ?? end;
    if (until < view.from || fault.at > to) continue;
    const left = Math.max(LABEL, x(fault.at)), right = Math.min(width, Math.max(x(until), x(fault.at) + 2));
    pen.fillStyle = tone("--bad"); pen.globalAlpha = .1;
    for (const lane of lanesOf(fault)) pen.fillRect(left, TOP + lane * LANE + 3, right - left, LANE - 6);
    pen.globalAlpha = .9;
    pen.fillText(fault.text, left + 4, TOP + lanesOf(fault)[0] * LANE + 15, Math.max(60, right - left - 6));
    pen.globalAlpha = 1;
  }
  // Time.
  const step = [1e3, 5e3, 1e4, 5e4, 1e5, 5e5, 1e6, 5e6, 1e7].find((s) => view.span / s < 14) || 1e8;
  pen.fillStyle = tone("--faint"); pen.strokeStyle = tone("--line"); pen.lineWidth = 1;
  for (let t = Math.ceil(view.from / step) * step; t <= to; t += step) {
    pen.beginPath(); pen.moveTo(x(t), TOP - 6); pen.lineTo(x(t), height); pen.stroke();
    pen.fillText(step >= 1e6 ? t / 1e6 + " s" : t / 1e3 + " ms", x(t) + 3, 14);
  }
  for (let n = 0; n < nodes; n++) {
    pen.strokeStyle = tone("--faint");
    pen.beginPath(); pen.moveTo(LABEL, y(n)); pen.lineTo(width, y(n)); pen.stroke();
    pen.fillStyle = tone("--ink"); pen.font = "600 13px system-ui, sans-serif"; pen.fillText("n" + n, 20, y(n) + 4);
  }
  pen.save(); pen.beginPath(); pen.rect(LABEL, 0, width - LABEL, height); pen.clip();
  // Messages; the longest takes a few seconds, so look that far back.
  for (let i = firstAt(messages, view.from - 5e6, (m) => m.at); i < messages.length && messages[i].at <= to; i++) {
    const m = messages[i];
    if (!shown[m.kind] || (m.until ?? m.at) < view.from) continue;
    pen.strokeStyle = KINDS[m.kind][0]; pen.globalAlpha = m.kind === "heartbeat" || m.kind === "report" ? .45 : .8;
    const gone = m.until === null, towards = m.to > m.from ? 1 : -1;
    pen.setLineDash(gone ? [2, 3] : []);
    pen.beginPath(); pen.moveTo(x(m.at), y(m.from));
    gone ? pen.lineTo(x(m.at) + 8, y(m.from) + towards * LANE * .45) : pen.lineTo(x(m.until), y(m.to));
    pen.stroke();
    if (m.lost) { pen.fillStyle = tone("--bad"); pen.fillText("×", x(m.at) + 5, y(m.from) + towards * LANE * .45 + 4); }
  }
  pen.setLineDash([]); pen.globalAlpha = 1;
  for (let i = firstAt(marks, view.from, (e) => e.at_us); i < marks.length && marks[i].at_us <= to; i++) {
    const e = marks[i], at = x(e.at_us), lane = y(e.node);
    if (shown[e.what] === false && OPERATIONS[e.what]) continue;
    pen.fillStyle = pen.strokeStyle = MARKS[e.what];
    if (e.what === "write") { pen.beginPath(); pen.arc(at, lane, 3.5, 0, 7); pen.fill(); }
    else if (e.what === "acknowledged") { pen.beginPath(); pen.arc(at, lane - 8, 2.5, 0, 7); pen.stroke(); }
    else if (e.what === "failed") { pen.font = "700 12px system-ui"; pen.fillText("×", at - 4, lane + 16); }
    else if (e.what === "unknown") { pen.font = "700 12px system-ui"; pen.fillText("?", at - 3, lane + 24); }
    else if (e.what === "start") { pen.beginPath(); pen.moveTo(at, lane - 9); pen.lineTo(at + 9, lane); pen.lineTo(at, lane + 9); pen.fill(); }
    else if (e.what === "stop") { pen.fillRect(at - 5, lane - 5, 10, 10); }
    else if (e.what === "alarm") { pen.font = "700 16px system-ui"; pen.fillText("!", at - 3, lane - 10); }
    else if (e.what === "disk") { pen.fillRect(at - 1, lane + 6, 2, 6); }
    else if (shown.link) { pen.fillRect(at - 1, lane - 14, 2, 6); }
  }
  if (found && found.at_us) {
    const at = x(found.at_us), lane = y(found.node);
    pen.strokeStyle = tone("--bad"); pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(at, TOP - 4); pen.lineTo(at, height); pen.stroke();
    pen.beginPath(); pen.arc(at, lane, 11, 0, 7); pen.stroke();
    pen.fillStyle = tone("--bad"); pen.font = "700 13px system-ui"; pen.fillText(found.oracle, at + 15, lane - 12);
  }
  pen.strokeStyle = tone("--mark"); pen.lineWidth = 1.5;
  pen.beginPath(); pen.moveTo(x(view.cursor), TOP - 4); pen.lineTo(x(view.cursor), height); pen.stroke();
  pen.restore();
  $("scrub").value = view.cursor / end * 1000;
}

function item(e, now) {
  const li = document.createElement("li"), node = document.createElement("b"), when = document.createElement("span");
  when.textContent = ms(e.at_us) + " ";
  node.textContent = "n" + e.node + (e.peer === undefined || e.peer === null ? "" : (e.what === "arrive" ? "←n" : "→n") + e.peer) + " ";
  li.append(when, node, e.what + " " + e.text);
  li.classList.toggle("bad", e.what === "finding" || e.what === "alarm" || e.what === "fault" || e.what === "failed");
  li.classList.toggle("now", !!now);
  li.onclick = () => go(e.at_us);
  return li;
}
const quiet = (e) => /^(heartbeat|report)/.test(e.text) && !shown.heartbeat && !shown.report;
const told = entries.filter((e) => !quiet(e) && !/^Reported/.test(e.text));
function tell() {
  const at = firstAt(told, view.cursor, (e) => e.at_us);
  $("when").textContent = ms(view.cursor);
  $("near").replaceChildren(...told.slice(Math.max(0, at - 6), at + 14).map((e) => item(e, e.at_us === view.cursor)));
}
function go(us) {
  view.cursor = Math.min(end, Math.max(0, us));
  if (view.cursor < view.from || view.cursor > view.from + view.span) view.from = Math.max(0, view.cursor - view.span / 2);
  draw(); tell();
}
function zoom(by, around = view.cursor) {
  const span = Math.min(end * 1.05, Math.max(2000, view.span * by));
  view.from = Math.max(0, around - (around - view.from) * span / view.span);
  view.span = span;
  draw();
}

// What led to the finding: what touched its node, nearest first in time.
if (found && found.at_us) {
  const about = told.filter((e) => e.at_us <= found.at_us && (e.node === found.node || e.peer === found.node || e.what === "fault" || e.what === "healed"));
  $("before").replaceChildren(...about.slice(-30).map((e) => item(e, false)));
} else {
  $("before-title").textContent = (lab ? "Alarms and findings" : "Alarms") + (entries.some((e) => e.what === "alarm" || e.what === "finding") ? "" : ": none");
  $("before").replaceChildren(...entries.filter((e) => e.what === "alarm" || e.what === "finding").slice(0, 30).map((e) => item(e, false)));
}
$("faults").replaceChildren(...faults.map((f) => item({ at_us: f.at, node: f.node, what: "fault", text: f.text + (f.until ? " until " + ms(f.until) : "") })));

canvas.onwheel = (e) => {
  e.preventDefault();
  const at = view.from + (e.offsetX - LABEL) / (width - LABEL) * view.span;
  if (e.ctrlKey || Math.abs(e.deltaY) > Math.abs(e.deltaX)) zoom(e.deltaY > 0 ? 1.25 : .8, at);
  else { view.from = Math.max(0, view.from + e.deltaX / width * view.span); draw(); }
};
let held = null;
canvas.onpointerdown = (e) => { held = { x: e.offsetX, from: view.from, moved: false }; canvas.setPointerCapture(e.pointerId); };
canvas.onpointermove = (e) => {
  if (!held) return;
  held.moved ||= Math.abs(e.offsetX - held.x) > 4;
  if (held.moved) { view.from = Math.max(0, held.from - (e.offsetX - held.x) / (width - LABEL) * view.span); draw(); }
};
canvas.onpointerup = (e) => {
  if (held && !held.moved) go(Math.round(view.from + (e.offsetX - LABEL) / (width - LABEL) * view.span));
  held = null;
};
$("scrub").oninput = (e) => { view.from = Math.max(0, e.target.value / 1000 * end - view.span / 2); go(e.target.value / 1000 * end); };
document.onkeydown = (e) => {
  if (e.target.type === "checkbox") return;
  const at = firstAt(told, view.cursor, (t) => t.at_us);
  if (e.key === "ArrowRight") { const next = told.slice(at).find((t) => t.at_us > view.cursor); if (next) go(next.at_us); }
  else if (e.key === "ArrowLeft") { if (at > 0) go(told[at - 1].at_us); }
  else if (e.key === "+" || e.key === "=") zoom(.7);
  else if (e.key === "-") zoom(1.4);
  else if (e.key === "f" && found) go(found.at_us);
  else return;
  e.preventDefault();
};
window.onresize = draw;
draw(); tell();
