// The page: takes a token and a picture, asks both parties, puts their answers together, and shows what went where.
//
// Nothing is stored: no cookie, no local storage. Whatever a party says is put into the page as text, never as markup.

import { appearance, argmax, hex, join, randomOctets, softmax, split } from "./arithmetic.js";
import { decode, planesOf, prepare } from "./picture.js";

const PATIENCE = 60; // seconds for an answer
const GRACE = 1000; // milliseconds that the other party is still heard when one has failed: it may know why
const ROWS = 12; // results shown
const PREVIEW = 640; // pixels of a side
const AGAIN = new Set(["network", "busy", "rate", "timeout", "peer", "shutting-down"]); // worth asking under the same session
const SECOND_HAND = new Set(["peer", "dealer", "network"]); // of two reasons, not the first one

const $ = (id) => document.getElementById(id);
const state = { parties: null, shown: null, model: null, input: null, asking: null, busy: false, rows: 0, empty: null };

/** An error with a code for the page, and a remedy for people. */
class Refusal extends Error {
  constructor(code, message, remedy, retryAfter) {
    super(message);
    Object.assign(this, { code, remedy, retryAfter });
  }
}

// -------------------------------------------------------------------------------------------------------------- talking

async function call(url, options = {}) {
  const where = new URL(url).host;
  let response;
  try {
    response = await fetch(url, { credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer", ...options });
  } catch (error) {
    if (error.name === "TimeoutError" || error.name === "AbortError") throw new Refusal("timeout", `no answer from ${where} in time`, "try again");
    throw new Refusal("network", `${where} cannot be reached`, `open https://${where}/ in another tab: a browser that does not trust its certificate says so there`);
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Refusal("network", `${where} said something else than JSON, with status ${response.status}`, "is it a party of secureimg?");
  }
  if (response.ok) return body;
  throw new Refusal(body.code ?? "http", `${where}: ${body.message ?? `status ${response.status}`}`, body.remedy ?? "", body.retry_after);
}

const withToken = (number) => ({ Authorization: `Bearer ${state.shown[number]}` });

async function shownTo(number, token) {
  const octets = new TextEncoder().encode(`secureimg token party${number} ${token}`);
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", octets)));
}

/** Ask both parties. When one fails, the other one is heard for only a moment. */
async function both(ask) {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(1000 * (PATIENCE + 5))]);
  const asked = [0, 1].map((number) => ask(number, signal));
  for (const one of asked) one.catch(() => setTimeout(() => stop.abort(), GRACE));
  const heard = await Promise.allSettled(asked);
  const reasons = heard.filter((one) => one.status === "rejected").map((one) => one.reason);
  const rank = (reason) => (!reason.code ? 0 : reason.code === "timeout" ? 3 : SECOND_HAND.has(reason.code) ? 2 : 1);
  if (reasons.length) throw reasons.sort((a, b) => rank(a) - rank(b))[0];
  return heard.map((one) => one.value);
}

// ----------------------------------------------------------------------------------------------------------- connecting

async function learnPage() {
  const facts = await call(new URL("v1/page", location.href).href);
  if (facts.other) {
    state.parties = facts.party === 0 ? [location.origin, facts.other] : [facts.other, location.origin];
    state.parties.forEach((origin, number) => ($(`party-${number}`).textContent = origin));
    $("other-page").href = `${facts.other}/v1/page`;
  }
}

async function connect(token) {
  if (!state.parties) await learnPage();
  if (!state.parties) throw new Refusal("setup", "this party does not know the other one's address", "ask its operator to set web.other");
  state.shown = await Promise.all([0, 1].map((number) => shownTo(number, token)));
  await learnModel();
}

async function learnModel() {
  const models = await both((number, signal) => call(`${state.parties[number]}/v1/model`, { headers: withToken(number), signal }));
  models.forEach((model, number) => {
    if (model.party !== number) throw new Refusal("setup", `${state.parties[number]} is party ${model.party}, not party ${number}`, "tell the operators");
  });
  const common = models.map((model) => JSON.stringify({ ...model, party: 0, other: null }));
  if (common[0] !== common[1]) throw new Refusal("setup", "the two parties offer different programs", "do not send them anything, and tell the operators");
  const model = models[0];
  if (!model.preparation) throw new Refusal("setup", `the model takes inputs of shape ${model.input_shape.join(" x ")}, which a picture is not`, "use the Python client");
  if (model.reveal === "shares") throw new Refusal("setup", "the model reveals nothing to owners", "use the Python client");
  state.model = model;
  showModel();
}

