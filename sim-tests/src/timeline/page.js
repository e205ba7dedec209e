// Draws one run. All facts come from the data element; nothing is fetched.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const { lines, lane, lanes, causes, lost, faults, violations } = data;
const by = (id) => document.getElementById(id);
const canvas = by("picture");
const context = canvas.getContext("2d");
const COLOURS = { send: "#1971c2", ack: "#2f9e44", recv: "#7048e8", commit: "#e8590c", append: "#868e96",
  owned: "#d6336c", fenced: "#c92a2a", gap: "#c92a2a", refused: "#c92a2a", sub: "#0c8599", unsub: "#0c8599",
  open: "#099268", shut: "#5c940d", crash: "#c92a2a", start: "#2f9e44", mark: "#adb5bd", verdict: "#4263eb" };
const LEFT = 110, TOP = 26;
const end = lines.length ? lines[lines.length - 1].t : 1;
const lostAt = new Set(lost.map((one) => one.at));
const violated = new Map(violations.map((one) => [one.n, one]));
const view = { from: 0, to: end || 1, chosen: null, past: new Set(), cursor: 0 };

const seconds = (us) => `${(us / 1e6).toFixed(6).replace(/0{1,3}$/, "")} s`;
const roomOf = (line) => line.room ||
  (line.subject || "").replace(/^(?:in|out)\.t\.|^log\.\d+\.t\./, "").replace(/\.r\./, "/");
const about = (at) => {
  const line = lines[at];
  const place = line.seq !== undefined ? ` ${line.epoch ?? ""}:${line.seq}` : "";
  const code = line.code ? ` code ${line.code}` : "";
  const what = line.op ? ` ${line.op.op}${line.op.key ? " " + line.op.key : ""}` : "";
  const name = line.name || line.id || line.m?.slice(0, 8) || "";
  return `${seconds(line.t)} ${lanes[lane[at]].name} ${line.k}${what} ${roomOf(line)}${place}${code} ${name}`;
};

// The whole past of one record: everything that it follows from.
function pastOf(at) {
  const seen = new Set([at]), open = [at];
  while (open.length) for (const cause of causes[open.pop()]) {
    if (!seen.has(cause.from)) { seen.add(cause.from); open.push(cause.from); }
  }
  return seen;
}

const filter = { room: "", client: "" };
function shown(at) {
  if (place[lane[at]] < 0) return false;
  if (by("past").checked && view.past.size && !view.past.has(at)) return false;
  const line = lines[at];
  if (filter.room && roomOf(line) && roomOf(line) !== filter.room) return false;
  if (filter.client && line.c && line.c !== filter.client) return false;
  return true;
}

const width = () => canvas.clientWidth, height = () => canvas.clientHeight;
const x = (t) => LEFT + ((t - view.from) / (view.to - view.from)) * (width() - LEFT - 12);
const t = (px) => view.from + ((px - LEFT) / (width() - LEFT - 12)) * (view.to - view.from);
// The rows on the screen: with a filter, the clients that have nothing to do with it make room for the others.
let rows = lanes.map((_, row) => row), place = lanes.map((_, row) => row);
const pitch = () => Math.max(7, (height() - TOP - 8) / Math.max(1, rows.length));
const y = (row) => TOP + (place[row] + 0.5) * pitch();
const inRoom = new Map();
lines.forEach((line, at) => {
  if (!line.room) return;
  if (!inRoom.has(line.room)) inRoom.set(line.room, new Set());
  inRoom.get(line.room).add(lane[at]);
});
function arrange() {
  const here = inRoom.get(filter.room);
  rows = lanes.map((_, row) => row).filter((row) => lanes[row].group !== "client" ||
    ((!filter.client || lanes[row].name === filter.client) && (!here || here.has(row))));
  place = lanes.map(() => -1);
  rows.forEach((row, at) => { place[row] = at; });
}
const locate = (at) => ({ x: x(lines[at].t), y: y(lane[at]) });

// First record at or after a time: records ascend by it.
function first(time) {
  let low = 0, high = lines.length;
  while (low < high) { const middle = (low + high) >> 1; if (lines[middle].t < time) low = middle + 1; else high = middle; }
  return low;
}

