// What the pages with a map of images have in common. Names come from anywhere: they are set as text, never as markup.
"use strict"
const $ = id => document.getElementById(id)
const data = JSON.parse($("data").textContent)
const rows = data.name.map((_, i) => i)

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value)
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value)
  }
  element.append(...children)
  return element
}

const counted = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`

// --- Thumbnails: sheets of many images, decoded when the first of them is shown

const PICKED = "#e6007e"
const urls = [], sheets = [], crops = new Map()

function sheetUrl(s) {
  if (!urls[s]) {
    const bytes = Uint8Array.from(atob($(`sheet-${s}`).textContent), c => c.charCodeAt(0))
    urls[s] = URL.createObjectURL(new Blob([bytes], { type: "image/webp" }))
  }
  return urls[s]
}

function placeOf(i) {
  const { per, columns, cell } = data.sheet, n = data.place[i] % per
  return { sheet: Math.floor(data.place[i] / per), x: n % columns * cell, y: Math.floor(n / columns) * cell }
}

function picture(i, size) {
  const at = placeOf(i), scale = size / data.sheet.side, element = make("span", { class: "picture" })
  Object.assign(element.style, {
    width: `${size}px`, height: `${size}px`, backgroundImage: `url(${sheetUrl(at.sheet)})`,
    backgroundSize: `${data.sheet.columns * data.sheet.cell * scale}px auto`,
    backgroundPosition: `${-at.x * scale}px ${-at.y * scale}px`,
    imageRendering: data.sheet.side < 32 ? "pixelated" : "auto",
  })
  return element
}

async function crop(i, color) { // a framed thumbnail as a URL, for the map
  const key = `${i} ${color}`
  if (crops.has(key)) return crops.get(key)
  const at = placeOf(i), canvas = make("canvas", { width: 48, height: 48 }), pen = canvas.getContext("2d")
  sheets[at.sheet] ??= (async () => {
    const sheet = new Image()
    sheet.src = sheetUrl(at.sheet)
    await sheet.decode()
    return sheet
  })()
  pen.fillStyle = color
  pen.fillRect(0, 0, 48, 48)
  pen.imageSmoothingEnabled = data.sheet.side >= 32
  pen.drawImage(await sheets[at.sheet], at.x, at.y, data.sheet.side, data.sheet.side, 3, 3, 42, 42)
  crops.set(key, canvas.toDataURL())
  return crops.get(key)
}

// --- The map, by Bokeh

let map = null

async function embedMap() {
  await Bokeh.embed.embed_item(JSON.parse($("figure").textContent), "map")
  const document_ = Bokeh.documents[0], get = name => document_.get_model_by_name(name)
  map = { plot: get("plot"), points: get("points"), thumbs: get("thumbs"), frames: get("frames") }
}

function followMap({ moved, picked, hovered }) { // what is called when the view changes, after a click, and under the pointer
  let timer, picking
  const later = () => { clearTimeout(timer); timer = setTimeout(moved, 120) }
  for (const range of [map.plot.x_range, map.plot.y_range]) for (const end of ["start", "end"]) range.properties[end].change.connect(later)
  for (const side of ["inner_width", "inner_height"]) map.plot.properties[side].change.connect(later)
  const soon = () => { clearTimeout(picking); picking = setTimeout(picked, 0) } // a click may change both sources
  for (const source of [map.points, map.frames]) source.selected.properties.indices.change.connect(soon)
  const under = () => hovered(map.frames.data.row[map.frames.inspected.indices[0]] ?? map.points.inspected.indices[0])
  for (const source of [map.points, map.frames]) source.inspect.connect(under)
  $("map").addEventListener("pointermove", e => { Object.assign($("tip").style, { left: `${Math.max(0, Math.min(e.clientX + 14, innerWidth - 270))}px`, top: `${e.clientY + 14}px` }) })
  $("map").addEventListener("pointerleave", () => hovered())
}

function fitting(order, xs, ys) { // as many of the images as fit beside each other, the first ones first
  const { x_range, y_range, inner_width, inner_height } = map.plot, side = 46, cells = new Map(), chosen = []
  const across = inner_width / (x_range.end - x_range.start), up = inner_height / (y_range.end - y_range.start)
  for (const i of order) {
    const x = (xs[i] - x_range.start) * across, y = (ys[i] - y_range.start) * up
    if (x < 0 || y < 0 || x > inner_width || y > inner_height) continue
    const cx = Math.floor(x / side), cy = Math.floor(y / side)
    const near = [-1, 0, 1].flatMap(a => [-1, 0, 1].map(b => cells.get(`${cx + a} ${cy + b}`))).filter(Boolean)
    if (near.some(p => Math.abs(p.x - x) < side && Math.abs(p.y - y) < side)) continue
    cells.set(`${cx} ${cy}`, { x, y })
    chosen.push(i)
  }
  return chosen
}

let turn = 0

async function drawImages(chosen, xs, ys, color) { // on the map, each in a frame of its color
  const now = ++turn, url = await Promise.all(chosen.map(i => crop(i, color(i))))
  if (now !== turn) return
  const at = { x: chosen.map(i => xs[i]), y: chosen.map(i => ys[i]) }
  map.thumbs.data = { ...at, url }
  map.frames.data = { ...at, row: chosen }
}
