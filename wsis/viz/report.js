"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { categories, colors, leftOut } = data.head;
  const images = data.images;
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  const PHOTO = "Photo";
  const state = { layer: PHOTO, opacity: {}, score: 0, cls: "", order: "", color: "instance", shown: [] };
  const SVG = "http://www.w3.org/2000/svg";

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") node.className = value;
      else if (key.startsWith("--")) node.style.setProperty(key, value);
      else if (key === "text") node.textContent = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const vector = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const nameOf = (c) => categories[c] ?? `class ${c}`;
  const colorOf = (one, index) => colors[(state.color === "class" ? one.c : index) % colors.length];
  const isOfClass = (one) => state.cls === "" || one.c === Number(state.cls);
  const isShown = (one) => one.s >= state.score && isOfClass(one);
  const percent = (v) => `${(100 * v).toFixed(v < 0.1 ? 1 : 0)}%`;

  const layerNames = [];
  const layerFacts = {};
  for (const image of images) {
    for (const layer of image.layers) {
      if (layer.name in layerFacts) continue;
      layerNames.push(layer.name);
      layerFacts[layer.name] = layer;
      state.opacity[layer.name] = layer.opacity;
    }
  }

  /* One picture: photo, layer, masks. */
  const drawObjects = (svg, list, isTruth) => {
    list.forEach((one, index) => {
      const group = vector("g", { "data-index": index });
      group.style.setProperty("--swatch", isTruth ? "#fff" : colorOf(one, index));
      group.append(vector("path", { d: one.d, class: "halo" }), vector("path", { d: one.d, class: "shape" }));
      const title = vector("title", {});
      title.textContent = isTruth ? `${nameOf(one.c)} (true)` : `${nameOf(one.c)} ${one.s.toFixed(2)}`;
      group.lastChild.append(title);
      svg.append(group);
    });
  };
  const makeStage = (image) => {
    const stage = make("div", { class: "stage" });
    stage.style.aspectRatio = `${image.w} / ${image.h}`;
    stage.style.setProperty("--ratio", image.w / image.h);
    const photo = make("img", { class: "photo", src: image.photo, alt: "", decoding: "async" });
    const layer = make("img", { class: "layer", alt: "", hidden: "" });
    const box = { viewBox: `0 0 ${image.w} ${image.h}`, "aria-hidden": "true" };
    const found = vector("svg", { ...box, class: "found" });
    const truth = vector("svg", { ...box, class: "true" });
    drawObjects(found, image.found, false);
    drawObjects(truth, image.truth, true);
    stage.append(photo, layer, truth, found);
    return { image, stage, layer, found, truth };
  };
  const refresh = (part, name = state.layer) => {
    const layer = part.image.layers.find((one) => one.name === name);
    part.layer.hidden = !layer;
    if (layer) {
      if (part.layer.dataset.name !== name) part.layer.src = layer.url;
      part.layer.dataset.name = name;
      part.layer.style.opacity = state.opacity[name];
    }
    part.image.truth.forEach((one, index) => {
      part.truth.children[index].style.display = isOfClass(one) ? "" : "none";
    });
    part.image.found.forEach((one, index) => {
      const group = part.found.children[index];
      group.style.display = isShown(one) ? "" : "none";
      group.style.setProperty("--swatch", colorOf(one, index));
    });
  };

  /* The grid: cards are filled when they come near the window. */
  const cards = images.map((image, index) => {
    const button = make("button", { type: "button", "aria-label": `Open ${image.id}` });
    const hold = make("div", { class: "stage" });
    hold.style.aspectRatio = `${image.w} / ${image.h}`;
    button.append(hold);
    const below = make("div", { class: "below" }, make("span", { class: "name", text: image.id, title: image.id }));
    const counts = new Map();
    for (const one of image.found) counts.set(one.c, (counts.get(one.c) ?? 0) + 1);
    for (const [c, n] of counts) {
      below.append(make("span", { class: "chip", "--swatch": colors[c % colors.length], text: n > 1 ? `${nameOf(c)} ×${n}` : nameOf(c) }));
    }
    if (!image.found.length) below.append(make("span", { class: "muted", text: "no objects" }));
    const node = make("article", { class: "card", "--ratio": Math.min(3, Math.max(0.4, image.w / image.h)) }, button, below);
    button.addEventListener("click", () => open(index));
    const card = { node, hold, image, part: null };
    node.addEventListener("wsis-near", () => {
      if (card.part) return;
      card.part = makeStage(image);
      hold.replaceWith(card.part.stage);
      refresh(card.part);
    });
    return card;
  });
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      entry.target.dispatchEvent(new Event("wsis-near"));
      watcher.unobserve(entry.target);
    }
  }, { rootMargin: "600px" });
  cards.forEach((card) => watcher.observe(card.node));

  const orders = {
    "": null,
    "most objects": (a, b) => b.found.length - a.found.length,
    "fewest objects": (a, b) => a.found.length - b.found.length,
    "lowest score": (a, b) => Math.min(...a.found.map((o) => o.s), 1) - Math.min(...b.found.map((o) => o.s), 1),
  };
  for (const key of new Set(images.flatMap((image) => Object.keys(image.figures)))) {
    const value = (image) => image.figures[key] ?? Infinity;
    orders[`${key}, lowest`] = (a, b) => value(a) - value(b);
    orders[`${key}, highest`] = (a, b) => (b.figures[key] ?? -Infinity) - (a.figures[key] ?? -Infinity);
  }
  const has = (image, c) => image.tags.includes(c) || [...image.found, ...image.truth].some((one) => one.c === c);
  const arrange = () => {
    const chosen = cards.filter((card) => state.cls === "" || has(card.image, Number(state.cls)));
    const order = orders[state.order];
    if (order) chosen.sort((a, b) => order(a.image, b.image));
    state.shown = chosen.map((card) => images.indexOf(card.image));
    at("grid").replaceChildren(...chosen.map((card) => card.node));
    const hint = leftOut ? `; ${leftOut.toLocaleString("en")} more were left out to bound the size of this file` : "";
    at("count").textContent = `${chosen.length} of ${images.length} pictures${hint}. Open one to see all its layers.`;
  };
  const repaint = () => {
    for (const card of cards) if (card.part) refresh(card.part);
    if (viewer.part) fillViewer(viewer.index);
  };

  /* The viewer. */
  const viewer = { part: null, index: 0 };
  const dialog = at("viewer");
  const fillList = (target, list, svg, isTruth) => {
    if (!list.length) return target.replaceChildren(make("li", { class: "none", text: "none" }));
    return target.replaceChildren(...list.map((one, index) => {
      const item = make("li", { tabindex: "0", "--swatch": isTruth ? "var(--muted)" : colorOf(one, index) },
        make("b", { text: nameOf(one.c) }), make("small", { text: percent(one.a), title: "share of the image" }));
      if (!isTruth) item.append(make("span", { text: one.s.toFixed(2), title: "score" }));
      item.classList.toggle("off", isTruth ? !isOfClass(one) : !isShown(one));
      const shape = svg.children[index].lastChild;
      const light = (on) => { shape.classList.toggle("lit", on); item.classList.toggle("lit", on); };
      for (const node of [item, shape]) {
        node.addEventListener("pointerenter", () => light(true));
        node.addEventListener("pointerleave", () => light(false));
      }
      item.addEventListener("focus", () => light(true));
      item.addEventListener("blur", () => light(false));
      return item;
    }));
  };
  const addFlags = (part) => {
    part.image.found.forEach((one, index) => {
      if (!isShown(one) || !one.d) return;
      const flag = make("span", { class: "flag", "--swatch": colorOf(one, index), text: `${nameOf(one.c)} ${one.s.toFixed(2)}` });
      const [x, y] = one.p;
      const place = `${(100 * x) / part.image.w}%`;
      flag.style.left = place;
      flag.style.setProperty("--back", place);
      flag.style.top = `${Math.min(95, (100 * y) / part.image.h)}%`;
      part.stage.append(flag);
    });
  };
  const fillViewer = (index) => {
    const image = images[index];
    viewer.index = index;
    viewer.part = makeStage(image);
    at("viewer-stage").replaceChildren(viewer.part.stage);
    refresh(viewer.part);
    addFlags(viewer.part);
    at("viewer-title").textContent = image.id;
    at("viewer-size").textContent = image.size;
    const tags = image.tags.length ? `Tags: ${image.tags.map(nameOf).join(", ")}. ` : "";
    at("viewer-note").textContent = tags + image.note;
    at("viewer-figures").replaceChildren(...Object.entries(image.figures).flatMap(([key, value]) =>
      [make("dt", { text: key }), make("dd", { text: value.toFixed(3) })]));
    fillList(at("viewer-list"), image.found, viewer.part.found, false);
    fillList(at("viewer-truth"), image.truth, viewer.part.truth, true);
    at("viewer-truth-box").hidden = !image.truth.length;
    at("strip").replaceChildren(...[PHOTO, ...layerNames].map((name) => {
      const small = makeStage(image);
      refresh(small, name);
      const button = make("button", { type: "button", role: "radio", "aria-checked": String(name === state.layer) },
        small.stage, make("span", { text: name }));
      button.addEventListener("click", () => chooseLayer(name));
      return button;
    }));
  };
  const open = (index) => {
    if (!dialog.open) dialog.showModal();
    fillViewer(index);
  };
  const step = (by) => {
    const place = state.shown.indexOf(viewer.index);
    fillViewer(state.shown[(place + by + state.shown.length) % state.shown.length]);
  };
  at("close").addEventListener("click", () => dialog.close());
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  dialog.addEventListener("close", () => { viewer.part = null; });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  /* The tools. */
  const chooseLayer = (name) => {
    state.layer = name;
    for (const button of at("layers").children) button.setAttribute("aria-checked", String(button.textContent === name));
    const facts = layerFacts[name];
    at("opacity-box").hidden = !facts;
    at("legend-heat").hidden = facts?.legend !== "heat";
    at("legend-wheel").hidden = facts?.legend !== "wheel";
    if (facts) {
      at("opacity").value = Math.round(100 * state.opacity[name]);
      at("opacity-text").textContent = `${at("opacity").value}%`;
    }
    repaint();
  };
  for (const name of [PHOTO, ...layerNames]) {
    const button = make("button", { type: "button", role: "radio", "aria-checked": "false", text: name });
    button.addEventListener("click", () => chooseLayer(name));
    at("layers").append(button);
  }
  at("opacity").addEventListener("input", (event) => {
    state.opacity[state.layer] = event.target.value / 100;
    at("opacity-text").textContent = `${event.target.value}%`;
    repaint();
  });
  at("score").addEventListener("input", (event) => {
    state.score = event.target.value / 100;
    at("score-text").textContent = state.score.toFixed(2);
    repaint();
  });
  at("layers").hidden = !layerNames.length;
  const occurring = categories.map((_, c) => c).filter((c) => images.some((image) => has(image, c)));
  at("class").append(...occurring.map((c) => make("option", { value: c, text: nameOf(c) })));
  at("class").addEventListener("change", (event) => { state.cls = event.target.value; arrange(); repaint(); });
  at("order").append(...Object.keys(orders).filter(Boolean).map((key) => make("option", { value: key, text: key })));
  at("order").addEventListener("change", (event) => { state.order = event.target.value; arrange(); });
  at("color").addEventListener("change", (event) => { state.color = event.target.value; repaint(); });
  at("truth-box").hidden = !images.some((image) => image.truth.length);
  const switches = { masks: "no-masks", truth: "no-truth", fill: "no-fill" };
  for (const [id, name] of Object.entries(switches)) {
    const twin = { masks: at("viewer-masks"), truth: at("viewer-true") }[id];
    const apply = () => {
      root.classList.toggle(name, !at(id).checked);
      twin?.setAttribute("aria-pressed", String(at(id).checked));
    };
    at(id).addEventListener("change", apply);
    apply();
  }
  const toggle = (id) => { at(id).checked = !at(id).checked; at(id).dispatchEvent(new Event("change")); };
  at("viewer-masks").addEventListener("click", () => toggle("masks"));
  at("viewer-true").addEventListener("click", () => toggle("truth"));
  at("viewer-true").hidden = at("truth-box").hidden;
  const switchTheme = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  };
  at("theme").addEventListener("click", switchTheme);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const slider = event.target.type === "range";
    const key = event.key.toLowerCase();
    if (dialog.open && key === "arrowleft" && !slider) step(-1);
    else if (dialog.open && key === "arrowright" && !slider) step(1);
    else if (key === "m") toggle("masks");
    else if (key === "t") toggle("truth");
    else if (key === "f") toggle("fill");
    else if (key === "d") switchTheme();
    else if (/^[1-9]$/.test(key) && Number(key) <= layerNames.length + 1) chooseLayer([PHOTO, ...layerNames][key - 1]);
  });

  /* Tables sort by the button in each head; the section in view is marked. */
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const up = head.getAttribute("aria-sort") === (numeric ? "descending" : "none");
      heads.forEach((one) => one.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (numeric && (x === "" || y === "")) return (x === "") - (y === "");
        return (up ? 1 : -1) * (numeric ? x - y : x.localeCompare(y));
      });
      table.tBodies[0].append(...rows);
    }));
  }
  const links = new Map([...document.querySelectorAll(".sections a")].map((a) => [a.hash.slice(1), a]));
  const spy = new IntersectionObserver((entries) => {
    for (const entry of entries) links.get(entry.target.id).classList.toggle("here", entry.isIntersecting);
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => spy.observe(section));

  arrange();
  chooseLayer(PHOTO);
  const asked = images.findIndex((image) => location.hash === `#picture=${encodeURIComponent(image.id)}`);
  if (asked >= 0) open(asked);
  else if (links.has(location.hash.slice(1))) at(location.hash.slice(1)).scrollIntoView({ behavior: "instant" });
})();
