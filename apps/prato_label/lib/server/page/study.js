// The page of a study: pictures of its phases with contours, its heartbeat as a film beside the volume-time curve, who labelled it, and a
// second person's decision about that. Whatever the server sends is set as text or as the value of an attribute, never as markup.
import { ask, begin, drawn, element, place, table } from "./shared.js";

const NAME = "prato-reviewer";
const study = new URLSearchParams(location.search).get("image") ?? "";
const query = `image=${encodeURIComponent(study)}`;
const beat = { state: null, pictures: null, frames: [], phase: 0, playing: false, since: 0, film: null, cursor: null };

const when = (text) => new Date(text).toLocaleString();

// Of 1, 3, 4, 5: "1, 3 to 5".
function list(numbers) {
  const runs = [];
  for (const number of numbers) {
    if (runs.length && runs.at(-1)[1] === number - 1) runs.at(-1)[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? first : last === first + 1 ? `${first}, ${last}` : `${first} to ${last}`)).join(", ");
}

const phases = (numbers) => `phase${numbers.length > 1 ? "s" : ""} ${list(numbers)}`;

// One phase: its slices side by side, and over them the contours as lines that stay sharp at any size.
function montage() {
  const { width, height, tiles, colours, parts } = beat.pictures;
  const canvas = element("canvas", undefined, { width, height });
  const lines = drawn("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const paths = {};
  const group = drawn("g", { class: "contours", transform: `scale(${1 / parts})` });
  for (const [name, colour] of Object.entries(colours)) group.append((paths[name] = drawn("path", { stroke: colour })));
  lines.append(group);
  for (const tile of tiles) lines.append(drawn("text", { x: tile.x + 6, y: tile.y + 24 }, String(tile.slice + 1)));
  const box = element("div", undefined, { class: "montage", role: "img" });
  box.append(canvas, lines);
  const show = (phase) => {
    canvas.getContext("2d").drawImage(beat.frames[phase], 0, 0);
    const found = beat.pictures.contours[phase] ?? {};
    for (const [name, path] of Object.entries(paths)) path.setAttribute("d", found[name] ?? "");
    box.setAttribute("aria-label", `Slices of phase ${phase}`);
  };
  return { box, show };
}

function still(title, phase) {
  const figure = element("figure");
  const { box, show } = montage();
  figure.append(element("figcaption", title), box);
  show(phase);
  return figure;
}

function showStills(state) {
  const source = { found: "found from the volumes", marked: "as marked", manifest: "as the folder's manifest says" }[state.ed_es_source];
  let chosen = [[state.phases > 1 ? `Phase ${state.labelled[0] ?? 0}` : "The volume", state.labelled[0] ?? 0]];
  if (state.ed !== null) {
    chosen = [
      [`End-diastole: phase ${state.ed}, ${source}`, state.ed],
      [`End-systole: phase ${state.es}, ${source}`, state.es],
    ];
  }
  place("stills").replaceChildren(...chosen.map(([title, phase]) => still(title, phase)));
}

// Volumes by phase: a dot for each labelled phase, joined where no phase lies between them.
function showCurve(state) {
  const figure = place("curve");
  figure.replaceChildren();
  beat.cursor = null;
  figure.hidden = !state.labelled.length;
  if (figure.hidden) return;
  const [width, height, left, right, top, bottom] = [520, 300, 46, 14, 26, 40];
  const highest = Math.max(...Object.values(state.volumes_ml).flat(), 1);
  const step = [5, 10, 20, 25, 50, 100, 200, 500, 1000].find((ml) => highest / ml <= 6) ?? highest;
  const top_ml = Math.ceil(highest / step) * step;
  const x = (phase) => left + (phase * (width - left - right)) / Math.max(1, state.phases - 1);
  const y = (ml) => height - bottom - (ml * (height - top - bottom)) / top_ml;
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  picture.append(drawn("title", {}, `Volumes by phase, ml, of ${phases(state.labelled)}`));
  for (let ml = 0; ml <= top_ml; ml += step) {
    picture.append(drawn("line", { class: "axis", x1: left, x2: width - right, y1: y(ml), y2: y(ml) }));
    picture.append(drawn("text", { x: left - 6, y: y(ml) + 4, "text-anchor": "end" }, String(ml)));
  }
  const every = Math.max(1, Math.ceil(state.phases / 10));
  for (let phase = 0; phase < state.phases; phase += every) {
    const at = state.times_ms ? String(Math.round(state.times_ms[phase])) : String(phase);
    picture.append(drawn("text", { x: x(phase), y: height - bottom + 16, "text-anchor": "middle" }, at));
  }
  const unit = state.times_ms ? "ms after the first phase" : "phase";
  picture.append(drawn("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, unit));
  picture.append(drawn("text", { x: 2, y: 14 }, "ml"));
  for (const [name, phase] of [["ED", state.ed], ["ES", state.es]]) {
    if (phase === null) continue;
    picture.append(drawn("line", { class: "mark", x1: x(phase), x2: x(phase), y1: top, y2: height - bottom }));
    picture.append(drawn("text", { x: x(phase), y: 14, "text-anchor": "middle" }, name));
  }
  for (const [name, volumes] of Object.entries(state.volumes_ml)) {
    const colour = beat.pictures.colours[name];
    const line = state.labelled.map((phase, n) => `${n && state.labelled[n - 1] === phase - 1 ? "L" : "M"}${x(phase)} ${y(volumes[n])}`);
    picture.append(drawn("path", { class: "volume", d: line.join(""), stroke: colour }));
    state.labelled.forEach((phase, n) => picture.append(drawn("circle", { cx: x(phase), cy: y(volumes[n]), r: 2.5, fill: colour })));
  }
  beat.cursor = drawn("line", { class: "cursor", y1: top, y2: height - bottom });
  picture.append(beat.cursor);
  picture.addEventListener("click", (event) => {
    const at = (event.offsetX / picture.clientWidth) * width;
    goTo(Math.min(state.phases - 1, Math.max(0, Math.round(((at - left) / (width - left - right)) * (state.phases - 1)))));
  });
  beat.x = x;
  figure.append(element("figcaption", "Volume by time; click to see a phase"), picture);
}

function goTo(phase) {
  beat.phase = phase;
  beat.since = performance.now();
  beat.film.show(phase);
  const { state } = beat;
  place("phase").value = phase;
  const named = phase === state.ed ? ", end-diastole" : phase === state.es ? ", end-systole" : "";
  place("at").textContent = `phase ${phase} of 0 to ${state.phases - 1}${state.times_ms ? `, ${Math.round(state.times_ms[phase])} ms` : ""}${named}`;
  if (beat.cursor) for (const end of ["x1", "x2"]) beat.cursor.setAttribute(end, beat.x(phase));
}

function play(playing) {
  beat.playing = playing;
  place("play").textContent = playing ? "Pause" : "Play";
  if (playing) requestAnimationFrame(tick);
}

// At the heart's own pace, or a beat a second where that is not known.
function tick(now) {
  if (!beat.playing) return;
  const { times_ms: times, phases: count } = beat.state;
  if (now - beat.since >= (times ? times[1] - times[0] : 1000 / count)) goTo((beat.phase + 1) % count);
  requestAnimationFrame(tick);
}

function showBeat(state) {
  place("beat").hidden = state.phases < 2;
  if (state.phases < 2) return;
  beat.film = montage();
  place("cine").replaceChildren(beat.film.box);
  place("phase").max = state.phases - 1;
  showCurve(state);
  goTo(Math.min(beat.phase, state.phases - 1));
}

function showLegend(state) {
  const legend = place("legend");
  legend.hidden = !state.labelled.length;
  const box = element("input", undefined, { type: "checkbox", id: "lines" });
  box.checked = !place("shown").classList.contains("bare");
  box.addEventListener("change", () => place("shown").classList.toggle("bare", !box.checked));
  const shown = element("label");
  shown.append(box, " contours");
  legend.replaceChildren(shown);
  for (const [name, colour] of Object.entries(beat.pictures.colours)) {
    const swatch = drawn("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" });
    swatch.append(drawn("circle", { cx: 6, cy: 6, r: 5, fill: colour }));
    const entry = element("span");
    entry.append(swatch, ` ${name}`);
    legend.append(entry);
  }
}

function showNotes(state) {
  const notes = [];
  if (!state.label) notes.push("This study has no label yet.");
  else if (state.fault) notes.push(`The label cannot be shown: ${state.fault}`);
  else if (!state.labelled.length) notes.push("The label holds no structure.");
  else if (state.label.version === null) notes.push("The contours are a model's proposal: nobody has submitted a label.");
  if (state.review && state.review.state !== "open") {
    notes.push(`${state.review.annotator} has ${state.review.state} this study: ${state.review.reason}`);
  }
  notes.push(...(state.label?.warnings ?? []), ...(state.function?.warnings ?? []));
  place("notes").replaceChildren(...notes.map((note) => element("p", note, { class: "note" })));
}

function showFunction(state) {
  const found = state.function;
  const volumes = Object.entries(state.volumes_ml);
  const single = state.phases === 1 && volumes.length > 0;
  place("function").hidden = !found && !single;
  const by = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
  if (found) {
    const rows = [["LV", found.lv], ["RV", found.rv]].map(([name, of]) => [
      name, by(of.edv_ml, 1), by(of.esv_ml, 1), by(of.sv_ml, 1), by(of.ef_percent, 1), name === "LV" ? by(found.lv_mass_g, 1) : "",
    ]);
    if (found.bsa_m2) {
      for (const side of ["lv", "rv"]) {
        const per = (name) => by(found.indexed[`${side}_${name}_per_m2`], 1);
        rows.push([`${side.toUpperCase()} per m² of ${found.bsa_m2.toFixed(2)} m²`, per("edv_ml"), per("esv_ml"), per("sv_ml"), "", side === "lv" ? per("lv_mass_g") : ""]);
      }
    }
    place("values").replaceChildren(table(["", "EDV, ml", "ESV, ml", "SV, ml", "EF, %", "mass, g"], rows));
  } else if (single) {
    place("values").replaceChildren(table(["structure", "volume, ml"], volumes.map(([name, [ml]]) => [name, ml.toFixed(1)])));
  }
}

// Phases in the same state, by the same people, are one row.
function showStates(state) {
  const rows = new Map();
  for (const [phase, is] of Object.entries(state.label?.phases ?? {})) {
    const row = [is.state, is.editor, is.version, is.approved_by ?? "", is.reason ?? ""];
    const key = JSON.stringify(row);
    if (!rows.has(key)) rows.set(key, { numbers: [], row });
    rows.get(key).numbers.push(Number(phase));
  }
  const shown = [...rows.values()].map(({ numbers, row }) => [list(numbers), ...row]);
  const none = state.label ? "A model's proposal, which nobody has corrected." : "There is none.";
  place("states").replaceChildren(table(["phases", "state", "drawn by", "version", "approved by", "sent back, as"], shown, none));
}

function showVersions(state) {
  const rows = state.versions.map((version) => {
    const told = [];
    if (version.drawn.length && state.phases > 1) told.push(`drew ${phases(version.drawn)}`);
    if (version.base_version) told.push(`made from version ${version.base_version}`);
    if (version.restored_from) told.push(`a copy of version ${version.restored_from}`);
    for (const review of version.reviews) {
      const of = state.phases > 1 ? ` ${phases(review.phases)}` : "";
      told.push(`${review.reviewer}: ${review.decision}${of}, ${when(review.reviewed)}${review.reason ? ` (${review.reason})` : ""}`);
    }
    for (const removal of version.removals) told.push(`removed by ${removal.annotator}, ${when(removal.removed)}`);
    const cell = element("ul");
    cell.append(...told.map((text) => element("li", text)));
    return [version.version, version.annotator, when(version.created), version.origin, cell];
  });
  rows.reverse();
  place("versions").replaceChildren(table(["version", "by", "when", "origin", ""], rows, "Nobody has submitted a label."));
}

function showReview(state) {
  const open = Object.entries(state.label?.phases ?? {}).filter(([, is]) => is.state === "corrected" || is.state === "final");
  place("reviewing").hidden = !open.length;
  const which = place("which");
  which.hidden = state.phases === 1;
  which.replaceChildren(element("legend", "Phases"));
  for (const [phase, is] of open) {
    const box = element("input", undefined, { type: "checkbox", name: "phases", value: phase });
    box.checked = is.state === "corrected" || open.length === 1;
    const label = element("label");
    label.append(box, ` ${phase} (${is.state})`);
    which.append(label);
  }
  place("reviewer").value ||= sessionStorage.getItem(NAME) ?? "";
}

async function decide(event) {
  event.preventDefault();
  const decision = event.submitter?.value ?? "approve";
  const chosen = [...place("which").querySelectorAll("input:checked")].map((box) => Number(box.value));
  const [annotator, reason] = [place("reviewer").value.trim(), place("reason").value.trim()];
  sessionStorage.setItem(NAME, annotator);
  if (!chosen.length) {
    place("answer").textContent = "Choose at least one phase.";
    return;
  }
  const body = new FormData();
  const sent = { annotator, phases: chosen, base_version: beat.state.label.version };
  body.append("params", JSON.stringify(decision === "send_back" ? { ...sent, reason } : sent));
  try {
    const said = await ask(`../datastore/label/${decision}?${query}`, { method: "POST", body });
    if (said === null) return;
    place("answer").textContent = `${decision === "approve" ? "Approved" : "Sent back"}: ${phases(chosen)}.`;
    place("reason").value = "";
    await look();
  } catch (error) {
    place("answer").textContent = error.message;
  }
}

async function look() {
  try {
    const state = await ask(`study/state?${query}`);
    if (state === null) return; // until a token is given
    if (beat.pictures?.view !== state.view) {
      const pictures = await ask(`study/pictures?${query}`);
      if (pictures === null) return;
      const frames = pictures.frames.map((source) => Object.assign(new Image(), { src: source }));
      await Promise.all(frames.map((frame) => frame.decode()));
      Object.assign(beat, { pictures, frames });
    }
    beat.state = state;
    for (const part of [showNotes, showLegend, showBeat, showStills, showFunction, showStates, showReview, showVersions]) part(state);
    const size = `${state.slices} slice${state.slices > 1 ? "s" : ""}, ${state.phases} phase${state.phases > 1 ? "s" : ""}`;
    const some = beat.pictures.tiles.length < state.slices ? `; ${beat.pictures.tiles.length} of the slices are shown` : "";
    place("said").textContent = `${size}${some}.`;
    place("shown").hidden = false;
  } catch (error) {
    place("said").textContent = error.message;
    place("shown").hidden = true;
  }
}

place("name").textContent = study;
document.title = `${study} – PrATo Label`;
place("play").addEventListener("click", () => play(!beat.playing));
place("phase").addEventListener("input", (event) => {
  play(false);
  goTo(Number(event.target.value));
});
place("review").addEventListener("submit", decide);
begin(look);
