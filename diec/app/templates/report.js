// What the report does, on top of map.js

// --- What you changed: the cluster of each image and the names of clusters, kept in this browser

const store = `diec:${data.fingerprint}`
const selected = new Set()
const past = []
let state = { label: [...data.label], names: {} }
let members = new Map()

function load() {
  try {
    const saved = JSON.parse(localStorage.getItem(store))
    if (!saved) return
    for (const [i, k] of Object.entries(saved.moved)) state.label[i] = k
    state.names = saved.names
  } catch { /* a browser may refuse to store anything */ }
}

function save() {
  const moved = {}
  for (const i of rows) if (state.label[i] !== data.label[i]) moved[i] = state.label[i]
  try { localStorage.setItem(store, JSON.stringify({ moved, names: state.names })) } catch { /* as above */ }
}

function change(what, edit) {
  past.push({ label: [...state.label], names: { ...state.names } })
  edit(state)
  settle(what)
}

function settle(what) {
  save()
  drawAll()
  $("said").textContent = what
}

function undo() {
  if (!past.length) return
  state = past.pop()
  settle("Undone.")
}

function group() {
  members = new Map()
  for (const i of rows) {
    const k = state.label[i]
    if (members.has(k)) members.get(k).push(i)
    else members.set(k, [i])
  }
}

const clusters = () => [...members.keys()].sort((a, b) => a - b)
const nameOf = k => state.names[k] ?? `Cluster ${k}`
const isDefault = k => state.names[k] === undefined
const colorOf = k => k < data.colors.length ? data.colors[k] : `hsl(${(k * 137.5) % 360} 60% 50%)`

