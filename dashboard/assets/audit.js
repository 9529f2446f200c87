// Whether everything of the last hour is accounted for, when that was looked at, and what to do where it is not.
import {count, flag, make, put, span} from "./text.js"

const TONES = {ok: "good", wrong: "bad", impossible: "warn", none: "idle"}

export class Audit {
  constructor() {
    this.note = make("span", {class: "note", "data-testid": "audit-note"})
    this.says = make("b", {"data-testid": "audit-says"})
    this.about = make("span", {class: "about"})
    this.refused = make("span", {class: "about", "data-testid": "audit-refused"})
    this.list = make("ul", {"data-testid": "audit-findings"})
    this.todo = make("p", {class: "todo", "data-testid": "audit-todo"})
    this.body = make("div", {class: "audit", "data-testid": "audit"}, make("div", {class: "verdict"}, this.says, this.about, this.refused), this.list, this.todo)
    this.node = make("section", {class: "panel audited", "aria-label": "Audit"}, make("div", {class: "head"}, make("h2", {}, "Audit"), this.note), this.body)
    this.take(null)
  }

  take(told) {
    this.told = told
    const state = told?.state ?? "none"
    flag(this.node, "state", state); flag(this.body, "tone", TONES[state])
    const wrong = told?.errors || 0, findings = told?.findings || []
    put(this.says, {ok: "Everything is accounted for", wrong: `${count(wrong)} ${wrong === 1 ? "thing does" : "things do"} not add up`, impossible: "Cannot be checked now", none: "Looking…"}[state])
    put(this.about, state === "ok" ? `${count(told.events)} events, ${count(told.entries)} charges: nothing missing, nothing twice` : state === "impossible" ? told.message : "")
    this.about.hidden = !this.about.textContent
    const refused = [told?.duplicates ? `${count(told.duplicates)} ${told.duplicates === 1 ? "duplicate" : "duplicates"} removed` : null,
      told?.dead ? `${count(told.dead)} refused, kept as dead letters` : null].filter(Boolean)
    put(this.refused, refused.join(" · ")); this.refused.hidden = !refused.length
    this.list.hidden = !findings.length
    this.list.replaceChildren(...findings.map(one => make("li", {"data-severity": one.severity}, one.message)), ...(told?.more ? [make("li", {class: "rest"}, `and ${count(told.more)} more`)] : []))
    this.todo.hidden = state !== "wrong" && state !== "impossible" && !findings.length
    this.todo.replaceChildren(...(state === "impossible" ? [make("code", {}, "agentops doctor"), " says which part is not well."]
      : [make("code", {}, "agentops audit --last 1h"), " tells all of it, and what to do."]))
    this.second(this.now ?? Date.now())
  }

  second(now) {
    this.now = now
    put(this.note, this.told ? `last hour · ${now - this.told.at < 60000 ? "just now" : `${span(now - this.told.at)} ago`}` : "last hour")
  }
}
