// The viewer: a heatmap step by step, for the images of which snapshots were kept.
(() => {
  const images = report.evolutions;
  if (!images.length) return;
  const get = (id) => document.getElementById(id);
  const chosen = get("viewer-image"), slider = get("viewer-step"), play = get("viewer-play");
  images.forEach((image, i) => {
    const run = report.runs.length > 1 ? `${report.runs[image.run].name}: ` : "";
    chosen.append(element("option", { value: String(i) }, `${image.label}, ${image.stored} updates (${run}${image.name})`));
  });

  function show() {
    const image = images[Number(chosen.value)], run = report.runs[image.run];
    const at = image.steps[Number(slider.value)];
    const said = `step ${at.step}, score ${at.score === null ? "undefined" : at.score.toFixed(2)}`;
    slider.setAttribute("aria-valuetext", said);
    const kept = image.taken > image.steps.length ? `; ${image.steps.length} of ${image.taken} snapshots shown` : "";
    const stored = at.step === image.stored ? ", the stored heatmap" : "";
    get("viewer-now").textContent = `${said}${stored}; groundtruth: ${image.label}${kept}`;
    get("viewer-panels").replaceChildren(...heatmapPanels(image.image, at.heatmap, image.operation, run.scale, at.change,
      image.steps[Number(slider.value) - 1]?.step));
    get("viewer-curve").replaceChildren(courseOf(image.curve, run.target, at.step));
    get("viewer-top").replaceChildren(...at.top.map(([name, probability]) => element("li", {},
      element("span", { className: name === image.label ? "right" : "" }, name),
      element("span", { className: "value" }, probability === null ? "–" : probability.toFixed(3)),
      element("meter", { min: 0, max: 1, value: probability ?? 0, "aria-label": name }))));
  }

  function choose() {
    slider.max = String(images[Number(chosen.value)].steps.length - 1);
    slider.value = String(images[Number(chosen.value)].steps.findIndex(({ step }) => step === images[Number(chosen.value)].stored));
    for (const step of images[Number(chosen.value)].steps) {
      pixelsOf(step.heatmap.strip); // decoded ahead, so that sliding does not flicker
      if (step.change) pixelsOf(step.change.strip);
    }
    show();
  }

  let running = 0;
  function stop() {
    clearInterval(running);
    running = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  play.addEventListener("click", () => {
    if (running) { stop(); return; }
    if (slider.value === slider.max) slider.value = "0";
    show();
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    running = setInterval(() => {
      if (slider.value === slider.max) { stop(); return; }
      slider.value = String(Number(slider.value) + 1);
      show();
    }, 700);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  chosen.addEventListener("change", () => { stop(); choose(); });
  choose();
})();
