// What explore does, on top of map.js: the timestep moves the points, the level changes their colors

const MARKERS = ["circle", "square", "diamond"] // from 10 clusters on, colors repeat
const MOVE = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 500 // milliseconds
const level0 = data.levels[0]
const view = { state: data.start, level: data.level, own: data.own !== null, image: null, cluster: null }
let xs = [...data.states[view.state].x], ys = [...data.states[view.state].y] // where the points are drawn

const colorOf = k => data.colors[k % data.colors.length]
const markerOf = k => MARKERS[Math.floor(k / data.colors.length) % MARKERS.length]
const labelOf = i => {
  const { finest, up } = data.states[view.state]
  return view.own ? data.own[i] : up[view.level - level0][finest[i]]
}
const isShown = i => view.cluster === null || labelOf(i) === view.cluster
const nameOf = k => `Cluster ${k}`

function fillPoints() {
  const label = rows.map(labelOf), dot = rows.length > 2000 ? 5 : 8
  map.points.data = { x: xs, y: ys, color: label.map(colorOf), marker: label.map(markerOf), alpha: rows.map(i => isShown(i) ? 0.85 : 0.1), size: rows.map(i => isShown(i) ? dot : dot / 2) }
  map.points.selected.indices = view.image === null ? [] : [view.image]
  drawLinks()
}

function drawLinks() { // from the chosen image to its neighbors
  const near = view.image === null ? [] : data.states[view.state].near[view.image], i = view.image
  map.links.data = { x0: near.map(() => xs[i]), y0: near.map(() => ys[i]), x1: near.map(n => xs[n]), y1: near.map(n => ys[n]) }
}

const wanted = () => [...(view.image === null ? [] : [view.image]), ...rows.filter(i => i !== view.image && isShown(i))]
const frameOf = i => i === view.image ? PICKED : colorOf(labelOf(i))
const drawThumbs = () => drawImages(fitting(wanted(), xs, ys), xs, ys, frameOf)

function move() { // to the positions of the state; the images on the map come back when the points have arrived
  const from = [xs, ys], to = [data.states[view.state].x, data.states[view.state].y], begun = performance.now()
  const mine = move.last = {}
  function step(now) {
    if (mine !== move.last) return // the slider went on
    const part = MOVE ? Math.min(1, Math.max(0, now - begun) / MOVE) : 1, ease = part * part * (3 - 2 * part)
    const between = (a, b) => a.map((v, i) => v + (b[i] - v) * ease)
    xs = between(from[0], to[0])
    ys = between(from[1], to[1])
    fillPoints()
    if (part < 1) requestAnimationFrame(step)
    else drawThumbs()
  }
  drawImages([], xs, ys, frameOf)
  step(begun)
}

function drawDetail() {
  const i = view.image
  if (i === null) return $("detail").replaceChildren(make("p", {}, "Click a picture or a point to see it here, with its nearest neighbors."))
  const { label, near } = data.states[view.state]
  const to = n => make("button", { title: data.name[n], "aria-label": `${data.name[n]}, ${nameOf(labelOf(n))}`, onclick: () => choose(n) }, picture(n, 34))
  $("detail").replaceChildren(picture(i, 80),
    make("div", { class: "text" }, ...[data.name[i], nameOf(labelOf(i)), `Nearest at ${label}:`].map(text => make("div", {}, text))),
    make("div", { class: "near" }, ...near[i].map(to)))
}

function drawClusters() { // each with the images in the middle of its points
  const members = new Map()
  for (const i of rows) {
    const k = labelOf(i)
    if (members.has(k)) members.get(k).push(i)
    else members.set(k, [i])
  }
  const { x, y } = data.states[view.state], mean = (all, v) => all.reduce((sum, i) => sum + v[i], 0) / all.length
  const buttons = [...members].sort((a, b) => a[0] - b[0]).map(([k, all]) => {
    const cx = mean(all, x), cy = mean(all, y), away = i => (x[i] - cx) ** 2 + (y[i] - cy) ** 2
    const middle = [...all].sort((a, b) => away(a) - away(b)).slice(0, 3), dot = make("span", { class: `dot ${markerOf(k)}` })
    dot.style.background = colorOf(k)
    const here = view.image !== null && labelOf(view.image) === k
    return make("button", { "data-cluster": k, "aria-pressed": k === view.cluster, class: here ? "here" : "", onclick: () => only(k) },
      dot, make("span", { class: "name" }, nameOf(k)), ...middle.map(i => picture(i, 24)), make("span", { class: "size" }, all.length.toLocaleString("en")))
  })
  $("clusters").replaceChildren(...buttons)
}

function drawAll() {
  $("time-value").textContent = data.states[view.state].label
  $("level-value").textContent = view.own ? new Set(data.own).size : view.level
  $("level").disabled = view.own
  drawDetail()
  drawClusters()
  fillPoints()
}

function choose(i) {
  view.image = i === view.image ? null : i
  if (!isShown(view.image ?? i)) view.cluster = null
  drawAll()
  drawThumbs()
}

function only(k) {
  view.cluster = k === view.cluster ? null : k
  drawAll()
  drawThumbs()
}

function picked() { // what was clicked on the map
  const [frame] = map.frames.selected.indices, [point] = map.points.selected.indices, i = map.frames.data.row[frame] ?? point
  map.frames.selected.indices = []
  if (i !== undefined && (frame !== undefined || point !== view.image)) choose(i)
  else if (point === undefined && view.image !== null) choose(view.image)
}

function tip(i) {
  $("tip").hidden = i === undefined
  if (i !== undefined) $("tip").replaceChildren(picture(i, 96), make("div", {}, data.name[i]), make("div", {}, nameOf(labelOf(i))))
}

function setUp(id, low, high, value, changed) {
  Object.assign($(id), { min: low, max: high, value })
  $(id).addEventListener("input", changed)
}

async function start() {
  await unpack()
  await embedMap()
  map.links = Bokeh.documents[0].get_model_by_name("links")
  setUp("time", 0, data.states.length - 1, view.state, e => { view.state = Number(e.target.value); drawAll(); move() })
  setUp("level", level0, data.levels.at(-1), view.level, e => { view.level = Number(e.target.value); view.cluster = null; drawAll(); drawThumbs() })
  $("own").checked = view.own
  $("own").addEventListener("change", e => { view.own = e.target.checked; view.cluster = null; drawAll(); drawThumbs() })
  $("time-label").hidden = data.states.length === 1
  $("own-label").hidden = data.own === null
  followMap({ moved: drawThumbs, picked, hovered: tip })
  drawAll()
  drawThumbs()
}

async function unpack() { // BokehJS, which is compressed; the page's policy knows its hash
  const bytes = Uint8Array.from(atob($("bokeh").textContent), c => c.charCodeAt(0))
  const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text()
  document.head.append(make("script", {}, text))
}

start()
