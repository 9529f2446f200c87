// Whether what is shown is true right now: NATS as the server tells it, the server as its silence tells it.
import {flag, make, put, span} from "./text.js"

const SILENT_MS = 6000     // the server sends a sign of life every two seconds
const FORGOTTEN_MS = 15000 // it is there, but no longer knows this tab
const WORDS = {connecting: "Connecting", live: "Live", away: "NATS away", late: "Delayed", cut: "Cut off"}

export class Connection {
  constructor() {
    this.chip = make("span", {class: "link", role: "status", "data-state": "connecting", "data-testid": "link"}, WORDS.connecting)
    this.banner = make("div", {class: "banner", role: "alert", "data-testid": "banner", hidden: ""})
    this.told = {state: "connecting", since: null, message: "", loaded: false}
    this.heard = Date.now(); this.late = 0; this.cut = false; this.probing = false
    document.addEventListener("visibilitychange", () => { this.heard = Date.now() })
  }

  get live() { return this.told.state === "live" && !this.cut }

  take(frame) {
    this.heard = Date.now()
    this.cut = false
    if (frame.link) this.told = frame.link
    if (frame.late) this.late = Date.now()
  }

  second(now) {
    if (!document.hidden && (this.cut || Date.now() - this.heard > SILENT_MS)) this.probe()
    const state = this.cut ? "cut" : this.told.state === "live" && Date.now() - this.late < 5000 ? "late" : this.told.state
    flag(this.chip, "state", state)
    put(this.chip, state === "away" && this.told.since ? `${WORDS.away} · ${span(now - this.told.since)}` : WORDS[state])
    const message = this.cut ? "The dashboard does not answer. What you see is the last that was known; trying again…" : state === "late" ? "This machine is overloaded: the page is behind." : this.told.message
    put(this.banner, message)
    this.banner.hidden = !message
    flag(this.banner, "tone", state === "away" || state === "cut" ? "bad" : "warn")
  }

  // Bokeh's own connection closed: no need to wait for silence.
  lost() { this.cut = true; this.probe() }

  // The server is gone, or it is there and has forgotten this tab: then the page begins anew.
  async probe() {
    if (this.probing) return
    this.probing = true
    try {
      const answer = await fetch("healthz", {cache: "no-store", signal: AbortSignal.timeout(2000)})
      if (answer.ok && (this.cut || Date.now() - this.heard > FORGOTTEN_MS)) this.reload()
    } catch { this.cut = true }
    this.probing = false
  }

  reload() {
    const last = Number(sessionStorage.getItem("agentops-reload") || 0)
    if (Date.now() - last < 5000) return
    sessionStorage.setItem("agentops-reload", String(Date.now()))
    location.reload()
  }
}
