// Budgets: spent of the limit, what was reached, where it goes, and whether doors refuse right now.
import {count, flag, make, moment, put, span, usd} from "./text.js"

const AT_LIMIT = {alert: "told only", deny: "doors refuse at the limit", stop: "agents stop at the limit"}

export class Budgets {
  constructor() {
    this.told = null; this.loaded = false
    this.note = make("span", {class: "note", "data-testid": "budgets-note"})
    this.list = make("div", {class: "rows num", role: "list", "data-testid": "budgets"})
    this.rest = make("p", {class: "rest", hidden: ""})
    this.node = make("section", {class: "panel", "aria-label": "Budgets"}, make("div", {class: "head"}, make("h2", {}, "Budgets"), this.note), make("div", {class: "budgets"}, this.list, this.rest))
    this.draw(Date.now())
  }

  take(told, now) { this.told = told; this.draw(now) }

  link(loaded, now) { if (loaded !== this.loaded) { this.loaded = loaded; this.draw(now) } }

  draw(now) {
    const told = this.told, rows = told?.rows || []
    const silent = told?.state === "silent" && rows.length > 0
    this.note.classList.toggle("bad", silent)
    put(this.note, silent ? "Budget processor not answering" : told?.over ? `${count(told.over)} at the limit` : "")
    this.note.title = silent ? `${told.message}; what is shown is its last answer` : ""
    this.rest.hidden = !(told?.total > rows.length)
    if (!this.rest.hidden) this.rest.replaceChildren(`and ${count(told.total - rows.length)} more: `, make("code", {}, "agentops budgets list"))
    if (!rows.length) {
      this.list.replaceChildren(make("div", {class: "empty", "data-testid": "budgets-empty"}, ...(this.loaded
        ? [make("b", {}, "No budgets"), "Set a limit, and see here how it stands:", make("code", {}, "agentops budgets set team-a ", make("span", {}, "--tenant demo"), " ", make("span", {}, "--limit 25"), " ", make("span", {}, "--period day"))] : ["Waiting for NATS…"])))
      return
    }
    this.list.replaceChildren(...rows.map(row => this.row(row, now)))
  }

  row(row, now) {
    const stands = row.standing, refuses = row.refuses_until !== null && row.refuses_until > now
    const node = make("div", {class: "budget", role: "listitem", "data-testid": `budget-${row.tenant}-${row.id}`})
    flag(node, "tone", row.tone)
    const bar = make("span", {class: "track", role: "meter", "aria-label": `Spent of ${row.id}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": stands ? Math.min(stands.percent, 100) : null, "aria-valuetext": stands ? `${stands.percent} %` : "unknown"})
    const filled = make("i"); filled.style.width = `${stands ? Math.max(0, Math.min(stands.percent, 100)) : 0}%`
    bar.append(filled)
    for (const threshold of row.thresholds) if (threshold < 100) { const tick = make("u"); tick.style.left = `${threshold}%`; bar.append(tick) }
    const reached = new Set((stands?.crossed || []).map(one => one.threshold))
    node.append(
      make("span", {class: "label", title: row.id}, row.id), make("b", {"data-testid": "spent"}, `${stands ? usd(stands.spent) : "–"}${stands && !stands.counted ? " …" : ""} of ${usd(row.limit)}`),
      make("span", {class: "about"}, `${row.tenant} · ${row.counts} · ${row.period}`, make("span", {class: "share"}, stands ? `${stands.percent} %` : "")),
      bar, make("span", {class: "foot"}, this.foot(row, now)),
      make("span", {class: "marks"}, ...row.thresholds.map(threshold => {
        const crossed = stands?.crossed.find(one => one.threshold === threshold)
        return make("span", {class: "mark", "data-reached": reached.has(threshold), title: crossed ? `reached ${moment(crossed.at)}` : "not reached"}, `${threshold} %`)
      }), make("span", {class: "act-at", "data-on": refuses || Boolean(stands?.enforced && row.enforcement === "stop"), title: row.reason, "data-testid": "enforcement"}, this.enforcement(row, refuses, now))))
    return node
  }

  foot(row, now) {
    const stands = row.standing
    if (!stands) return this.told.state === "answering" ? "Being taken over…" : this.told.state === "silent" ? "What is spent is unknown" : "Asking…"
    const ends = row.rolling || stands.ends <= now ? null : `ends in ${span(stands.ends - now)}`
    const where = stands.percent >= 100 ? "limit reached"
      : stands.limit_at === null ? row.rolling ? "limit will hold at this rate" : "limit will hold"
      : `limit in ${span(stands.limit_at - now)}`
    return [`${usd(stands.per_hour)}/h`, where, ends, stands.counted ? null : "still summing up"].filter(Boolean).join(" · ")
  }

  enforcement(row, refuses, now) {
    if (refuses) return row.rolling ? "Doors refuse now" : `Doors refuse until ${moment(row.refuses_until)}`
    if (row.standing?.enforced) return row.enforcement === "stop" ? "Agents stopped" : "Doors are about to refuse"
    return AT_LIMIT[row.enforcement] || row.enforcement
  }
}