// At most once a frame, however fast the wheel turns.
let due = false;
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; drawNow(); });
}

function drawNow() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width() * ratio; canvas.height = height() * ratio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  context.clearRect(0, 0, width(), height());
  context.font = "11px system-ui, sans-serif"; context.textBaseline = "middle";
  drawScale(colour); drawFaults(colour); drawLanes(colour);
  context.save(); context.beginPath(); context.rect(LEFT, 0, width() - LEFT, height()); context.clip();
  const low = first(view.from), high = first(view.to + 1);
  drawArrows(low, high, colour); drawEvents(low, high, colour);
  context.restore();
}

function drawScale(colour) {
  const rough = (view.to - view.from) / 8, unit = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough) || unit;
  context.fillStyle = colour("--soft"); context.strokeStyle = colour("--line"); context.lineWidth = 1;
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    context.beginPath(); context.moveTo(x(at), TOP - 6); context.lineTo(x(at), height()); context.stroke();
    context.fillText(seconds(at), x(at) + 3, 10);
  }
}

function drawFaults(colour) {
  for (const fault of faults) {
    if (fault.to < view.from || fault.from > view.to) continue;
    const left = Math.max(LEFT, x(fault.from)), right = Math.max(left + 2, Math.min(width(), x(fault.to)));
    context.fillStyle = colour("--shade");
    const struck = fault.lanes.filter((row) => place[row] >= 0);
    for (const row of struck) context.fillRect(left, y(row) - pitch() / 2, right - left, pitch());
    context.fillStyle = colour("--bad");
    context.fillText(fault.id, left + 2, struck.length ? y(struck[0]) - pitch() / 2 - 5 : TOP - 4);
  }
}

function drawLanes(colour) {
  rows.forEach((row, at) => {
    const one = lanes[row];
    context.strokeStyle = colour("--line"); context.lineWidth = 1;
    context.beginPath(); context.moveTo(LEFT, y(row)); context.lineTo(width(), y(row)); context.stroke();
    context.fillStyle = colour("--ink");
    if (pitch() >= 10 || at % 2 === 0) context.fillText(one.name, 6, y(row));
  });
  const cursor = x(view.cursor);
  if (cursor >= LEFT) {
    context.strokeStyle = colour("--pick"); context.setLineDash([4, 3]);
    context.beginPath(); context.moveTo(cursor, TOP - 6); context.lineTo(cursor, height()); context.stroke();
    context.setLineDash([]);
  }
}

function drawArrows(low, high, colour) {
  // Beyond this many the picture would be ink alone: then only the chosen past is drawn.
  const crowded = high - low > 4000;
  for (let at = low; at < Math.min(lines.length, high + 2000); at++) {
    const inPast = view.past.has(at);
    if ((crowded && !inPast) || !shown(at)) continue;
    for (const cause of causes[at]) {
      if (!cause.message || !shown(cause.from)) continue;
      const strong = inPast && view.past.has(cause.from);
      if (crowded && !strong) continue;
      const a = locate(cause.from), b = locate(at);
      if (b.x < LEFT || a.x > width()) continue;
      context.strokeStyle = strong ? colour("--pick") : colour("--line"); context.lineWidth = strong ? 1.6 : 1;
      context.beginPath(); context.moveTo(a.x, a.y); context.lineTo(b.x, b.y); context.stroke();
      if (strong) tip(a, b);
    }
  }
}

function tip(a, b) {
  const turn = Math.atan2(b.y - a.y, b.x - a.x);
  context.beginPath(); context.moveTo(b.x, b.y);
  for (const side of [0.35, -0.35]) context.lineTo(b.x - 8 * Math.cos(turn + side), b.y - 8 * Math.sin(turn + side));
  context.closePath(); context.fillStyle = context.strokeStyle; context.fill();
}