function showModel() {
  const { model, program, labels, reveal, top, output_shape: shape } = state.model;
  const outputs = count(shape);
  $("model").textContent = `${model}, program ${program.slice(0, 12)}`;
  $("reveal").textContent = { scores: outputs > 1 ? "all scores" : "the score", label: "the label only", "top-k": `the best ${top} in order` }[reveal];
  $("learned").replaceChildren(...state.model.learns.map(({ who, what }) => element("div", {}, element("dt", {}, who), element("dd", {}, what))));
  const [channels, height, width] = state.model.input_shape;
  const drawable = channels === 1 && height === width && width <= 64;
  $("draw-tab").hidden = !drawable;
  if (!drawable) choose("file");
  for (const id of ["input", "noise-0", "noise-1"]) Object.assign($(id), { height, width });
  $("input-note").textContent = `${width} × ${height} pixels`;
  for (const number of [0, 1]) $(`noise-${number}-note`).textContent = `noise, ${bytes(state.model.input.share_bytes)}`;
  $("answer-picture").hidden = !asPicture();
  $("scores").hidden = Boolean(asPicture());
  state.empty = (i) => (reveal === "scores" ? row(outputs <= ROWS ? name(i) : "–", "", 0) : placeRow(i, "–"));
  state.rows = { scores: outputs > 1 ? Math.min(outputs, ROWS) : 0, label: 0, "top-k": top }[reveal];
  clearAnswer();
  $("choose").inert = false;
  for (const id of ["scores", "learned"]) $(id).classList.remove("waiting");
  say(labels ? "Choose a picture." : "Choose a picture. The model has no names for its results.");
}

/** Channels, height and width, if the result is itself a picture. */
function asPicture() {
  const { output_shape: shape, reveal } = state.model;
  const three = shape.length === 2 ? [1, ...shape] : shape;
  return reveal === "scores" && three.length === 3 && [1, 3].includes(three[0]) && Math.min(three[1], three[2]) > 3 ? three : null;
}

// ------------------------------------------------------------------------------------------------------------- pictures

async function takeFile(blob, label) {
  hideProblem();
  try {
    const picture = await decode(blob);
    take(picture, label);
    choose("file");
  } catch (error) {
    forgetPicture();
    showProblem(error instanceof Refusal ? error : new Refusal("picture", ...halves(error.message)));
  }
}

function halves(message) {
  const at = message.lastIndexOf(": ");
  return at < 0 ? [message, ""] : [message.slice(0, at), message.slice(at + 2)];
}

function take(picture, label) {
  const start = performance.now();
  const values = prepare(picture, state.model.preparation);
  const seconds = (performance.now() - start) / 1000;
  const [low, high] = state.model.input_range;
  const slack = 1e-6 * (high - low);
  if (values.length !== count(state.model.input_shape)) throw new Refusal("picture", "the picture does not become an input of the model's shape", "use the Python client");
  if (!values.every((value) => low - slack <= value && value <= high + slack)) throw new Refusal("picture", "the picture has values outside the model's range", "tell the operators");
  state.input = { values, seconds, again: () => take(picture, label) };
  state.asking = null;
  showPicture(picture);
  $("picture").setAttribute("aria-label", `Your picture: ${label}`);
  $("drop").classList.add("filled");
  $("about").textContent = `${label}, ${picture.width} × ${picture.height}`;
  showInput();
  for (const number of [0, 1]) blank($(`noise-${number}`));
  clearAnswer();
  $("ask").disabled = state.busy;
  say("Ready to ask.");
}

/** The picture itself, with fewer pixels if there are more than the screen shows. */
function showPicture({ width, height, planes }) {
  const step = Math.ceil(Math.max(width, height) / PREVIEW);
  const [columns, rows] = [Math.ceil(width / step), Math.ceil(height / step)];
  paint($("picture"), columns, rows, (i) => {
    const at = Math.floor(i / columns) * step * width + (i % columns) * step;
    return planes.map((plane) => plane[at]);
  });
}

function showInput() {
  const { mode, mean, std } = state.model.preparation;
  const { width, height } = $("input");
  const plane = width * height;
  const grey = (i, c) => 255 * (state.input.values[c * plane + i] * std[std.length > 1 ? c : 0] + mean[mean.length > 1 ? c : 0]);
  paint($("input"), width, height, (i) => (mode === "L" ? [grey(i, 0)] : [0, 1, 2].map((c) => grey(i, c))));
}

function forgetPicture() {
  state.input = state.asking = null;
  $("ask").disabled = true;
  $("drop").classList.remove("filled");
  $("picture").setAttribute("aria-label", "No picture yet");
  $("about").textContent = "PNG, JPEG, WebP or BMP";
  $("file").value = "";
  for (const id of ["input", "noise-0", "noise-1"]) blank($(id));
  clearPad();
  clearAnswer();
}

