"use strict";
const KEY = "unteach token", SHOWN = 100;
const at = (id) => document.getElementById(id);
let token = sessionStorage.getItem(KEY) || "", timer = 0, seen = "";

function made(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;  // text only: what others wrote never becomes markup
  if (kind) element.className = kind;
  return element;
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...options.headers, authorization: `Bearer ${token}` }, cache: "no-store" });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(told.detail || `${answer.status} ${answer.statusText}`), { status: answer.status });
}

function lock(words) {
  clearTimeout(timer);
  token = seen = "";
  sessionStorage.removeItem(KEY);
  at("inside").hidden = at("reasons").hidden = true;
  at("door").hidden = false;
  at("title").textContent = "Locked";
  at("lead").textContent = words;
  at("token").focus();
}

async function look() {
  clearTimeout(timer);
  let wait = 10;
  try {
    const status = await (await call("/status")).json();
    const after = (count) => Math.max(0, count - SHOWN);
    const [requests, runs] = await Promise.all([
      call(`/requests?after=${after(status.requests)}&limit=${SHOWN}`).then((a) => a.json()),
      call(`/runs?after=${after(status.runs)}&limit=${SHOWN}`).then((a) => a.json()),
    ]);
    if (!token) return;  // locked meanwhile
    sessionStorage.setItem(KEY, token);
    at("door").hidden = true;
    at("inside").hidden = false;
    show(status, requests, runs);
    wait = status.worker.working ? 2 : 10;
  } catch (error) {
    if (!token || error.status === 401 || error.status === 429) return lock(error.message);
    at("lead").textContent = `Not reached: ${error.message}`;
  }
  timer = setTimeout(() => (document.hidden ? (timer = 0) : look()), 1000 * wait);
}

function show(status, requests, runs) {
  const counts = Object.entries(status.counts).map(([name, count]) => `${count} ${name}`).join(", ");
  const run = status.running, busy = status.worker.working;
  at("title").textContent = status.advice ? "Time to retrain" : busy ? "At work" : "Waiting for requests";
  at("lead").textContent = run ? said(run, status.worker) : busy ? "Starting." : status.worker.said ? `The last run came to nothing: ${status.worker.said}` : "No run is at work.";
  at("reasons").hidden = !status.advice;
  at("reasons").replaceChildren(...(status.advice ? status.advice.reasons : []).map((reason) => made("li", reason)));
  at("retrain").hidden = !status.advice;
  at("start").disabled = at("retrain").disabled = busy;
  const facts = { requests: counts || "none so far", "past their due date": status.overdue.join(", ") || "none" };
  facts["model in use"] = `${status.model.sha256.slice(0, 12)}… ${status.model.run ? `of run ${status.model.run}` : "as the queue was opened"}`;
  facts["cost since last retraining"] = status.spent === null ? "not known" : `${Math.round(100 * status.spent)} % of one`;
  at("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const pair = made("div");
    pair.append(made("dt", name), made("dd", value));
    return pair;
  }));
  at("foot").textContent = `Ledger: entry ${status.head[0]}, ${status.head[1]}. Seen ${new Date().toLocaleTimeString()}.`;
  const now = JSON.stringify([status.head, requests, runs]);
  if (now === seen) return;  // tables stay as they are under a reader's hands
  seen = now;
  at("runs").hidden = !runs.length;
  at("runrows").replaceChildren(...runs.toReversed().map(runRow));
  at("none").hidden = requests.length > 0;
  at("requests").hidden = !requests.length;
  at("requestrows").replaceChildren(...requests.toReversed().map(requestRow));
  at("older").hidden = status.requests <= SHOWN;
  at("older").textContent = `The last ${SHOWN} of ${status.requests}.`;
  draw(status.curves);
}

function said(run, worker) {
  const told = run.progress;
  const what = `Run ${run.number}${run.retrain ? ", training from scratch" : run.requests.length ? `, for request${run.requests.length > 1 ? "s" : ""} ${run.requests.join(", ")}` : ""}`;
  if (!worker.working) return `${what}: stopped before its end${worker.said ? ` (${worker.said})` : ""}. The next run goes on with it.`;
  if (!told) return `${what}: loading.`;
  const ago = Math.max(0, Math.round(Date.now() / 1000 - told.at));
  return `${what}: ${told.stage || told.event}${told.epoch ? `, epoch ${told.epoch} done` : ""}, ${ago} s ago.`;
}

function row(head, cells) {
  const line = made("tr");
  const first = made("th", head);
  first.scope = "row";
  line.append(first, ...cells);
  return line;
}

function cell(text, more, kind) {
  const found = made("td", text, kind);
  if (more) found.append(made("small", more));
  return found;
}

function runRow(run) {
  const numbers = run.numbers, has = "epochs" in numbers;
  const files = made("td", undefined, "word");
  for (const name of ["report", "evidence"]) if (run[name]) files.append(saver(run.number, name));
  const area = has && (numbers.current || numbers.so_far);
  return row(run.number, [
    cell(run.requests.join(", ") || "none new", run.retrain ? "trained from scratch" : "", "word"),
    cell(run.status, run.why, run.status === "failed" || run.status === "rejected" ? "word bad" : "word"),
    cell(has ? numbers.epochs.toFixed(2) : "–"),
    cell(has ? `${(100 * numbers.test).toFixed(2)} %` : "–"),
    cell(area ? area[0].toFixed(3) : "–", area ? `${area[1].toFixed(3)} to ${area[2].toFixed(3)}` : ""),
    files,
  ]);
}