let dots = 0;
function drawEvents(low, high, colour) {
  dots = 0;
  const size = Math.min(4, pitch() / 2.2);
  const lastX = new Float64Array(lanes.length).fill(-1);
  for (let at = low; at < high; at++) {
    if (!shown(at)) continue;
    const { x: px, y: py } = locate(at), special = at === view.chosen || violated.has(lines[at].n);
    // One dot a pixel and row is enough for what cannot be told apart.
    if (!special && px - lastX[lane[at]] < 0.5 && !view.past.has(at)) continue;
    lastX[lane[at]] = px; dots += 1;
    const faded = view.past.size > 1 && !view.past.has(at);
    context.globalAlpha = faded ? 0.35 : 1;
    context.fillStyle = COLOURS[lines[at].k] || colour("--soft");
    context.beginPath(); context.arc(px, py, size, 0, 7); context.fill();
    if (lostAt.has(at)) {
      context.strokeStyle = colour("--bad"); context.lineWidth = 1.5; context.beginPath();
      context.moveTo(px + 3, py + 3); context.lineTo(px + 9, py + 9);
      context.moveTo(px + 9, py + 3); context.lineTo(px + 3, py + 9); context.stroke();
    }
    context.globalAlpha = 1;
    if (special) {
      context.strokeStyle = violated.has(lines[at].n) ? colour("--bad") : colour("--pick"); context.lineWidth = 2.5;
      context.beginPath(); context.arc(px, py, size + 5, 0, 7); context.stroke();
    }
  }
}

// Each room as the trace has told it so far: its owner, its head, its keys, who hears it and how far.
function roomsAt(time) {
  const rooms = new Map(), ops = new Map();
  const room = (name) => {
    if (!rooms.has(name)) rooms.set(name, { owner: "-", epoch: 0, term: 0, seq: 0, keys: new Map(), heard: new Map(), users: null });
    return rooms.get(name);
  };
  for (let at = 0; at < lines.length && lines[at].t <= time; at++) {
    const line = lines[at];
    if (!line.room) continue;
    const one = room(line.room);
    if (line.k === "send") ops.set(line.m, line.op);
    else if (line.k === "owned") Object.assign(one, { owner: line.host, seq: line.epoch === one.epoch ? one.seq : 0, epoch: line.epoch, term: line.term });
    else if (line.k === "fenced" && one.owner === line.host) one.owner = "-";
    else if (line.k === "commit") {
      one.seq = line.seq;
      const op = ops.get(line.m);
      if (op?.op === "set") one.keys.set(op.key, `${op.h} at ${line.seq}`);
      if (op?.op === "delete") one.keys.delete(op.key);
      if (op?.op === "lock" || op?.op === "unlock") one.keys.set("(lock)", `${op.op} at ${line.seq}`);
    } else if (line.k === "recv" || line.k === "sub") one.heard.set(line.c, line.seq);
    else if (line.k === "unsub") one.heard.delete(line.c);
    else if (line.k === "seen") one.users = line.users;
  }
  return rooms;
}

function table(rows) {
  const table = document.createElement("table");
  for (const [head, ...cells] of rows) {
    const row = table.insertRow(), th = document.createElement("th");
    th.textContent = head; row.append(th);
    for (const cell of cells) row.insertCell().textContent = cell;
  }
  return table;
}

function tell() {
  by("cursor").textContent = seconds(view.cursor);
  const place = by("rooms");
  place.replaceChildren();
  for (const [name, room] of [...roomsAt(view.cursor)].sort()) {
    if (filter.room && name !== filter.room) continue;
    const behind = [...room.heard].filter(([, seq]) => seq < room.seq).map(([c, seq]) => `${c}: ${seq}`);
    place.append(table([[name, `owner ${room.owner}, term ${room.term}`], ["head", `${room.epoch}:${room.seq}`],
      ["subscribers", `${room.heard.size}${behind.length ? ", behind: " + behind.join(", ") : ""}`],
      ...(room.users ? [["members", room.users.join(", ")]] : []),
      ...[...room.keys].sort().map(([key, value]) => [key, value])]));
  }
  if (view.chosen === null) return;
  const pre = document.createElement("pre");
  pre.textContent = JSON.stringify(lines[view.chosen], null, 1);
  const objection = violated.get(lines[view.chosen].n);
  const bad = document.createElement("p");
  bad.className = "bad"; bad.textContent = objection ? `${objection.oracle}: ${objection.what}` : "";
  by("chosen").replaceChildren(about(view.chosen), bad, pre);
  const latest = [...view.past].filter((at) => at !== view.chosen).sort((a, b) => b - a);
  by("causes").replaceChildren(...latest.slice(0, 200).map((at) => {
    const item = document.createElement("li");
    item.textContent = about(at); item.dataset.n = at; item.onclick = () => choose(at, true);
    return item;
  }));
}