function choose(source) {
  document.querySelector(`input[name="source"][value="${source}"]`).checked = true;
  $("drop").hidden = source !== "file";
  $("pad").hidden = source !== "draw";
}

function clearPad() {
  blank($("pad"), "#000");
}

function startDrawing() {
  const pad = $("pad");
  const pen = pad.getContext("2d", { alpha: false, willReadFrequently: true });
  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  let down = false;
  pad.addEventListener("pointerdown", (event) => {
    down = true;
    pad.setPointerCapture(event.pointerId);
    Object.assign(pen, { strokeStyle: "#fff", lineWidth: 24, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...at(event));
    pen.lineTo(...at(event));
    pen.stroke();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!down) return;
    pen.lineTo(...at(event));
    pen.stroke();
  });
  const lift = () => {
    if (!down) return;
    down = false;
    hideProblem();
    take(planesOf(pen.getImageData(0, 0, pad.width, pad.height)), "your drawing");
  };
  pad.addEventListener("pointerup", lift);
  pad.addEventListener("pointercancel", lift);
}

// --------------------------------------------------------------------------------------------------------------- asking

async function ask() {
  const start = performance.now();
  const { input, model } = state;
  if (!state.asking) {
    const shares = split(input.values, model.input);
    state.asking = { session: hex(randomOctets(16)), shares, tries: 0, split: (performance.now() - start) / 1000 };
  }
  const { session, shares } = state.asking;
  state.asking.tries += 1;
  showNoise(shares);
  say("Both parties are at work …");
  const sent = performance.now();
  const query = new URLSearchParams({ program: model.program, seconds: PATIENCE });
  const answers = await both((number, signal) =>
    call(`${state.parties[number]}/v1/answers/${session}?${query}`, {
      method: "PUT",
      headers: { ...withToken(number), "Content-Type": "application/octet-stream" },
      body: shares[number],
      signal,
    }),
  );
  const heard = performance.now();
  const values = result(answers);
  const end = performance.now();
  const times = {
    prepare: input.seconds,
    split: state.asking.split,
    offline: Math.max(...answers.map((one) => one.offline_seconds)),
    online: Math.max(...answers.map((one) => one.seconds)),
    send: (heard - sent) / 1000,
    join: (end - heard) / 1000,
  };
  state.asking = null;
  showAnswer(values);
  showTimes({ ...times, total: times.prepare + times.split + times.send + times.join }, answers);
  say("Done. Only this browser has the answer.");
  bringIntoView("answer-card");
}

/** Add the answers, then do what the program leaves to the owner. */
function result(answers) {
  const { result: encoding, output_shape: shape, tail } = state.model;
  let values = join(...answers.map((one) => Uint8Array.from(atob(one.share), (c) => c.charCodeAt(0))), encoding, count(shape));
  if (encoding.code) return values;
  for (const { op, axis } of tail) values = op === "argmax" ? argmax(values, shape, axis) : softmax(values, shape, axis, op === "log softmax");
  return values;
}

async function run(work) {
  if (state.busy) return;
  setBusy(true);
  hideProblem();
  try {
    await work();
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal("page", error.message, "load the page again");
    if (error.code === "unknown-model") await changeModel(refusal);
    showProblem(refusal);
    const same = state.asking && AGAIN.has(error.code) && state.asking.tries < 2;
    if (!same) state.asking = null; // the next attempt is a session of its own, with fresh noise
  } finally {
    setBusy(false);
  }
}

/** The parties have another model now: load it, and prepare the picture as that one asks. */
async function changeModel(refusal) {
  try {
    await learnModel();
    state.input?.again();
    refusal.remedy = "the new one is loaded: try again";
  } catch (error) {
    refusal.remedy = error.message;
  }
}

function setBusy(busy) {
  state.busy = busy;
  $("ask").disabled = busy || !state.input;
  $("connect").disabled = busy;
  document.body.toggleAttribute("aria-busy", busy);
}

// -------------------------------------------------------------------------------------------------------------- showing

function showAnswer(values) {
  const { reveal, tail } = state.model;
  const picture = asPicture();
  if (picture) {
    const [channels, height, width] = picture;
    const [low, high] = extremes(values);
    paint($("answer-picture"), width, height, (i) => Array.from({ length: channels }, (_, c) => (255 * (values[c * width * height + i] - low)) / (high - low || 1)));
    $("headline").textContent = `${low.toPrecision(3)} to ${high.toPrecision(3)}`;
    return;
  }
  if (reveal !== "scores" || tail.some(({ op }) => op === "argmax")) {
    const places = Array.from(values);
    $("headline").textContent = name(places[0]);
    $("scores").replaceChildren(...(places.length > 1 ? places.map((place, i) => placeRow(i, name(place))) : []));
    return;
  }
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
  const [low, high] = extremes(values);
  const floor = tail.some(({ op }) => op === "softmax") ? 0 : low;
  const shown = values.length <= ROWS ? Array.from(values.keys()) : order.slice(0, ROWS);
  $("headline").textContent = values.length > 1 ? name(order[0]) : values[0].toPrecision(5);
  if (values.length > 1) $("scores").replaceChildren(...shown.map((i) => row(name(i), values[i].toFixed(3), (values[i] - floor) / (high - floor || 1), i === order[0])));
  $("scores").dataset.values = JSON.stringify(Array.from(values));
}

