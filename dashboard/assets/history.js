// What only the warehouse knows: failures and spend. When it is silent the last answer stays, and that is said.
import {compact, count, make, moment, ms, put, usd} from "./text.js"

const COLUMNS = ["Time", "Agent", "What", "Error", "Message", "Run"]
const KINDS = {run: "run", step: "step", model_call: "model call", tool_call: "tool call"}

export class Failures {
  constructor() {
    this.note = make("span", {class: "note", "data-testid": "failures-note"})
    this.body = make("tbody")
    this.none = make("div", {class: "empty"})
    this.table = make("table", {}, make("thead", {}, make("tr", {}, ...COLUMNS.map(name => make("th", {scope: "col"}, name)))), this.body)
    this.node = make("section", {class: "panel", "aria-label": "Recent failures"}, make("div", {class: "head"}, make("h2", {}, "Recent failures"), this.note),
      make("div", {class: "table", "data-testid": "failures", tabindex: "0", role: "region", "aria-label": "Recent failures, table"}, this.table, this.none))
    this.take(null)
  }

  take(rows) {
    this.table.hidden = !rows?.length
    this.none.hidden = Boolean(rows?.length)
    this.none.replaceChildren(...(rows ? [make("b", {}, "No failures"), "Nothing has failed in the last 24 hours."] : ["Waiting for the warehouse…"]))
    this.body.replaceChildren(...(rows || []).map(row => {
      const what = [KINDS[row.kind] || row.kind || "–", row.name].filter(Boolean).join(" · ") + (row.count > 1 ? ` × ${count(row.count)}` : "")
      return make("tr", {},
        make("td", {class: "num"}, moment(row.at)), make("td", {}, row.agent || "–"), make("td", {}, what),
        make("td", {class: "fail"}, row.type || "–"), make("td", {class: "wide"}, (row.message || "").slice(0, 240)), make("td", {class: "mono muted run", title: row.run}, (row.run || "–").slice(0, 18)))
    }))
  }
}

const VIEWS = [["model", "By model"], ["agent", "By agent"]]

export class Spend {
  constructor() {
    this.data = {}; this.view = "model"; this.p95 = {}
    this.note = make("span", {class: "note", "data-testid": "spend-note"})
    this.rows = make("div", {class: "rows num", "data-testid": "spend"})
    this.segments = make("div", {class: "segments", role: "group", "aria-label": "Spend by"})
    for (const [value, label] of VIEWS) this.segments.append(make("button", {"data-view": value, "aria-pressed": value === "model", "data-testid": `spend-by-${value}`}, label))
    this.segments.addEventListener("click", event => {
      const button = event.target.closest("button")
      if (!button) return
      this.view = button.dataset.view
      for (const one of this.segments.children) one.setAttribute("aria-pressed", String(one === button))
      this.draw()
    })
    this.days = make("div", {class: "days num", "data-testid": "spend-days"})
    this.history = make("div", {class: "last", hidden: ""}, make("h3", {}, "Last 14 days"), this.days)
    this.node = make("section", {class: "panel", "aria-label": "Spend"}, make("div", {class: "head"}, make("h2", {}, "Spend"), this.note), make("div", {class: "spend"}, this.segments, this.rows, this.history))
    this.draw()
  }

  take(by, rows) { if (by === "day") this.drawDays(rows); else { this.data[by] = rows; if (by === this.view) this.draw() } }
  speeds(p95) { this.p95 = p95; if (this.view === "model") this.draw() }

  draw() {
    const rows = this.data[this.view]
    put(this.note, this.note.classList.contains("bad") ? this.note.textContent : "last 24 hours")
    if (!rows?.length) {
      this.rows.replaceChildren(make("div", {class: "empty"}, ...(rows ? [make("b", {}, "Nothing spent"), "Billed model calls appear here seconds after they are made."] : ["Waiting for the warehouse…"])))
      return
    }
    const most = Math.max(...rows.map(row => Number(row.cost)), 1e-12)
    this.rows.replaceChildren(...rows.map(row => {
      const bar = make("i"); bar.style.width = `${100 * Number(row.cost) / most}%`
      const foot = make("span", {class: "foot"}, [`${compact(row.tokens)} tokens`, `${count(row.calls)} calls`, this.view === "model" && this.p95[row.label] ? `p95 ${ms(this.p95[row.label])}` : null].filter(Boolean).join(" · "))
      if (row.unpriced) foot.append(" · ", make("em", {}, `${count(row.unpriced)} unpriced`))
      return make("div", {class: "spender"}, make("span", {class: "label", title: row.label}, row.label), make("b", {}, usd(row.cost)), make("span", {class: "track"}, bar), foot)
    }))
  }

  drawDays(rows) {
    const most = Math.max(...rows.map(row => Number(row.cost)), 1e-12)
    this.history.hidden = !rows.length
    this.days.replaceChildren(...rows.slice(-14).map(row => {
      const bar = make("i"); bar.style.height = `${Math.max(2, 74 * Number(row.cost) / most)}px`
      return make("div", {title: `${row.label}: ${usd(row.cost)}, ${compact(row.tokens)} tokens`}, rows.length <= 7 ? usd(row.cost) : "", bar, row.label.slice(8, 10) || row.label)
    }))
  }
}
