// The page of a study: its pictures (beat.js), what they say of the heart, who labelled it, and a second person's decision about that.
// Whatever the server sends is set as text or as the value of an attribute, never as markup.
import { beat, goTo, play, showBeat, showStills } from "./beat.js";
import { ask, begin, drawn, element, list, phases, place, table } from "./shared.js";

const NAME = "prato-reviewer";
const study = new URLSearchParams(location.search).get("image") ?? "";
const query = `image=${encodeURIComponent(study)}`;

const when = (text) => new Date(text).toLocaleString();

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
  else if (!state.labelled.length) notes.push("The label is empty.");
  else if (state.label.version === null) notes.push("The contours are a model's proposal: nobody has submitted a label.");
  if (state.review && state.review.state !== "open") {
    notes.push(`${state.review.annotator} has ${state.review.state} this study: ${state.review.reason}`);
  }
  notes.push(...(state.label?.warnings ?? []), ...(state.function?.warnings ?? []));
  if (state.no_function && state.labelled.length && state.phases > 1) notes.push(state.no_function);
  place("notes").replaceChildren(...[...new Set(notes)].map((note) => element("p", note, { class: "note" })));
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
        rows.push([`${side.toUpperCase()} per m² (body surface ${found.bsa_m2.toFixed(2)} m²)`, per("edv_ml"), per("esv_ml"), per("sv_ml"), "", side === "lv" ? per("lv_mass_g") : ""]);
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
    const drawer = is.state === "proposed" && !is.reason ? `a model (${is.editor})` : is.editor; // what was sent back is a labeller's
    const row = [is.state, drawer, is.version, is.approved_by ?? "", is.reason ?? ""];
    const key = JSON.stringify(row);
    if (!rows.has(key)) rows.set(key, { numbers: [], row });
    rows.get(key).numbers.push(Number(phase));
  }
  const shown = [...rows.values()].map(({ numbers, row }) => [list(numbers), ...row]);
  const none = state.label ? "A model's proposal, which nobody has corrected." : "There is no label yet.";
  place("states").replaceChildren(table(["phases", "state", "drawn by", "version", "approved by", "sent back because"], shown, none));
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
  const buttons = [...place("review").querySelectorAll("button")];
  for (const button of buttons) button.disabled = true; // until the page shows what was decided: the next click is about that
  await send(event.submitter?.value ?? "approve");
  for (const button of buttons) button.disabled = false;
}

async function send(decision) {
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
    const decided = `${decision === "approve" ? "Approved" : "Sent back"}: ${phases(chosen)}.`;
    place("answer").textContent = [decided, ...(decision === "approve" ? said.warnings : [])].join(" ");
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