function clearAnswer() {
  $("headline").textContent = "–";
  delete $("scores").dataset.values;
  blank($("answer-picture"));
  $("scores").replaceChildren(...Array.from({ length: state.rows }, (_, i) => state.empty(i)));
  for (const cell of $("times").querySelectorAll("td")) cell.textContent = "–";
}

function row(label, value, part, best = false) {
  const fill = element("i", {});
  fill.style.transform = `scaleX(${Math.min(1, Math.max(0, part))})`;
  return element("li", best ? { class: "best" } : {}, element("span", { title: label }, label), element("span", { class: "bar", "aria-hidden": "true" }, fill), element("span", {}, value));
}

/** A place without a score: the program does not reveal one. */
function placeRow(rank, label) {
  return element("li", { class: rank ? "place" : "place best" }, element("span", {}, `${rank + 1}.`), element("span", { title: label }, label));
}

/** On a small screen what is new may be out of sight. */
function bringIntoView(id) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $(id).scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

function showNoise(shares) {
  shares.forEach((share, number) => {
    const canvas = $(`noise-${number}`);
    const seen = appearance(share, state.model.input, canvas.width * canvas.height);
    paint(canvas, canvas.width, canvas.height, (i) => [seen[i]]);
  });
}

function showTimes(times, answers) {
  for (const [what, seconds] of Object.entries(times)) $(`time-${what}`).textContent = duration(seconds);
  const { input, result: output } = state.model;
  $("bytes").textContent = `${bytes(2 * input.share_bytes)}, ${bytes(2 * output.share_bytes)}`;
  $("between").textContent = `${bytes(answers[0].sent + answers[1].sent)} in ${answers[0].rounds} rounds`;
}

function showProblem(error) {
  $("problem-message").textContent = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  $("problem-remedy").textContent = error.remedy ? `What to do: ${error.remedy}.` : "";
  $("retry").hidden = !state.input && error.code !== "network";
  $("problem").hidden = false;
  say("That did not work.");
  bringIntoView("problem");
}

function hideProblem() {
  $("problem").hidden = true;
}

const say = (text) => ($("status").textContent = text);
const count = (shape) => shape.reduce((a, b) => a * b, 1);
const name = (place) => state.model.labels?.[place] ?? `output ${place}`;
const extremes = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
const duration = (seconds) => (seconds < 1 ? `${(1000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`);

function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  const unit = Math.min(3, Math.floor(Math.log10(Math.max(1, size)) / 3));
  return `${Number((size / 1000 ** unit).toPrecision(3))} ${units[unit]}`;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function paint(canvas, width, height, colour) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [red, green = red, blue = red] = colour(i);
    image.data.set([red, green, blue, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function blank(canvas, colour = null) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (colour) Object.assign(context, { fillStyle: colour }).fillRect(0, 0, canvas.width, canvas.height);
}

// --------------------------------------------------------------------------------------------------------------- events

function listen() {
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(async () => {
      await connect($("token").value.trim());
      $("token").value = "";
      $("token").placeholder = "connected";
      $("token").required = false;
    });
  });
  $("file").addEventListener("change", () => $("file").files[0] && takeFile($("file").files[0], $("file").files[0].name));
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // or the browser leaves the page for the picture
      $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
      const file = kind === "drop" && event.dataTransfer?.files[0];
      if (file && state.model) takeFile(file, file.name);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = Array.from(event.clipboardData?.files ?? []).find((one) => one.type.startsWith("image/"));
    if (file && state.model) takeFile(file, "pasted picture");
  });
  for (const radio of document.querySelectorAll('input[name="source"]')) radio.addEventListener("change", () => choose(radio.value));
  $("clear").addEventListener("click", () => {
    hideProblem();
    forgetPicture();
    say("Choose a picture.");
  });
  $("ask").addEventListener("click", () => run(ask));
  $("retry").addEventListener("click", () => (state.input ? run(ask) : $("token-form").requestSubmit()));
  startDrawing();
  clearPad();
  learnPage().catch(showProblem);
}

listen();
