// Feeds and colours the two Bokeh plots. Nothing of it is sent back to the server.
import {flag, make, ms, put, rate} from "./text.js"

const KEPT_MS = 300000
const quiet = {sync: false}

export class Plot {
  constructor(name, title, lines, format, element) {
    this.name = name; this.lines = lines; this.format = format; this.points = []
    this.legend = lines.map(([label, tone]) => { const value = make("b", {class: "num"}); return {value, node: make("span", {"data-tone": tone}, make("i"), label, value)} })
    this.none = make("div", {class: "none"})
    this.note = make("span", {class: "note", "data-testid": `${name}-note`})
    this.node = make("section", {class: "panel", "aria-label": title, "data-testid": `plot-${name}`},
      make("div", {class: "head"}, make("h2", {}, title), this.note, make("div", {class: "legend"}, ...this.legend.map(one => one.node))), make("div", {class: "plot"}, this.none, element))
    this.empty("Waiting for data…")
  }

  empty(text) {
    const something = this.points.some(point => point[1] !== null || point[2] !== null)
    put(this.none, something ? "" : text)
    flag(this.node, "empty", !something)
  }

  model(suffix) {
    for (const document of window.Bokeh?.documents || []) {
      const found = document.get_model_by_name(suffix ? `${this.name}-${suffix}` : this.name)
      if (found) return found
    }
    return null
  }

  // Points are [milliseconds, first, second]; older ones than known are left out.
  add(points, replace) {
    const last = replace || !this.points.length ? -1 : this.points.at(-1)[0]
    this.points = (replace ? [] : this.points).concat(points.filter(point => point[0] > last))
    this.draw()
  }

  draw() {
    const source = this.model("source")
    if (!source || !this.points.length) return
    const end = this.points.at(-1)[0], kept = this.points = this.points.filter(point => point[0] > end - KEPT_MS)
    // Bokeh shows times in UTC; people read their own.
    const shift = -new Date(end).getTimezoneOffset() * 60000
    // An area knows no gaps: where nothing was measured it is empty, or it would slant across.
    const column = k => kept.map(point => point[k] === null ? NaN : point[k])
    source.setv({data: {t: kept.map(point => point[0] + shift), a: column(1), b: column(2), area: kept.map(point => point[1] ?? 0)}}, quiet)
    this.model("x").setv({start: end - KEPT_MS + shift, end: end + shift}, quiet)
    const most = kept.reduce((top, point) => Math.max(top, point[1] ?? 0, point[2] ?? 0), 0)
    const range = this.model("y")
    if (most * 1.12 > range.end || most < range.end * 0.5) range.setv({start: 0, end: Math.max(most * 1.18, 1)}, quiet)
    this.legend.forEach((one, k) => put(one.value, this.format(kept.at(-1)[k + 1])))
    this.empty("No requests in the last five minutes")
  }

  colour() {
    const plot = this.model("")
    if (!plot) return false
    const style = getComputedStyle(document.documentElement), token = name => style.getPropertyValue(`--${name}`).trim()
    for (const renderer of plot.renderers) {
      const colour = token(renderer.glyph.tags?.[0] || renderer.tags?.[0] || "accent")
      const area = renderer.glyph.type === "VArea"
      for (const glyph of [renderer.glyph, renderer.muted_glyph, renderer.nonselection_glyph]) glyph?.setv?.(area ? {fill_color: colour} : {line_color: colour}, quiet)
    }
    for (const axis of [...plot.below, ...plot.left]) axis.setv({major_label_text_color: token("muted"), major_label_text_font: token("font")}, quiet)
    for (const grid of plot.center) grid.setv?.({grid_line_color: token("line")}, quiet)
    return true
  }
}

export const eventsPlot = element => new Plot("events", "Throughput", [["events/s", "accent"], ["errors/s", "bad"]], rate, element)
export const latencyPlot = element => new Plot("latency", "Request latency", [["mean", "accent"], ["p95", "warn"]], ms, element)
