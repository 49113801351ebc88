/* A crystal on a canvas that turns.

   mountCrystal(canvas, data, view) draws `data` on a canvas and lets it turn: drag, touch (one
   finger turns sideways and leaves scrolling to the page, two pinch and turn), the wheel once the
   canvas has the focus, arrow keys, "+" and "-", and "0" to begin again. It gives
   { draw(), unmount() }. Canvases with the same `view` (crystalView()) turn together, in one scale.

   data = {
     cell: [[x, y, z], …],        three cell vectors (Å)
     elements: ["Na", "Cl"],      each element once
     colors: ["#ab5cf2", …],      of each element
     radii: [1.66, …],            covalent radius of each element (Å)
     kinds: [0, 1, …],            for each site its place in `elements`
     positions: [x, y, z, …],     fractional coordinates of the sites, one after the other
     images: [site, x, y, z, …],  further copies to draw: a site, and whole cells to move it by
     exchanged: [1, …],           sites to be marked with a ring
   }
   Lines and letters have the colour of the canvas (CSS `color`), the distance fades into its
   `background-color`. The viewer asks for nothing and stores nothing. */
"use strict";

/* How a crystal is looked at: a rotation (rows are the axes of the screen), a magnification. */
function crystalView() {
  const view = { viewers: new Set(), reach: 0 };
  view.reset = () => {
    view.rotation = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    view.zoom = 1;
    view.turn(-0.42, "z");
    view.turn(-1.31, "x");
  };
  /* Turn by an angle (rad) about an axis of the screen: x to the right, y up, z to the reader. */
  view.turn = (angle, axis) => {
    const c = Math.cos(angle), s = Math.sin(angle);
    const [one, other] = { x: [1, 2], y: [2, 0], z: [0, 1] }[axis];
    const [p, q] = [view.rotation[one], view.rotation[other]];
    view.rotation[one] = p.map((value, at) => c * value - s * q[at]);
    view.rotation[other] = p.map((value, at) => s * value + c * q[at]);
  };
  view.magnify = (factor) => { view.zoom = Math.min(8, Math.max(0.4, view.zoom * factor)); };
  view.draw = () => { for (const viewer of view.viewers) viewer.draw(); };
  let waiting = false;
  view.changed = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; view.draw(); });
  };
  view.reset();
  return view;
}

/* The atoms with their copies, the bonds and the edges, about the middle of the cell (Å). */
function crystalShapes(data) {
  const [a, b, c] = data.cell;
  const place = (x, y, z) =>
    [0, 1, 2].map((at) => (x - 0.5) * a[at] + (y - 0.5) * b[at] + (z - 0.5) * c[at]);
  const marked = new Set(data.exchanged);
  const atoms = [];
  const add = (site, x, y, z) => {
    const p = data.positions, kind = data.kinds[site];
    const at = place(p[3 * site] + x, p[3 * site + 1] + y, p[3 * site + 2] + z);
    atoms.push({ at, kind, radius: 0.5 * data.radii[kind], marked: marked.has(site) });
  };
  data.kinds.forEach((_, site) => add(site, 0, 0, 0));
  for (let at = 0; at < data.images.length; at += 4) add(...data.images.slice(at, at + 4));
  /* Bonds: not longer than the covalent radii tell, nor than the shortest of one of the two. */
  const pairs = [], nearest = atoms.map(() => Infinity);
  atoms.forEach((one, first) => {
    for (let second = first + 1; second < atoms.length; second++) {
      const other = atoms[second];
      const most = 1.15 * (data.radii[one.kind] + data.radii[other.kind]);
      if (Math.abs(one.at[0] - other.at[0]) > most) continue;
      const length = Math.hypot(...one.at.map((value, axis) => value - other.at[axis]));
      if (length > most || length < 0.2) continue;
      pairs.push([first, second, length]);
      for (const at of [first, second]) nearest[at] = Math.min(nearest[at], length);
    }
  });
  const bonds = pairs.flatMap(([first, second, length]) => {
    if (length > 1.13 * Math.max(nearest[first], nearest[second])) return [];
    const [one, other] = [atoms[first], atoms[second]];
    const to = one.at.map((value, axis) => (value + other.at[axis]) / 2);
    return [one, other].map((atom) => ({ from: atom.at, to, kind: atom.kind }));
  });
  /* In pieces, so that each is before or behind an atom. */
  const edges = [], n = 10;
  for (const axis of [0, 1, 2]) for (const y of [0, 1]) for (const z of [0, 1]) {
    for (let piece = 0; piece < n; piece++) {
      const ends = [piece / n, (piece + 1) / n].map((x) => {
        const fractions = [x, y, z];
        return place(...[0, 1, 2].map((at) => fractions[(at - axis + 3) % 3]));
      });
      edges.push({ from: ends[0], to: ends[1] });
    }
  }
  const names = ["a", "b", "c"].map((text, axis) => {
    const fractions = [0, 0, 0];
    fractions[axis] = 1;
    const end = place(...fractions), start = place(0, 0, 0);
    const length = Math.hypot(...end.map((value, at) => value - start[at]));
    return { text, at: end.map((value, at) => value + 0.6 * (value - start[at]) / length) };
  });
  const reach = Math.max(...edges.map((one) => Math.hypot(...one.from)),
    ...atoms.map((atom) => Math.hypot(...atom.at) + atom.radius));
  return { atoms, bonds, edges, names, reach: reach + 0.4 };
}

