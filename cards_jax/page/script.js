"use strict";
// Charts, heatmaps and pickers of one page. Without it everything but the large heatmaps is there all the same.
(() => {
  document.documentElement.classList.add("js");
  const held = (id) => JSON.parse(document.getElementById(id).textContent);
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  // --- what scrolls sideways takes the focus, for its keys; what does not is no stop on the way

  const scrolls = new ResizeObserver((entries) => {
    for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
  });
  document.querySelectorAll(".scroll, pre").forEach((box) => scrolls.observe(box));

  // --- one of several panels

  for (const box of document.querySelectorAll(".switch")) {
    const panels = [...box.children].filter((child) => "panel" in child.dataset);
    const pick = box.querySelector("select");
    const show = () => panels.forEach((panel) => { panel.hidden = panel.dataset.panel !== pick.value; });
    pick.addEventListener("change", show);
    show();
  }

  // --- charts: a slider over the epochs, whose text is what the lines have there

  const chart = (figure) => {
    const known = held(figure.id + "-data");
    const plot = figure.querySelector(".plot");
    const svg = plot.querySelector("svg");
    const cursor = svg.querySelector(".cursor");
    const readout = figure.querySelector(".readout");
    const last = known.x.length - 1;
    let at = last;
    const told = () => known.labels.map((label, i) => [label, known.texts[i][at]]).filter((pair) => pair[1] !== "");
    const move = (to, shown = true) => {
      at = clamp(to, 0, last);
      const text = known.at[at] + ": " + told().map(([label, value]) => label + " " + value).join("; ");
      plot.setAttribute("aria-valuenow", at);
      plot.setAttribute("aria-valuetext", text);
      if (!shown) return;
      cursor.setAttribute("x1", known.x[at]);
      cursor.setAttribute("x2", known.x[at]);
      cursor.setAttribute("visibility", "visible");
      const head = document.createElement("b");
      head.textContent = known.at[at];
      readout.replaceChildren(head, text.slice(known.at[at].length));
    };
    const attributes = {
      tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": last,
      "aria-labelledby": figure.id + "-name", "aria-orientation": "horizontal",
    };
    for (const [name, value] of Object.entries(attributes)) plot.setAttribute(name, value);
    move(last, false);
    const follow = (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      let nearest = 0;
      known.x.forEach((place, i) => { if (Math.abs(place - x) < Math.abs(known.x[nearest] - x)) nearest = i; });
      move(nearest);
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
      if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      move(clamp(at + steps[event.key], 0, last));
    });
  };

  // --- heatmaps

  const decoded = (text, bytes) => {
    const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    if (bytes === 1) return raw;
    const view = new DataView(raw.buffer);
    return Float64Array.from({ length: raw.length / 2 }, (_, i) => view.getUint16(2 * i, true));
  };

  const between = (stops, share) => {
    const place = clamp(share, 0, 1) * (stops.length - 1);
    const i = Math.min(Math.floor(place), stops.length - 2);
    return [1, 3, 5].map((c) => {
      const [a, b] = [stops[i], stops[i + 1]].map((s) => parseInt(s.slice(c, c + 2), 16));
      return Math.round(a + (b - a) * (place - i));
    });
  };

  const paint = (canvas, values, low, high, stops) => {
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(canvas.width, canvas.height);
    values.forEach((value, i) => image.data.set([...between(stops, (value - low) / (high - low)), 255], 4 * i));
    pen.putImageData(image, 0, 0);
  };

  const heat = (box) => {
    const known = held(box.id + "-data");
    const { H, W } = known;
    const size = H * W;
    const maps = known.maps.map((text) => decoded(text, known.bytes));
    const part = (name) => document.getElementById(box.id + "-" + name);
    const [card, one, norm, show] = ["card", "one", "eps", "show"].map(part);
    const area = box.querySelector(".map");
    const canvas = area.querySelector("canvas");
    const marker = area.querySelector(".cell");
    const readout = box.querySelector(".readout");
    const base = known.groups.find((group) => group.dense);
    let cell = [Math.floor(H / 2), Math.floor(W / 2)];
    let shown = [];

    // The chosen cards' errors at a cell, as fractions.
    const errors = (members, i) => members.map((m) => maps[m][+norm.value * size + i] / known.steps);
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    const group = () => known.groups[+card.value];
    const chosen = () => (+one.value ? [group().members[+one.value - 1]] : group().members);
    const difference = () => base && show.value === "1" && !group().dense;
    const signed = (x) => (x < 0 ? "\u2212" : "+") + Math.abs(x).toFixed(2);
    const minus = (n) => String(n).replace("-", "\u2212");

    const tell = () => {
      const [i, j] = cell;
      const values = errors(chosen(), i * W + j);
      const now = mean(values);
      const parts = ["error " + (100 * now).toFixed(2) + "%"];
      if (values.length > 1) parts[0] += " (" + (100 * Math.min(...values)).toFixed(2) + " to " + (100 * Math.max(...values)).toFixed(2) + ")";
      else if (known.exact && known.single) parts[0] += " (" + Math.round(now * known.images) + " of " + known.images + " images)";
      if (base && !group().dense) parts.push(signed(100 * (now - mean(errors(base.members, i * W + j)))) + " points to dense");
      const head = document.createElement("b");
      head.textContent = "frequency " + minus(i - Math.floor(H / 2)) + ", " + minus(j - Math.floor(W / 2));
      readout.replaceChildren(head, ": " + parts.join("; "));
      const [w, h] = [100 / W, 100 / H];
      Object.assign(marker.style, { left: j * w + "%", top: i * h + "%", width: w + "%", height: h + "%" });
      marker.hidden = false;
    };

    const draw = () => {
      const dense = difference() ? base.members : null;
      shown = Array.from({ length: size }, (_, i) => mean(errors(chosen(), i)) - (dense ? mean(errors(dense, i)) : 0));
      // Means share one scale; a single card may go beyond it.
      const most = dense ? Math.max(0.01, ...shown.map(Math.abs)) : Math.max(known.most, ...shown);
      const [low, stops] = dense ? [-most, known.change] : [0, known.error];
      paint(canvas, shown, low, most, stops);
      const key = box.querySelector(".key canvas");
      paint(key, Array.from({ length: key.width }, (_, i) => low + (most - low) * i / (key.width - 1)), low, most, stops);
      const unit = dense ? (x) => signed(100 * x) + " points" : (x) => (100 * x).toFixed(1) + "%";
      box.querySelector(".low").textContent = unit(low);
      box.querySelector(".high").textContent = unit(most);
      const text = (select) => select.selectedOptions[0].textContent;
      area.setAttribute("aria-label", "Fourier heatmap, " + [card, one, norm, show].map(text).join(", "));
      tell();
    };

    const realizations = () => {
      if (!known.single) return;
      const names = ["mean", ...(group().names.length > 1 ? group().names : [])];
      one.replaceChildren(...names.map((name, i) => new Option(name, i)));
      one.parentElement.hidden = known.groups.every((g) => g.names.length < 2);
    };

    card.value = box.dataset.first;
    card.addEventListener("change", realizations);
    for (const select of [card, one, norm, show]) select.addEventListener("change", draw);
    const follow = (event) => {
      const place = canvas.getBoundingClientRect();
      cell = [
        clamp(Math.floor((event.clientY - place.top) / place.height * H), 0, H - 1),
        clamp(Math.floor((event.clientX - place.left) / place.width * W), 0, W - 1),
      ];
      tell();
    };
    area.addEventListener("pointermove", follow);
    area.addEventListener("pointerdown", follow);
    area.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-4, 0], PageDown: [4, 0] };
      const move = event.key === "Home" ? [Math.floor(H / 2) - cell[0], Math.floor(W / 2) - cell[1]] : moves[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      cell = [clamp(cell[0] + move[0], 0, H - 1), clamp(cell[1] + move[1], 0, W - 1)];
      tell();
    });
    realizations();
    draw();
  };

  document.querySelectorAll("figure.chart").forEach(chart);
  document.querySelectorAll(".heat").forEach(heat);
})();
