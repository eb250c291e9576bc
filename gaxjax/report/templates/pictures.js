// Paints images and heatmaps onto canvases. A heatmap arrives as a grey strip: its three channels
// one under the other, 128 for zero and 255 for `scale`.
const report = await (async () => {
  document.getElementById("no-data").hidden = "DecompressionStream" in window;
  const packed = Uint8Array.from(atob(document.getElementById("report-data").textContent), (c) => c.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).json();
})();
const palette = new Uint8Array(report.colors.match(/../g).map((pair) => parseInt(pair, 16)));

const decoded = new Map();

// Pixels of a data URI as ImageData; the last few hundred are kept.
function pixelsOf(uri) {
  if (!decoded.has(uri)) {
    if (decoded.size > 400) decoded.delete(decoded.keys().next().value);
    decoded.set(uri, (async () => {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, canvas.width, canvas.height);
    })());
  }
  return decoded.get(uri);
}

function place(canvas, width, height, fill) {
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("tiny", width < 64);
  const context = canvas.getContext("2d");
  const target = context.createImageData(width, height);
  fill(target.data);
  for (let i = 3; i < target.data.length; i += 4) target.data[i] = 255;
  context.putImageData(target, 0, 0);
}

// channel: 0, 1, 2, or null for their mean; `channels` is how many the strip has.
async function paintHeatmap(canvas, heatmap, channel, channels = 3) {
  const strip = await pixelsOf(heatmap.strip);
  const width = strip.width, height = strip.height / channels, count = width * height;
  place(canvas, width, height, (out) => {
    for (let i = 0; i < count; i++) {
      const value = channel === null
        ? Math.round((strip.data[4 * i] + strip.data[4 * (i + count)] + strip.data[4 * (i + 2 * count)]) / 3)
        : strip.data[4 * (i + channel * count)];
      const color = 3 * Math.min(254, Math.max(0, value - 1));
      for (let c = 0; c < 3; c++) out[4 * i + c] = palette[color + c];
    }
  });
}

async function paintImage(canvas, uri) {
  const source = await pixelsOf(uri);
  place(canvas, source.width, source.height, (out) => out.set(source.data));
}

// The image with its heatmap, stretched to be shown, where the two meet: mean and std say how.
async function paintAugmented(canvas, uri, heatmap, operation, [mean, std]) {
  const image = await pixelsOf(uri), strip = await pixelsOf(heatmap.strip);
  const count = strip.width * strip.height / 3;
  const values = new Float32Array(3 * count);
  let low = Infinity, high = -Infinity;
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < count; i++) {
      const x = (image.data[4 * i + c] / 255 - mean[c]) / std[c];
      const h = (strip.data[4 * (i + c * count)] - 128) / 127 * heatmap.scale;
      const value = (operation === "sum" ? x + h : x * h) * std[c] + mean[c];
      values[3 * i + c] = value;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  const stretch = 255 / Math.max(high - low, 1e-6);
  place(canvas, strip.width, strip.height / 3, (out) => {
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < 3; c++) out[4 * i + c] = (values[3 * i + c] - low) * stretch;
    }
  });
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function bare() {
  return element("span", { className: "bare" }, "image not available");
}

// One captioned picture; `paint` draws onto its canvas, null stands for a missing image.
function panel(caption, paint) {
  const picture = paint ? element("canvas", { role: "img", "aria-label": caption }) : bare();
  if (paint) paint(picture);
  return element("figure", {}, picture, element("figcaption", {}, caption));
}

function heatmapPanels(image, heatmap, operation, scale, change, since) {
  const range = `colours ±${heatmap.scale}, abs max ${heatmap.max}`;
  const found = [
    panel("image", image && ((canvas) => paintImage(canvas, image))),
    ...["red", "green", "blue"].map((name, channel) => panel(
      channel ? `heatmap, ${name}` : `heatmap, ${name}; ${range}`,
      (canvas) => paintHeatmap(canvas, heatmap, channel))),
  ];
  if (change !== undefined) {
    found.push(change
      ? panel(`change since step ${since}, ±${change.scale}, abs max ${change.max}`, (canvas) => paintHeatmap(canvas, change, 0, 1))
      : element("figure", {}, element("span", { className: "bare" }, "first step shown"),
        element("figcaption", {}, "change")));
  }
  found.push(panel(`image with heatmap (${operation === "sum" ? "x + h" : "x · h"}, rescaled)`,
    image && ((canvas) => paintAugmented(canvas, image, heatmap, operation, scale))));
  return found;
}

// A score's curve as a small drawing; `marked` is the step shown now.
function courseOf(points, target, marked) {
  const space = "http://www.w3.org/2000/svg", width = 520, height = 230, left = 46, bottom = 34;
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "course");
  svg.setAttribute("role", "img");
  const known = points.filter(([, score]) => score !== null);
  const last = known.length ? known[known.length - 1] : [0, 0];
  svg.setAttribute("aria-label", `Score ${known.length ? known[0][1] : 0} at first, ${last[1]} after ${last[0]} updates`);
  const scores = known.map(([, score]) => score).concat(target === null ? [] : [target]);
  const low = Math.min(0, ...scores), high = Math.max(0, ...scores) * 1.08 || 1, end = last[0] || 1;
  const x = (step) => left + (width - left - 12) * step / end;
  const y = (score) => height - bottom - (height - bottom - 12) * (score - low) / (high - low || 1);
  const add = (tag, properties, text = "") => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
    made.textContent = text;
    svg.append(made);
  };
  add("line", { class: "axis", x1: left, x2: width - 12, y1: y(0), y2: y(0) });
  if (target !== null) {
    add("line", { class: "aim", x1: left, x2: width - 12, y1: y(target), y2: y(target) });
    add("text", { x: left - 6, y: y(target) + 4, "text-anchor": "end" }, String(target));
  }
  const peak = Math.max(0, ...scores.slice(0, known.length));
  if (target === null || Math.abs(y(peak) - y(target)) > 14) add("text", { x: left - 6, y: y(peak) + 4, "text-anchor": "end" }, peak.toFixed(1));
  add("text", { x: left - 6, y: y(0) + 4, "text-anchor": "end" }, "0");
  add("text", { x: width - 12, y: height - 12, "text-anchor": "end" }, `${end} updates`);
  add("text", { x: left, y: height - 12 }, "0");
  add("polyline", { class: "line", points: known.map(([step, score]) => `${x(step)},${y(score)}`).join(" ") });
  const dot = known.find(([step]) => step === marked);
  if (dot) add("circle", { class: "dot", cx: x(dot[0]), cy: y(dot[1]), r: 6 });
  return svg;
}
