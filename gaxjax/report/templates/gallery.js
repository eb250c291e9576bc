// The gallery: all rows are sorted and filtered as numbers, and one page of them is in the document.
(() => {
  const columns = report.columns, total = columns.run.length, PAGE = 50;
  const gain = columns.later.map((p, i) => (p === null || columns.before[i] === null ? null : p - columns.before[i]));
  const names = report.images.map((name) => name.toLowerCase());
  const classes = report.classes.map((name) => name.toLowerCase());
  const text = (list, places) => (i) => (places[i] === null ? "" : list[places[i]]);
  const number = (places, digits) => (i) => (places[i] === null ? "–" : places[i].toFixed(digits));
  const anyGax = report.runs.some((run) => run.gax), anyMethod = report.methods.length > 1;

  const all = [
    { name: "Run", of: columns.run, show: (i) => report.runs[columns.run[i]].name, words: report.runs.map((r) => r.name), when: report.runs.length > 1 },
    { name: "Image", of: columns.image, show: text(report.images, columns.image), words: report.images, when: true },
    { name: "Class", of: columns.label, show: text(report.classes, columns.label), words: report.classes, when: true },
    { name: "Prediction", of: columns.prediction, show: text(report.classes, columns.prediction), words: report.classes, when: true },
    { name: "Method", of: columns.method, show: text(report.methods, columns.method), words: report.methods, when: anyMethod },
    { name: "Outcome", of: columns.outcome, show: text(report.outcomes, columns.outcome), words: report.outcomes, when: true },
    { name: "Updates", of: columns.steps, show: number(columns.steps, 0), when: anyGax },
    { name: "Score", of: columns.score, show: number(columns.score, 2), when: true },
    { name: "p before", of: columns.before, show: number(columns.before, 3), when: true },
    { name: "p after", of: columns.later, show: number(columns.later, 3), when: true },
    { name: "Gain", of: gain, show: number(gain, 3), when: true },
  ].filter((column) => column.when);
  for (const column of all) {
    if (!column.words) continue;
    // Words sort by their place in the alphabet, worked out once.
    const order = column.words.map((_, i) => i).sort((a, b) => column.words[a].localeCompare(column.words[b], undefined, { numeric: true }));
    const rank = new Array(order.length);
    order.forEach((word, place) => { rank[word] = place; });
    column.of = column.of.map((place) => (place === null ? null : rank[place]));
  }

  const get = (id) => document.getElementById(id);
  const body = get("gallery-body"), head = get("gallery-head");
  let shown = [], page = 0, sorted = null, direction = 1;

  // Controls
  function choices(id, list, wanted) {
    const select = get(id);
    select.closest("label").hidden = !wanted;
    select.append(element("option", { value: "" }, "all"));
    const order = list.map((_, i) => i).sort((a, b) => list[a].localeCompare(list[b], undefined, { numeric: true }));
    for (const i of order) select.append(element("option", { value: String(i) }, list[i]));
  }
  const labels = new Set(columns.label);
  choices("filter-run", report.runs.map((run) => run.name), report.runs.length > 1);
  choices("filter-method", report.methods, anyMethod);
  choices("filter-label", report.classes, report.classes.length > 1);
  for (const option of [...get("filter-label").options]) {
    if (option.value !== "" && !labels.has(Number(option.value))) option.remove();
  }
  choices("filter-outcome", report.outcomes, report.outcomes.length > 1);
  get("filter-steps-low").closest("fieldset").hidden = !anyGax;
  get("filter-pictures").closest("label").hidden = !Object.keys(report.pictures.rows).length;

  head.append(element("th", { className: "plain", scope: "col", role: "columnheader" }, "Pictures"));
  for (const column of all) {
    const button = element("button", { type: "button" }, column.name);
    const cell = element("th", { scope: "col", role: "columnheader", className: column.words ? "" : "number" }, button);
    button.addEventListener("click", () => {
      direction = sorted === column ? -direction : column.words ? 1 : -1;
      sorted = column;
      for (const other of head.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      update();
    });
    head.append(cell);
  }

  function filtered() {
    const words = get("filter-text").value.trim().toLowerCase();
    const equal = [["filter-run", columns.run], ["filter-method", columns.method], ["filter-label", columns.label],
      ["filter-outcome", columns.outcome], ["filter-correct", columns.correct]]
      .filter(([id]) => get(id).value !== "").map(([id, of]) => [Number(get(id).value), of]);
    const ranges = [["score", columns.score], ["gain", gain], ["steps", columns.steps]].flatMap(([name, of]) => [
      [get(`filter-${name}-low`).value, (value, limit) => value >= limit, of],
      [get(`filter-${name}-high`).value, (value, limit) => value <= limit, of],
    ]).filter(([value]) => value !== "").map(([value, holds, of]) => [Number(value), holds, of]);
    const only = get("filter-pictures").checked;
    const found = [];
    for (let i = 0; i < total; i++) {
      if (!equal.every(([value, of]) => of[i] === value)) continue;
      if (!ranges.every(([limit, holds, of]) => of[i] !== null && holds(of[i], limit))) continue;
      if (only && !pictured(i)) continue;
      if (words && !names[columns.image[i]].includes(words) && !(columns.label[i] !== null && classes[columns.label[i]].includes(words))) continue;
      found.push(i);
    }
    return found;
  }

  const pictured = (i) => i in report.pictures.rows;

  function update(first = 0) {
    shown = filtered();
    if (!sorted) {
      shown.sort((a, b) => pictured(b) - pictured(a) || a - b);
    } else {
      const of = sorted.of;
      // What is undefined comes last either way.
      shown.sort((a, b) => (of[a] === null) - (of[b] === null) || direction * (of[a] - of[b]) || a - b);
    }
    turn(first);
  }

  const painters = new WeakMap();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      painters.get(entry.target)();
    }
  }, { rootMargin: "300px" });

  function trio(i) {
    const picture = report.pictures.rows[i];
    const image = picture.image && report.pictures.images[picture.image];
    const heatmap = report.pictures.heatmaps[picture.heatmap];
    const one = image ? element("canvas") : bare(), two = element("canvas"), three = image ? element("canvas") : bare();
    const button = element("button", { type: "button", className: "trio", "aria-label": `Show ${report.images[columns.image[i]]} larger` }, one, two, three);
    painters.set(button, () => {
      paintHeatmap(two, heatmap, null);
      if (image) {
        paintImage(one, image);
        paintAugmented(three, image, heatmap, picture.operation, report.runs[columns.run[i]].scale);
      }
    });
    seen.observe(button);
    button.addEventListener("click", () => detail(i));
    return button;
  }

  function opener(i, name) {
    // Long paths break after their separators.
    const parts = name.split(/(?<=[/_.-])/).flatMap((part) => [part, document.createElement("wbr")]);
    const button = element("button", { type: "button", className: "link" }, ...parts);
    button.addEventListener("click", () => detail(i));
    return button;
  }

  function turn(to) {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    page = Math.min(Math.max(0, to), pages - 1);
    seen.disconnect();
    const rows = shown.slice(page * PAGE, (page + 1) * PAGE).map((i) => {
      const has = pictured(i);
      const row = element("tr", { role: "row" },
        element("td", { role: "cell", className: has ? "pictures" : "pictures empty" }, ...(has ? [trio(i)] : [])));
      for (const column of all) {
        const shown = column.name === "Image" ? opener(i, column.show(i)) : column.show(i);
        row.append(element("td", { role: "cell", className: column.name === "Image" ? "path" : column.words ? "word" : "number", "data-name": column.name }, shown));
      }
      return row;
    });
    body.replaceChildren(...rows);
    const backwards = ["score", "gain", "steps"].some((name) => {
      const [low, high] = ["low", "high"].map((end) => get(`filter-${name}-${end}`).value);
      return low !== "" && high !== "" && Number(low) > Number(high);
    });
    const any = !get("filter-pictures").closest("label").hidden && shown.some(pictured);
    const bare = any && !shown.slice(page * PAGE, (page + 1) * PAGE).some(pictured) ? ", none on this page with a picture" : "";
    const from = shown.length ? page * PAGE + 1 : 0, until = Math.min(shown.length, (page + 1) * PAGE);
    get("gallery-count").textContent = shown.length
      ? `${from.toLocaleString("en")}–${until.toLocaleString("en")} of ${shown.length.toLocaleString("en")} rows${bare}`
      : `No row fits these filters${backwards ? ": a range begins above its end" : ""}.`;
    get("page-now").textContent = `page ${page + 1} of ${pages}`;
    get("page-first").disabled = get("page-previous").disabled = page === 0;
    get("page-next").disabled = get("page-last").disabled = page === pages - 1;
  }

  // One row, larger
  const dialog = get("detail");
  let open = 0;
  function detail(i) {
    open = shown.indexOf(i);
    const picture = report.pictures.rows[i], run = report.runs[columns.run[i]];
    const name = report.images[columns.image[i]];
    get("detail-title").textContent = name;
    get("detail-none").hidden = Boolean(picture);
    get("detail-why").textContent = columns.drawn[i] ? "This page holds no picture of it; --num-pictures says of how many." : "It has no stored heatmap.";
    get("detail-view").textContent = run.gax && columns.drawn[i] ? `gaxjax view ${quoted(run.path)} ${quoted(name)}` : "";
    get("detail-panels").replaceChildren(...(picture ? heatmapPanels(picture.image && report.pictures.images[picture.image],
      report.pictures.heatmaps[picture.heatmap], picture.operation, run.scale) : []));
    const facts = all.filter((column) => column.name !== "Image").map((column) => [column.name, column.show(i)]);
    facts.splice(facts.length - 1, 0, ["Prediction after", text(report.classes, columns.after)(i)]);
    get("detail-facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    get("detail-curve").replaceChildren(...(picture?.curve ? [courseOf(picture.curve, run.target, columns.steps[i])] : []));
    if (!dialog.open) dialog.showModal();
  }
  dialog.addEventListener("keydown", (event) => {
    const to = open + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0);
    if (to !== open && to >= 0 && to < shown.length) detail(shown[to]);
  });
  const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
  get("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // Cards: always on a phone, else where wanted.
  const narrow = matchMedia("(max-width: 1240px)");
  const lay = () => get("gallery-table").classList.toggle("cards", narrow.matches || get("gallery-cards").checked);
  narrow.addEventListener("change", lay);
  get("gallery-cards").addEventListener("change", lay);
  lay();

  let waiting = 0;
  get("filters").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 80);
  });
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("filters").addEventListener("reset", () => setTimeout(update));
  get("page-first").addEventListener("click", () => turn(0));
  get("page-previous").addEventListener("click", () => turn(page - 1));
  get("page-next").addEventListener("click", () => turn(page + 1));
  get("page-last").addEventListener("click", () => turn(Infinity));
  update();
})();
