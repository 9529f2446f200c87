import {make, moment, put, span} from "./text.js"

export class Alerts {
  constructor(ask) {
    this.rows = []; this.asked = new Set(); this.live = false; this.loaded = false
    this.note = make("span", {class: "note num", "data-testid": "alerts-note"})
    this.list = make("div", {class: "alerts", role: "list", "aria-live": "polite", "data-testid": "alerts"})
    this.node = make("section", {class: "panel alarms", "aria-label": "Alerts"}, make("div", {class: "head"}, make("h2", {}, "Alerts"), this.note), this.list)
    this.list.addEventListener("click", event => {
      const button = event.target.closest("button.ack")
      if (!button || button.disabled) return
      this.asked.add(button.dataset.alert)
      button.disabled = true
      put(button, "Noting…")
      ask({action: "acknowledge", alert: button.dataset.alert})
    })
  }

  take(rows, now) { this.rows = rows; this.draw(now) }

  answered(alert, now) { this.asked.delete(alert); this.draw(now) }

  link(live, loaded, now) { if (live !== this.live || loaded !== this.loaded) { this.live = live; this.loaded = loaded; this.draw(now) } }

  draw(now) {
    const open = this.rows.filter(row => row.state === "firing").length, seen = this.rows.filter(row => row.state === "acknowledged").length
    put(this.note, open || seen ? [open ? `${open} firing` : null, seen ? `${seen} acknowledged` : null].filter(Boolean).join(" · ") : "")
    if (!this.rows.length) {
      this.list.replaceChildren(make("div", {class: "empty"}, ...(this.loaded ? [make("b", {}, "All quiet"), "Alerts appear here the moment a rule fires."] : ["Waiting for NATS…"])))
      return
    }
    this.list.replaceChildren(...this.rows.map(row => this.row(row, now)))
  }

  row(row, now) {
    const node = make("div", {class: "alert", role: "listitem", "data-testid": `alert-${row.rule}-${row.agent}`, "data-severity": row.severity, "data-state": row.state})
    node.append(make("span", {class: "what"}, row.summary || `${row.rule} on ${row.agent}`))
    if (row.state === "firing") {
      const asked = this.asked.has(row.id)
      const button = make("button", {class: "ack", "data-testid": `ack-${row.id}`, "data-alert": row.id, "aria-label": `Acknowledge ${row.rule} on ${row.agent}`}, asked ? "Noting…" : "Acknowledge")
      button.disabled = asked || !this.live
      node.append(button)
    }
    const length = row.state === "resolved" ? `after ${span(row.at - row.started)}` : `for ${span(now - row.started)}`
    node.append(make("span", {class: "kind num"}, make("b", {}, row.state), [row.severity, row.agent, moment(row.state === "resolved" ? row.at : row.started), length, row.episodes > 1 ? `${row.episodes}×` : null].filter(Boolean).join(" · ")))
    if (row.by) node.append(make("span", {class: "by"}, `acknowledged by ${row.by}`))
    return node
  }
}