function requestRow(one) {
  return row(one.number, [
    cell(one.received.slice(0, 16).replace("T", " "), "", "word day"),
    cell(one.due.slice(0, 10), one.overdue ? "past its due date" : "", one.overdue ? "word day bad" : "word day"),
    cell(one.count),
    cell(one.status, one.why, "word"),
    cell(one.run || ""),
    cell(one.note, one.key, "word"),
  ]);
}

function saver(number, name) {
  const button = made("button", `save ${name}`);
  button.addEventListener("click", async () => {
    try {
      const link = made("a");
      link.href = URL.createObjectURL(await (await call(`/runs/${number}/${name}`)).blob());
      link.download = `run-${number}-${name}.${name === "report" ? "html" : "json"}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch (error) {
      at("lead").textContent = error.message;
    }
  });
  return button;
}

function draw(runs) {
  at("curves").hidden = !runs.length;
  if (!runs.length) return;
  let sum = 0;
  const along = (value) => runs.filter((run) => value(run.numbers)).map((run) => [run.number, ...value(run.numbers)]);
  const cost = runs.map((run) => [run.number, (sum += run.numbers.epochs)]);
  const price = runs.map((run) => run.numbers.retrain_epochs).find(Boolean);
  const first = [0, 100 * runs[0].numbers.base];
  at("panels").replaceChildren(
    panel("Cost so far", "Full-data epochs of all runs together. Dashed: retraining once.", { line: cost, mark: price, floor: 0, unit: "epochs" }),
    panel("Drift", "Accuracy on test examples, %. Dashed: answers as the model last trained from scratch gave them.", {
      line: [first, ...along((n) => [100 * n.test])], second: [[0, 100], ...along((n) => [100 * n.agreement])], unit: "%" }),
    panel("What comes back", "AUC of an attack on earlier requests with its 95 % interval; dots: on the run's own. 0.5 is chance.", {
      line: along((n) => n.earlier), dots: along((n) => n.current && n.current.slice(0, 1)), mark: 0.5, unit: "AUC" }),
  );
}

function panel(title, caption, curve) {
  const figure = made("figure");
  figure.append(made("h3", title), chart(title, curve), made("figcaption", caption));
  return figure;
}

function chart(title, { line, second = [], dots = [], mark, floor, unit }) {
  const [wide, high, left, low] = [380, 240, 44, 30];
  const everything = [...line, ...second, ...dots];
  const values = [...everything.flatMap((point) => point.slice(1)), ...(mark === undefined ? [] : [mark])];
  const ends = [Math.min(...values), Math.max(...values)];
  const room = (ends[1] - ends[0] || Math.abs(ends[1]) || 1) * 0.06;
  const [bottom, top] = [floor ?? ends[0] - room, ends[1] + room];
  const start = Math.min(...everything.map((point) => point[0])), end = Math.max(...everything.map((point) => point[0]), start + 1);
  const x = (run) => left + ((run - start) / (end - start)) * (wide - left - 12);
  const y = (value) => high - low - ((value - bottom) / (top - bottom)) * (high - low - 10);
  const path = (points, column = 1) => points.map((point, i) => `${i ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[column]).toFixed(1)}`).join("");
  const svg = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", class: "chart", "aria-label": `${title}, ${unit}, ${line.length} runs` });
  const ten = 10 ** Math.floor(Math.log10((top - bottom) / 3)), gap = ten * [1, 2, 5, 10].find((size) => (top - bottom) / (size * ten) < 5);
  const digits = Math.max(0, -Math.floor(Math.log10(gap) + 1e-9));
  for (let value = Math.ceil(bottom / gap) * gap; value <= top; value += gap) {
    svg.append(drawn("path", { class: "grid", d: `M${left} ${y(value)}H${wide - 12}` }));
    svg.append(drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits)));
  }
  const step = Math.ceil((end - start) / 8);
  for (let run = start; run <= end; run += step) svg.append(drawn("text", { x: x(run), y: high - 10, "text-anchor": "middle" }, run));
  if (line.length && line[0].length > 2) svg.append(drawn("path", { class: "band", d: `${path(line, 2)}${path(line.toReversed(), 3).replace("M", "L")}Z` }));
  if (mark !== undefined) svg.append(drawn("path", { class: "mark", d: `M${left} ${y(mark)}H${wide - 12}` }));
  svg.append(drawn("path", { class: "second", d: path(second) }), drawn("path", { d: path(line) }));
  for (const point of line) svg.append(drawn("circle", { cx: x(point[0]), cy: y(point[1]), r: 3 }));
  for (const point of dots) svg.append(drawn("circle", { class: "second", cx: x(point[0]), cy: y(point[1]), r: 4 }));
  return svg;
}

function drawn(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  look();
});
at("leave").addEventListener("click", () => lock("The token is forgotten here."));
async function start(order) {
  at("start").disabled = at("retrain").disabled = true;
  try {
    await call("/runs", { method: "POST", body: JSON.stringify(order), headers: { "content-type": "application/json" } });
    look();
  } catch (error) {
    at("lead").textContent = error.message;
  }
}
at("start").addEventListener("click", () => start({}));
at("retrain").addEventListener("click", () => {
  if (confirm("Train a new model from scratch, without all that was asked for so far?")) start({ retrain: true });
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && token) look(); });
if (token) look(); else at("token").focus();