function crystalMix(color, other, share) {
  return color.map((value, at) => Math.round(value + share * (other[at] - value)));
}

/* A colour of CSS as numbers; `otherwise` if nothing is to be seen of it. */
function crystalColor(text, otherwise) {
  if (text.startsWith("#")) {
    return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  }
  const values = (text.match(/[\d.]+/g) || []).map(Number);
  return values.length < 3 || values[3] === 0 ? otherwise : values.slice(0, 3);
}

function mountCrystal(canvas, data, view = crystalView()) {
  const shapes = crystalShapes(data);
  const colors = data.colors.map((color) => crystalColor(color));
  const context = canvas.getContext("2d");
  const paint = (rgb) => `rgb(${rgb.join(",")})`;

  function draw() {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    const dots = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    const style = getComputedStyle(canvas);
    const ink = crystalColor(style.color, [0, 0, 0]);
    const paper = crystalColor(style.backgroundColor, ink[0] > 127 ? [20, 20, 20] : [255, 255, 255]);
    const scale = view.zoom * dots * Math.min(width, height) / 1.95 / view.reach;
    const [right, up, near] = view.rotation;
    const dot = (row, at) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2];
    const x = (at) => canvas.width / 2 + scale * dot(right, at);
    const y = (at) => canvas.height / 2 - scale * dot(up, at);
    /* What is far fades: 0 for the nearest, in eight steps. */
    const fade = (z) => Math.round(8 * Math.min(1, Math.max(0, 0.5 - z / view.reach / 2))) / 8 * 0.6;

    function line(from, to, wide, rgb) {
      context.strokeStyle = paint(rgb);
      context.lineWidth = wide;
      context.beginPath();
      context.moveTo(x(from), y(from));
      context.lineTo(x(to), y(to));
      context.stroke();
    }
    const gradients = new Map();
    function ball(kind, far) {
      const key = `${kind} ${far}`;
      if (!gradients.has(key)) {
        const gradient = context.createRadialGradient(-0.35, -0.35, 0.05, -0.1, -0.1, 1.1);
        const stops = [[0, [255, 255, 255], 0.65], [0.35, [255, 255, 255], 0.12], [1, [0, 0, 0], 0.45]];
        for (const [at, light, share] of stops) {
          gradient.addColorStop(at, paint(crystalMix(crystalMix(colors[kind], light, share), paper, far)));
        }
        gradients.set(key, gradient);
      }
      return gradients.get(key);
    }
    function atom(one, far) {
      context.setTransform(scale * one.radius, 0, 0, scale * one.radius, x(one.at), y(one.at));
      context.fillStyle = ball(one.kind, far);
      context.beginPath();
      context.arc(0, 0, 1, 0, 2 * Math.PI);
      context.fill();
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.strokeStyle = paint(crystalMix(crystalMix(colors[one.kind], [0, 0, 0], 0.6), paper, far));
      context.lineWidth = 0.8 * dots;
      context.stroke();
      if (!one.marked) return;
      /* Of the colour of the text within one of the background: seen on every element. */
      for (const [wide, rgb] of [[4, paper], [1.5, crystalMix(ink, paper, far)]]) {
        context.strokeStyle = paint(rgb);
        context.lineWidth = wide * dots;
        context.beginPath();
        context.arc(x(one.at), y(one.at), scale * one.radius + 2.2 * dots, 0, 2 * Math.PI);
        context.stroke();
      }
    }
    const middle = (one) => one.from.map((value, at) => (value + one.to[at]) / 2);
    const items = [
      ...shapes.atoms.map((one) => [dot(near, one.at), (far) => atom(one, far)]),
      ...shapes.bonds.map((one) => [dot(near, middle(one)), (far) => {
        const wide = Math.max(2 * dots, 0.2 * scale);
        line(one.from, one.to, wide, crystalMix(crystalMix(colors[one.kind], [0, 0, 0], 0.55), paper, far));
        line(one.from, one.to, 0.7 * wide, crystalMix(colors[one.kind], paper, far));
      }]),
      ...shapes.edges.map((one) => [dot(near, middle(one)), (far) =>
        line(one.from, one.to, 1.2 * dots, crystalMix(ink, paper, 0.25 + far))]),
    ];
    items.sort(([one], [other]) => one - other);
    context.lineCap = "round";
    for (const [z, show] of items) show(fade(z));
    context.font = `italic ${12 * dots}px serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = paint(crystalMix(ink, paper, 0.2));
    for (const one of shapes.names) context.fillText(one.text, x(one.at), y(one.at));
  }

  const ended = new AbortController();
  const on = (target, name, act, more) =>
    target.addEventListener(name, act, { signal: ended.signal, ...more });
  const fingers = new Map();
  on(canvas, "pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  const apart = () => {
    const [one, other] = [...fingers.values()];
    return Math.hypot(one[0] - other[0], one[1] - other[1]);
  };
  on(canvas, "pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const distance = fingers.size === 2 ? apart() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (distance) view.magnify(apart() / distance);
    view.turn((event.clientX - before[0]) / 90 / fingers.size, "y");
    view.turn((event.clientY - before[1]) / 90 / fingers.size, "x");
    view.changed();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    on(canvas, name, (event) => fingers.delete(event.pointerId));
  }
  on(canvas, "wheel", (event) => {
    /* Without the focus the wheel scrolls the page; a pinch on a touchpad has "ctrlKey". */
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    view.magnify(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 500)));
    view.changed();
  }, { passive: false });
  const keys = {
    ArrowLeft: () => view.turn(-0.15, "y"), ArrowRight: () => view.turn(0.15, "y"),
    ArrowUp: () => view.turn(-0.15, "x"), ArrowDown: () => view.turn(0.15, "x"),
    "+": () => view.magnify(1.2), "=": () => view.magnify(1.2), "-": () => view.magnify(1 / 1.2),
    0: view.reset, Home: view.reset,
  };
  on(canvas, "keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
    view.changed();
  });
  on(canvas, "dblclick", () => { view.reset(); view.changed(); });
  on(window.matchMedia("(prefers-color-scheme: dark)"), "change", view.changed);
  const resized = new ResizeObserver(view.changed);

  canvas.tabIndex = 0;
  canvas.style.touchAction = "pan-y";
  canvas.style.cursor = "grab";
  if (!canvas.hasAttribute("role")) canvas.setAttribute("role", "img");
  if (!canvas.hasAttribute("aria-label")) {
    canvas.setAttribute("aria-label", `crystal of ${data.elements.join(", ")}; the arrow keys turn it`);
  }
  const viewer = {
    draw,
    unmount() {
      ended.abort();
      resized.disconnect();
      view.viewers.delete(viewer);
      canvas.width = canvas.height = 0; /* gives its memory back */
    },
  };
  view.viewers.add(viewer);
  view.reach = Math.max(view.reach, shapes.reach);
  view.draw();
  resized.observe(canvas);
  return viewer;
}