// The rules of `diec apply`, which makes folders of these names
const NAME = "A name has 1 to 60 characters, none of / \\ : * ? \" < > |, and does not begin with = + - @ or a dot."
const isName = text => text.length <= 60 && !/^[=+\-@.＝＋－＠]|[/\\:*?"<>|\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)
const sameName = (a, b) => a.toLowerCase() === b.toLowerCase()

function rename(k, text) {
  const name = text.trim()
  if (name === nameOf(k)) return
  if (name && !isName(name)) return complain(k, NAME)
  const other = clusters().find(o => o !== k && (sameName(name, nameOf(o)) || sameName(name, `cluster-${o}`)))
  if (other !== undefined) return complain(k, `Another cluster is called ${name}: merge the two instead.`)
  change(name ? `${nameOf(k)} is now called ${name}.` : `${nameOf(k)} has its number as name again.`, s => {
    if (name) s.names[k] = name
    else delete s.names[k]
  })
}

function complain(k, why) {
  $("said").textContent = why
  const input = $(`name-${k}`)
  input.setCustomValidity(why)
  input.reportValidity()
}

async function merge(k) {
  const into = await choose(`Merge ${nameOf(k)} into`, clusters().filter(o => o !== k), false)
  if (into === null) return
  change(`${nameOf(k)} is merged into ${nameOf(into)}.`, s => {
    for (const i of members.get(k)) s.label[i] = into
    delete s.names[k]
  })
}

async function moveSelected() {
  const moving = [...selected]
  const into = await choose(`Move ${counted(moving.length, "image")} to`, clusters(), true)
  if (into === null) return
  selected.clear()
  change(`${counted(moving.length, "image")} moved to ${nameOf(into)}.`, s => { for (const i of moving) s.label[i] = into })
}

function choose(title, among, mayBeNew) { // the number of a cluster, or null
  const next = Math.max(...data.label, ...state.label) + 1
  const entry = (k, ...content) => make("button", { value: k, "data-cluster": k }, ...content)
  const known = among.map(k => entry(k, picture(typical(k), 32), `${nameOf(k)} (${members.get(k).length.toLocaleString("en")})`))
  $("choice-title").textContent = title
  $("choices").replaceChildren(...known, ...(mayBeNew ? [entry(next, "A new cluster")] : []))
  const dialog = $("choice")
  dialog.returnValue = ""
  dialog.showModal()
  return new Promise(done => dialog.addEventListener("close", () => done(dialog.returnValue === "" ? null : Number(dialog.returnValue)), { once: true }))
}

// --- Images in lists

const link = (i, text) => data.link ? make("a", { href: data.link[i], target: "_blank", rel: "noopener" }, text) : make("span", {}, text)
// Confidence and distance are of the cluster that was found
const moved = i => state.label[i] !== data.label[i]
const facts = i => `${nameOf(state.label[i])}, ${moved(i) ? "moved by you" : `confidence ${data.confidence[i].toFixed(2)}`}`

function tile(i) {
  const name = data.name[i]
  const button = make("button", { "aria-pressed": selected.has(i), "aria-label": `${name}, ${facts(i)}`, title: `${name}\n${facts(i)}` }, picture(i, 64))
  return make("figure", { class: "tile", "data-row": i }, button, make("figcaption", { title: name }, link(i, name.split("/").pop())))
}

function shown(i) {
  const text = $("find").value.trim().toLowerCase()
  if (data.confidence[i] > Number($("sure").value) && $("sure").value !== "1") return false
  return !text || data.name[i].toLowerCase().includes(text) || nameOf(state.label[i]).toLowerCase().includes(text)
}

const typical = k => members.get(k).reduce((a, b) => data.distance[b] < data.distance[a] ? b : a)
const ORDERS = {
  "most typical first": i => data.distance[i],
  "least certain first": i => data.confidence[i],
  "most outlying first": i => -data.distance[i],
}
const STEP = 120 // tiles that are added at a time

// A cluster's element draws its tiles when it comes near the window
const views = new Map()
const observer = new IntersectionObserver(entries => {
  for (const e of entries) if (e.isIntersecting) views.get(Number(e.target.dataset.cluster))?.fill()
}, { rootMargin: "600px" })

function clusterView(k) {
  const view = { limit: STEP, order: "most typical first", dirty: true }
  const sorted = make("select", { "aria-label": `Order of the images of cluster ${k}`, onchange: e => { view.order = e.target.value; view.dirty = true; view.fill() } },
    ...Object.keys(ORDERS).map(o => make("option", {}, o)))
  const input = make("input", { type: "text", id: `name-${k}`, maxlength: 60, "aria-label": `Name of cluster ${k}`, onchange: e => rename(k, e.target.value), oninput: e => e.target.setCustomValidity("") })
  const title = make("span"), size = make("small"), dot = make("span", { class: "dot" }), tiles = make("div", { class: "tiles" })
  const more = make("button", { hidden: true, onclick: () => { view.limit += 5 * STEP; view.dirty = true; view.fill() } })
  const acts = make("div", { class: "acts" }, make("label", {}, "Name ", input),
    make("button", { class: "merge", onclick: () => merge(k) }, "Merge into…"),
    make("button", { class: "all", onclick: () => select(members.get(k).filter(shown), true) }, "Select all"), sorted)
  dot.style.background = colorOf(k)
  view.element = make("details", { class: "cluster", id: `cluster-${k}`, "data-cluster": k, open: true }, make("summary", {}, dot, title, " ", size), acts, tiles, more)

  view.update = () => {
    const all = members.get(k), found = all.filter(i => !moved(i)), mean = found.reduce((sum, i) => sum + data.confidence[i], 0) / found.length
    const about = [found.length ? `mean confidence ${mean.toFixed(2)}` : "", found.length < all.length ? `${(all.length - found.length).toLocaleString("en")} moved by you` : ""]
    view.rows = all.filter(shown)
    title.textContent = nameOf(k)
    size.textContent = `${isDefault(k) ? "" : `number ${k}, `}${[counted(all.length, "image"), ...about].filter(Boolean).join(", ")}${view.rows.length < all.length ? `, ${view.rows.length.toLocaleString("en")} shown` : ""}`
    if (document.activeElement !== input || input.validity.valid) input.value = nameOf(k)
    view.dirty = true
    view.element.hidden = !view.rows.length
    observer.unobserve(view.element) // so that it reports whether the element is near
    observer.observe(view.element)
  }
  view.fill = () => {
    if (!view.dirty) return
    view.dirty = false
    const value = ORDERS[view.order], part = [...view.rows].sort((a, b) => value(a) - value(b)).slice(0, view.limit)
    tiles.replaceChildren(...part.map(tile))
    more.hidden = part.length === view.rows.length
    more.textContent = `Show more (${(view.rows.length - part.length).toLocaleString("en")} left)`
  }
  return view
}

function drawClusters() {
  for (const [k, view] of views) if (!members.has(k)) { view.element.remove(); views.delete(k) }
  for (const k of clusters()) {
    if (!views.has(k)) {
      views.set(k, clusterView(k))
      $("clusters").append(views.get(k).element)
    }
    views.get(k).update()
  }
}

// --- Selection

let last = null

function select(some, on) {
  for (const i of some) if (on) selected.add(i); else selected.delete(i)
  showSelection()
}

function showSelection() {
  for (const e of document.querySelectorAll(".tile")) e.firstChild.setAttribute("aria-pressed", selected.has(Number(e.dataset.row)))
  const n = selected.size
  $("move").disabled = $("clear").disabled = !n
  $("move").textContent = n ? `Move ${n.toLocaleString("en")}…` : "Move…"
  $("undo").disabled = !past.length
  $("reset").disabled = !Object.keys(state.names).length && rows.every(i => state.label[i] === data.label[i])
  $("count").textContent = `${rows.filter(shown).length.toLocaleString("en")} of ${counted(rows.length, "image")} shown, ${n.toLocaleString("en")} selected.`
  if (!map) return
  map.points.selected.indices = [...selected]
  drawThumbs()
}

function detail(i) {
  last = i
  const go = make("a", { href: `#cluster-${state.label[i]}` }, nameOf(state.label[i]))
  $("detail").replaceChildren(picture(i, 112), make("div", {}, make("p", {}, link(i, data.name[i])), make("p", {}, go),
    make("p", {}, moved(i) ? "moved by you" : `confidence ${data.confidence[i].toFixed(2)}, distance to the center ${data.distance[i].toFixed(2)}`)))
}

document.addEventListener("click", e => {
  const button = e.target.closest(".tile button")
  if (!button) return
  const i = Number(button.parentElement.dataset.row), on = !selected.has(i)
  const list = [...button.closest(".tiles").querySelectorAll(".tile")].map(t => Number(t.dataset.row))
  const from = list.indexOf(last), to = list.indexOf(i)
  const range = e.shiftKey && from >= 0 ? list.slice(Math.min(from, to), Math.max(from, to) + 1) : [i]
  select(range, on)
  detail(i)
})

document.addEventListener("keydown", e => {
  const typing = e.target.matches("input[type=text], input[type=search]"), at = e.target.closest?.(".tile")
  if (e.key === "z" && (e.ctrlKey || e.metaKey) && !typing) { e.preventDefault(); undo() }
  if (e.key === "/" && !typing) { e.preventDefault(); $("find").focus() }
  if (e.key === "Escape" && !$("choice").open && !typing) select([...selected], false)
  if (at && (e.key === "ArrowRight" || e.key === "ArrowLeft")) {
    const next = e.key === "ArrowRight" ? at.nextElementSibling : at.previousElementSibling
    if (next) { e.preventDefault(); next.querySelector("button").focus() }
  }
})

// --- Findings and the tree

function drawFindings() {
  const box = $("findings"), open = [...box.children].map(e => e.open)
  box.replaceChildren(...data.findings.map((f, n) => {
    const content = make("div", { class: "tiles" })
    const fill = () => { if (!content.children.length) content.append(...f.sets.map(s => s.length > 1 ? make("div", { class: "set tiles" }, ...s.map(tile)) : tile(s[0]))) }
    const size = `${f.sets.length.toLocaleString("en")}${f.more ? ` of ${(f.sets.length + f.more).toLocaleString("en")}` : ""}`
    return make("details", { ontoggle: fill, open: open[n] ?? false }, make("summary", {}, f.what, " ", make("small", {}, f.sets.length ? size : "none")), make("p", {}, f.rule), content)
  }))
}

function drawTree() {
  if (!$("tree")) return
  const leaves = data.numbers.length
  const line = (k, text) => make("span", { class: "line" }, picture(typical(k), 32), make("span", {}, text))
  function node(n) { // element, number of images, a cluster that stands for it; null if nothing is left in it
    if (n < leaves) {
      const k = data.numbers[n], size = members.get(k)?.length
      if (!size) return null
      const go = make("a", { href: `#cluster-${k}` }, nameOf(k))
      return { k, size, count: 1, element: make("div", { class: "leaf" }, make("span", { class: "line" }, picture(typical(k), 32), go, counted(size, "image"))) }
    }
    const [a, b, height] = data.linkage[n - leaves], parts = [node(a), node(b)].filter(Boolean)
    if (parts.length < 2) return parts[0] ?? null
    parts.sort((p, q) => q.size - p.size)
    const size = parts[0].size + parts[1].size, count = parts[0].count + parts[1].count
    const text = `${counted(count, "cluster")}, ${counted(size, "image")}; they join at height ${height.toFixed(1)}`
    return { k: parts[0].k, size, count, element: make("details", { open: leaves <= 12 || n > 2 * leaves - 4 }, make("summary", {}, line(parts[0].k, text)), ...parts.map(p => p.element)) }
  }
  const root = node(2 * leaves - 2)
  if (root) $("tree").replaceChildren(root.element)
}

// --- The map

async function drawMap() {
  await embedMap()
  fillMap()
  followMap({ moved: drawThumbs, picked: pick, hovered: tip })
}

function pick() { // what was clicked or drawn around on the map
  const [frame] = map.frames.selected.indices, i = map.frames.data.row[frame]
  const now = new Set(map.points.selected.indices)
  if (i !== undefined) {
    map.frames.selected.indices = []
    select([i], !selected.has(i))
    detail(i)
  } else if (now.size !== selected.size || [...now].some(n => !selected.has(n))) {
    const added = [...now].find(n => !selected.has(n))
    selected.clear()
    select(now, true)
    if (added !== undefined) detail(added)
  }
}

function tip(i) {
  $("tip").hidden = i === undefined
  if (i === undefined || $("tip").dataset.row === `${i} ${state.label[i]}`) return
  $("tip").dataset.row = `${i} ${state.label[i]}`
  $("tip").replaceChildren(picture(i, 96), make("div", {}, data.name[i]), make("div", {}, facts(i)))
}

function fillMap() {
  if (!map) return
  const visible = rows.map(shown), dot = rows.length > 2000 ? 5 : 8
  map.points.data = { x: data.x, y: data.y, color: state.label.map(colorOf), alpha: visible.map(v => v ? 0.8 : 0.06), size: visible.map(v => v ? dot : dot / 2), marker: rows.map(() => "circle") }
  drawThumbs()
}

const drawThumbs = () => drawImages(fitting(byDistance.filter(shown), data.x, data.y), data.x, data.y, i => selected.has(i) ? PICKED : colorOf(state.label[i]))

const byDistance = [...rows].sort((a, b) => data.distance[a] - data.distance[b])

// --- Export

function csv(table) { // as `diec cluster` writes it: a file whose name may split a cell in some spreadsheets is quoted
  const quote = cell => `"${cell.replaceAll('"', '""')}"`
  const line = cells => cells.map(c => /[\r\t;]/.test(cells[0]) || /[",\r\n]/.test(c) ? quote(c) : c).join(",")
  return table.map(cells => line(cells.map(String)) + "\n").join("")
}

function labels() {
  const named = Object.keys(state.names).length > 0
  const name = k => named ? [state.names[k] ?? ""] : []
  return csv([["file", "cluster", "confidence", "distance", ...(named ? ["name"] : [])],
    ...rows.map(i => [data.cell[i], state.label[i], ...(moved(i) ? ["", ""] : [data.confidence[i].toFixed(4), data.distance[i].toFixed(4)]), ...name(state.label[i])])])
}

const filepaths = () => csv([["filepath", "label"], ...rows.map(i => [data.cell[i], state.names[state.label[i]] ?? `cluster-${state.label[i]}`])])

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }))
  make("a", { href: url, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(url), 10000)
  $("said").textContent = `${name} is in your downloads.`
}

// --- Everything together

function drawAll() {
  group()
  drawClusters()
  drawFindings()
  drawTree()
  fillMap()
  showSelection()
  if (last !== null) detail(last)
}

function filter() {
  $("sure-value").textContent = Number($("sure").value).toFixed(2)
  drawClusters()
  fillMap()
  showSelection()
}

let pause
for (const id of ["find", "sure"]) $(id).addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(filter, 100) })
$("move").addEventListener("click", moveSelected)
$("clear").addEventListener("click", () => select([...selected], false))
$("undo").addEventListener("click", undo)
$("reset").addEventListener("click", () => change("Everything is as the command left it; Undo brings your changes back.", s => { s.label = [...data.label]; s.names = {} }))
$("export").addEventListener("click", () => download("labels.csv", labels()))
$("fiftyone").addEventListener("click", () => download("fiftyone.csv", filepaths()))
load()
drawAll()
drawMap()
