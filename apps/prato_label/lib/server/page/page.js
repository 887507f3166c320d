// The status page: asks GET state every few seconds and draws what it says. Whatever the server sends is set as text, never as markup.
import { ask, begin, drawn, element, moment, place, table, time } from "./shared.js";

const EVERY_MS = 4000;
const JOBS = { train: "training", batch_infer: "batch inference" };
const LABELS = { final: "final", original: "proposal" };
const percent = (share) => `${Math.round(100 * share)} %`;
const duration = (ms) => (ms < 10000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);

// Dice by round: the first point is the model before any training, a full dot a round that was published.
function plot(name, history) {
  const [width, height, left, right, top, bottom] = [480, 170, 44, 12, 12, 26];
  const points = [{ dice: history[0].dice_before, published: true }];
  for (const round of history) points.push({ dice: round.dice_after, published: round.published });
  const values = points.map((point) => point.dice);
  const low = Math.max(0, Math.floor(20 * Math.min(...values) - 0.5) / 20);
  const high = Math.min(1, Math.ceil(20 * Math.max(...values) + 0.5) / 20);
  const x = (n) => left + (n * (width - left - right)) / Math.max(1, points.length - 1);
  const y = (dice) => height - bottom - ((dice - low) * (height - top - bottom)) / (high - low || 1);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  picture.append(drawn("title", {}, `Dice of ${name} by round of training: ${values.map((v) => v.toFixed(3)).join(", ")}`));
  for (const tick of [low, (low + high) / 2, high]) {
    picture.append(drawn("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    picture.append(drawn("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(3)));
  }
  picture.append(drawn("polyline", { class: "curve", points: points.map((p, n) => `${x(n)},${y(p.dice)}`).join(" ") }));
  points.forEach((point, n) => {
    picture.append(drawn("circle", { class: point.published ? "published" : "kept-old", cx: x(n), cy: y(point.dice), r: 4 }));
    picture.append(drawn("text", { x: x(n), y: height - 8, "text-anchor": "middle" }, n === 0 ? "start" : String(n)));
  });
  return picture;
}

function lastRound({ dice_before: before, dice_after: after, published }) {
  return `${before.toFixed(3)} to ${after.toFixed(3)}${published ? "" : ", not published"}`;
}

function showModels(models) {
  const rows = Object.entries(models).map(([name, model]) => [
    name,
    element("code", model.version ?? ""),
    model.history.length || "",
    model.history.length ? lastRound(model.history.at(-1)) : "",
  ]);
  place("models").replaceChildren(table(["model", "version", "rounds", "Dice in the last round"], rows, "There is no model file yet."));
  const drawnVersions = new Set(); // prato_auto is the default network under another name
  for (const [name, model] of Object.entries(models)) {
    if (!model.history.length || drawnVersions.has(model.version)) continue;
    drawnVersions.add(model.version);
    const figure = element("figure");
    figure.append(element("figcaption", `${name}: Dice on held-out patients by round of training (filled dots: published)`));
    figure.append(plot(name, model.history));
    place("models").append(figure);
  }
}

function showJobs(jobs) {
  const rows = jobs.map((job) => {
    let progress = "";
    if (job.steps) {
      progress = element("span");
      progress.append(element("progress", undefined, { max: job.steps, value: job.step }), ` ${job.step} of ${job.steps}`);
    }
    return [JOBS[job.kind] ?? job.kind, job.model, job.status.toLowerCase(), progress, job.begun ? moment(job.begun) : ""];
  });
  place("jobs").replaceChildren(table(["job", "model", "state", "step", "started"], rows, "No job has run since the server started."));
}

function showRequests(state) {
  const { length, waiting_allowed: allowed } = state.line;
  place("line").textContent = length ? `1 running, ${length - 1} waiting (at most ${allowed}).` : "The queue is empty.";
  const rows = state.requests.map((request) => {
    const stages = Object.values(request.kept_fraction);
    return [
      time(request.ended),
      request.image,
      request.model,
      request.status,
      duration(request.ms),
      request.box_source ?? "",
      stages.length ? percent(stages.at(-1)) : request.status === 200 ? "100 %" : "",
      element("code", request.request_id.slice(0, 12)),
    ];
  });
  const columns = ["ended", "study", "model", "status", "took", "box", "tokens kept", "request"];
  const shown = table(columns, rows, "No request since the server started.");
  if (rows.length) shown.className = "short";
  place("requests").replaceChildren(shown);
}

// Why there is no study, and what would be right.
function noStudies(pacs) {
  if (!pacs) return "The studies folder holds no NIfTI file (.nii.gz, .nii) yet: put images into it, or import DICOM. The server's log names files that it leaves out.";
  return pacs.fault ?? "The PACS has no short-axis MR cine that can be opened. The server's log names those that it leaves out.";
}

function showStudies({ studies, pacs }) {
  const more = studies.total - studies.listed.length;
  const count = `${studies.labelled} of ${studies.total} are labelled${more > 0 ? `; the first ${studies.listed.length} are shown` : ""}.`;
  place("count").textContent = studies.total ? count : "";
  const link = (id) => element("a", id, { href: `study?image=${encodeURIComponent(id)}` });
  const rows = studies.listed.map((study) => [link(study.id), study.phases, study.tags.map((tag) => LABELS[tag] ?? tag).join(", "), study.annotator]);
  place("studies").replaceChildren(table(["study", "phases", "labels", "annotator"], rows, noStudies(pacs)));
}

function show(state) {
  showModels(state.models);
  showJobs(state.jobs);
  showRequests(state);
  showStudies(state);
  const waiting = state.pacs?.waiting.length ?? 0;
  const pacs = state.pacs ? ` ${state.pacs.fault ?? ""} ${waiting ? `Labels waiting to be sent to the PACS: ${waiting}.` : "The PACS has all final labels."}` : "";
  place("said").textContent = `Version ${state.version}, as of ${time(state.now)}.${pacs}`;
  place("shown").hidden = false;
}

async function look() {
  try {
    const said = await ask("state");
    if (said === null) return; // until a token is given
    show(said);
  } catch (error) {
    place("said").textContent = `No answer from the server (${error.message}); trying again.`;
  }
  setTimeout(look, EVERY_MS);
}

begin(look);
