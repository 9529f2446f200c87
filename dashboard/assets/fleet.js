import {Card} from "./card.js"
import {count, make, put} from "./text.js"

const FEW = 24        // cards shown before "show all"
const CALM_MS = 2500  // cards keep their places while a pointer is at work among them
const FILTERS = [["all", "All"], ["unhealthy", "Unhealthy"], ["recovering", "Recovering"], ["healthy", "Healthy"], ["stopped", "Stopped"]]

export class Fleet {
  constructor(ask) {
    this.ask = ask
    this.cards = new Map(); this.asked = new Map(); this.filter = "all"; this.text = ""; this.all = false
    this.live = false; this.loaded = false; this.moved = 0; this.late = false
    this.node = make("section", {"aria-label": "Fleet"})
    this.title = make("small", {class: "num", "data-testid": "fleet-count"})
    this.input = make("input", {type: "search", placeholder: "Filter agents", "aria-label": "Filter agents", "data-testid": "fleet-filter"})
    this.segments = make("div", {class: "segments", role: "group", "aria-label": "Filter by state"})
    for (const [value, label] of FILTERS) this.segments.append(make("button", {"data-filter": value, "aria-pressed": value === "all", "data-testid": `filter-${value}`}, label, make("b")))
    this.grid = make("div", {class: "cards", role: "list", "data-testid": "fleet"})
    this.more = make("button", {class: "more", "data-testid": "fleet-more"})
    this.node.append(make("div", {class: "bar-tools"}, make("h2", {}, "Fleet", this.title), this.segments, this.input), this.grid, this.more)
    this.empty()
    this.listen()
  }

  listen() {
    this.input.addEventListener("input", () => { this.text = this.input.value.trim().toLowerCase(); this.sift() })
    this.segments.addEventListener("click", event => {
      const button = event.target.closest("button")
      if (!button) return
      this.filter = button.dataset.filter
      for (const one of this.segments.children) one.setAttribute("aria-pressed", String(one === button))
      this.sift()
    })
    this.more.addEventListener("click", () => { this.all = !this.all; this.sift() })
    this.grid.addEventListener("pointermove", () => { this.moved = Date.now() })
    this.grid.addEventListener("pointerleave", () => { this.moved = 0 })
    this.grid.addEventListener("click", event => {
      const button = event.target.closest("button[data-action]")
      if (!button || button.disabled) return
      const card = this.cards.get(button.closest(".card").dataset.key)
      let action = button.dataset.action
      if (action === "healing") action = card.view.healing ? "healing-off" : "healing-on"
      this.asked.set(card.key, Date.now())
      card.press(this.live, true)
      this.ask({action, agent: card.key})
    })
  }

  // Cards from a frame; a full one replaces all.
  take(frame, now) {
    if (frame.full) {
      const present = new Set(frame.cards.map(view => view.key))
      for (const key of [...this.cards.keys()]) if (!present.has(key)) this.drop(key)
    }
    for (const key of frame.gone || []) this.drop(key)
    for (const view of frame.cards || []) {
      let card = this.cards.get(view.key)
      if (!card) {
        card = new Card(view)
        card.node.dataset.key = view.key
        this.cards.set(view.key, card)
      }
      this.asked.delete(view.key)
      card.paint(view, now, this.live, false)
    }
    this.late = true
    this.settle()
  }

  drop(key) { this.cards.get(key)?.node.remove(); this.cards.delete(key); this.asked.delete(key) }

  // Order, unless a pointer is at work; then a little later.
  settle() {
    if (this.late && Date.now() - this.moved > CALM_MS) {
      this.late = false
      const ordered = [...this.cards.values()].sort((a, b) => a.view.rank - b.view.rank || a.view.name.localeCompare(b.view.name) || (a.key < b.key ? -1 : 1))
      let place = this.grid.firstChild
      for (const card of ordered) {
        if (card.node === place) place = place.nextSibling
        else this.grid.insertBefore(card.node, place)
      }
      this.ordered = ordered
    } else {
      for (const card of this.cards.values()) if (!card.node.parentNode) this.grid.append(card.node)
    }
    this.sift()
  }

  sift() {
    let shown = 0, fitting = 0
    const counts = {all: 0, unhealthy: 0, recovering: 0, healthy: 0, stopped: 0}
    for (const node of this.grid.children) {
      const card = this.cards.get(node.dataset.key)
      if (!card) continue
      const view = card.view, state = view.tone === "bad" ? "unhealthy" : view.health.toLowerCase()
      counts.all++; if (state in counts) counts[state]++
      const fits = (this.filter === "all" || this.filter === state) && (!this.text || `${view.name} ${view.id} ${view.version} ${view.kind} ${view.tenant}`.toLowerCase().includes(this.text))
      fitting += fits
      const visible = fits && (this.all || shown < FEW)
      shown += visible
      if (node.hidden === visible) node.hidden = !visible
    }
    put(this.title, count(counts.all))
    for (const button of this.segments.children) put(button.lastChild, String(counts[button.dataset.filter]))
    this.more.hidden = fitting <= FEW
    put(this.more, this.all ? "Show fewer" : `Show all ${count(fitting)} agents`)
    this.empty(fitting === 0)
  }

  empty(nothing = true) {
    for (const node of [...this.grid.children]) if (!node.dataset.key) node.remove()
    if (!this.loaded) { if (!this.cards.size) for (let k = 0; k < 2; k++) this.grid.append(make("div", {class: "ghost", "aria-hidden": "true"})); return }
    if (!nothing) return
    this.grid.append(this.cards.size ? make("div", {class: "empty"}, make("b", {}, "No agent fits the filter"))
      : make("div", {class: "empty", "data-testid": "fleet-empty"}, make("b", {}, "No agents yet"), "Agents appear here with their first heartbeat. Try ", make("code", {}, "agentops up --demo"), "."))
  }

  link(live, loaded) {
    if (live === this.live && loaded === this.loaded) return
    this.live = live; this.loaded = loaded
    for (const card of this.cards.values()) card.press(live, this.asked.has(card.key))
    this.sift()
  }

  second(now) {
    for (const [key, at] of this.asked) if (Date.now() - at > 5000) { this.asked.delete(key); this.cards.get(key)?.press(this.live, false) }
    for (const card of this.cards.values()) if (!card.node.hidden) card.time(now)
    if (this.late) this.settle()
  }

  refused() { for (const key of this.asked.keys()) this.cards.get(key)?.press(this.live, false); this.asked.clear() }
}
