// The phases of a study: slices with contours, as pictures of two of them and as a film beside the volume-time curve.
import { drawn, element, phases, place } from "./shared.js";

// What is shown now.
export const beat = { state: null, pictures: null, frames: [], phase: 0, playing: false, since: 0, film: null, cursor: null };

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

export function showStills(state) {
  const source = { found: "found from the volumes", marked: "as marked", manifest: "according to the folder's manifest" }[state.ed_es_source];
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
  picture.append(drawn("title", {}, `Volumes in ml of ${phases(state.labelled)}`));
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
  figure.append(element("figcaption", "Volume over time; click to show a phase"), picture);
}

export function goTo(phase) {
  beat.phase = phase;
  beat.since = performance.now();
  beat.film.show(phase);
  const { state } = beat;
  place("phase").value = phase;
  const named = phase === state.ed ? ", end-diastole" : phase === state.es ? ", end-systole" : "";
  place("at").textContent = `phase ${phase} (0 to ${state.phases - 1})${state.times_ms ? `, ${Math.round(state.times_ms[phase])} ms` : ""}${named}`;
  if (beat.cursor) for (const end of ["x1", "x2"]) beat.cursor.setAttribute(end, beat.x(phase));
}

export function play(playing) {
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

export function showBeat(state) {
  place("beat").hidden = state.phases < 2;
  if (state.phases < 2) return;
  beat.film = montage();
  place("cine").replaceChildren(beat.film.box);
  place("phase").max = state.phases - 1;
  showCurve(state);
  goTo(Math.min(beat.phase, state.phases - 1));
}