function choose(at, move) {
  view.chosen = at; view.past = pastOf(at); view.cursor = lines[at].t;
  if (move && (lines[at].t < view.from || lines[at].t > view.to)) centre(lines[at].t);
  draw(); tell();
}

function centre(time) {
  const half = (view.to - view.from) / 2;
  view.from = time - half; view.to = time + half;
}

function nearest(px, py) {
  let best = null, bestDistance = 14 * 14;
  const low = first(t(px - 14)), high = first(t(px + 14) + 1);
  for (let at = low; at < high; at++) {
    if (!shown(at)) continue;
    const spot = locate(at), distance = (spot.x - px) ** 2 + (spot.y - py) ** 2;
    if (distance <= bestDistance) { best = at; bestDistance = distance; }
  }
  return best;
}

let drag = null;
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const at = t(event.offsetX), factor = event.deltaY > 0 ? 1.25 : 0.8;
  const from = at - (at - view.from) * factor, to = at + (view.to - at) * factor;
  if (to - from > 20 && to - from < (end || 1) * 4) { view.from = from; view.to = to; draw(); }
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => {
  drag = { px: event.offsetX, from: view.from, to: view.to, moved: false }; canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const shift = ((drag.px - event.offsetX) / (width() - LEFT - 12)) * (drag.to - drag.from);
  if (Math.abs(drag.px - event.offsetX) > 4) drag.moved = true;
  if (drag.moved) { view.from = drag.from + shift; view.to = drag.to + shift; draw(); }
});
canvas.addEventListener("pointerup", (event) => {
  const click = drag && !drag.moved;
  drag = null;
  if (!click || event.offsetX < LEFT) return;
  const at = nearest(event.offsetX, event.offsetY);
  if (at !== null) choose(at, false);
  else { view.cursor = Math.max(0, t(event.offsetX)); draw(); tell(); }
});
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || view.chosen === null) return;
  event.preventDefault();
  for (let at = view.chosen + step; at >= 0 && at < lines.length; at += step) {
    if (lane[at] === lane[view.chosen] && shown(at)) return choose(at, true);
  }
});
by("room").onchange = (event) => { filter.room = event.target.value; arrange(); draw(); tell(); };
by("client").onchange = (event) => { filter.client = event.target.value; arrange(); draw(); };
by("past").onchange = draw;
by("whole").onclick = () => { view.from = 0; view.to = end || 1; draw(); };
function showViolation() {
  const at = lines.findIndex((line) => line.n === violations[0].n);
  if (at < 0) return;
  view.from = lines[at].t - 1.5e6; view.to = lines[at].t + 0.5e6; choose(at, true);
}
by("violation").onclick = showViolation;
window.addEventListener("resize", draw);

const options = (id, names) => names.forEach((name) => by(id).append(new Option(name, name)));
options("room", [...new Set(lines.filter((line) => line.room).map((line) => line.room))].sort());
options("client", lanes.filter((one) => one.group === "client").map((one) => one.name));
by("replay").textContent = data.replay;
const failed = violations[0];
by("verdict").textContent = `commit ${data.commit}, ${lines.length} records, ${seconds(end)}. ` +
  (failed ? `${failed.oracle} objects: ${failed.what}` : "Every oracle was content.");
by("verdict").className = failed ? "bad" : "";
by("violation").hidden = !failed;
draw(); tell();
if (failed) showViolation();
// Where a record stands on the screen, for tests and for bookmarklets.
window.timeline = {
  locate, view, choose, lines, faults, drawNow,
  names: () => rows.map((row) => lanes[row].name), count: () => { drawNow(); return dots; },
};
