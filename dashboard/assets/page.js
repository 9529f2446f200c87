// The whole page: one component, fed by frames that every tab gets alike.
import {Alerts} from "./alerts.js"
import {Audit} from "./audit.js"
import {Budgets} from "./budgets.js"
import {Connection} from "./connection.js"
import {Figures} from "./figures.js"
import {Fleet} from "./fleet.js"
import {Failures, Spend} from "./history.js"
import {eventsPlot, latencyPlot} from "./plots.js"
import {clock, make, put} from "./text.js"

const SUN = '<svg viewBox="0 0 24 24"><circle cx="12" cy="12" r="4.2"/><path d="M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"/></svg>'
const MOON = '<svg viewBox="0 0 24 24"><path d="M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z"/></svg>'
const PAINTED_MS = 1000
const TOAST_MS = 6000

export function draw(model) {
  const ask = message => model.send_msg(message)
  const connection = new Connection(), figures = new Figures(), fleet = new Fleet(ask), alerts = new Alerts(ask), failures = new Failures(), budgets = new Budgets(), spend = new Spend(), audit = new Audit()
  const events = eventsPlot(model.get_child("events_plot")), latency = latencyPlot(model.get_child("latency_plot"))
  const theme = make("button", {class: "round", "data-testid": "theme", "aria-label": "Switch between light and dark"})
  const time = make("span", {class: "clock num"})
  const toasts = make("div", {class: "toasts", role: "status", "aria-live": "polite", "data-testid": "toasts"})
  const mark = make("img", {src: `${model.assets}/mark.svg`, alt: "", width: 26, height: 26})
  const app = make("div", {class: "app"},
    make("header", {class: "top"}, mark, make("h1", {}, "AgentOps"), make("span", {class: "sub"}, "Live fleet"), make("span", {class: "space"}), time, connection.chip, theme),
    connection.banner,
    make("main", {class: "body"}, figures.node,
      make("div", {class: "columns"},
        make("div", {class: "left"}, make("div", {class: "plots"}, latency.node, events.node), fleet.node, failures.node),
        make("aside", {class: "right"}, alerts.node, budgets.node, spend.node, audit.node))),
    toasts)

  // Time on the server's clock: a laptop's own may be wrong.
  let ahead = 0, sequence = 0, painted = 0, paintedAt = 0, planned = false
  const waiting = []
  let coloured = false, listening = false, known = null
  const now = () => Date.now() + ahead

  function toast({ok, text}) {
    const node = make("div", {class: "toast", "data-ok": String(ok), "data-testid": "toast"}, text)
    toasts.append(node)
    while (toasts.children.length > 4) toasts.firstChild.remove()
    setTimeout(() => node.remove(), TOAST_MS)
  }

  function warehouse(told) {
    const silent = told.state === "silent"
    app.dataset.warehouse = told.state
    for (const note of [failures.note, spend.note, events.note]) {
      note.classList.toggle("bad", silent)
      put(note, silent ? "Warehouse not answering" : "")
      note.title = silent ? `${told.message}; what is shown is its last answer` : ""
    }
    if (!silent) { put(failures.note, told.state === "answering" ? "last 24 hours" : ""); spend.draw() }
    events.empty(silent ? "The warehouse is not answering. Live states and latency go on without it." : "Waiting for the warehouse…")
  }

  function take(frame) {
    connection.take(frame)
    fleet.link(connection.live, connection.told.loaded)
    alerts.link(connection.live, connection.told.loaded, now())
    app.classList.toggle("stale", !connection.live && connection.told.loaded)
    if (frame.full || frame.cards || frame.gone) fleet.take(frame, now())
    if (frame.alerts) alerts.take(frame.alerts, now())
    if (frame.figures) known = frame.figures
    if (known && (frame.figures || frame.link)) figures.take(known, connection.told.loaded)
    if (frame.warehouse) warehouse(frame.warehouse)
    if (frame.latency) latency.add(frame.latency, frame.full)
    if (frame.events) throughput.events = frame.events
    if (frame.errors) throughput.errors = new Map(frame.errors)
    if (frame.events || frame.errors) throughput.draw()
    if (frame.failures) failures.take(frame.failures)
    if (frame.budgets) budgets.take(frame.budgets, now())
    if (frame.link) budgets.link(connection.told.loaded, now())
    if (frame.audit) audit.take(frame.audit)
    for (const by of ["model", "agent", "day"]) if (frame[`spend_${by}`]) spend.take(by, frame[`spend_${by}`])
    if (frame.model_latency) spend.speeds(frame.model_latency)
    connection.second(now())
  }

  const throughput = {
    events: [], errors: new Map(),
    draw() { events.add(this.events.map(([at, value]) => [at, value, this.errors.get(at) ?? 0]), true) },
  }

  function paint() {
    planned = false
    for (const frame of waiting.splice(0)) take(frame)
    coloured ||= latency.colour() && events.colour()
    if (!listening) {
      listening = true
      for (const shown of window.Bokeh.documents) shown.on_event("connection_lost", () => { connection.lost(); connection.second(now()) })
    }
    const moment = Date.now()
    app.dataset.frames = sequence
    if (sequence !== painted && moment - paintedAt > PAINTED_MS) {
      painted = sequence; paintedAt = moment
      ask({painted})
    }
  }

  model.on("msg:custom", text => {
    const message = JSON.parse(text)
    if (message.toast) { toast(message.toast); fleet.refused() }
    if (message.acknowledged) alerts.answered(message.acknowledged, now())
    if (message.t === undefined) return
    ahead = message.t - Date.now()
    sequence = message.seq
    if (message.full) waiting.length = 0
    waiting.push(message)
    connection.heard = Date.now()
    if (!planned) { planned = true; requestAnimationFrame(paint) }
  })

  function colour() {
    const dark = document.documentElement.dataset.theme === "dark"
    theme.innerHTML = dark ? SUN : MOON
    theme.setAttribute("aria-pressed", String(dark))
    coloured = latency.colour() && events.colour()
  }
  theme.addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark"
    document.documentElement.dataset.theme = next
    try { localStorage.setItem("agentops-theme", next) } catch { /* storage may be forbidden */ }
    colour()
  })
  colour()

  let ticks = 0
  const clockwork = setInterval(() => {
    put(time, clock(now()))
    connection.second(now())
    audit.second(now())
    app.classList.toggle("stale", !connection.live && connection.told.loaded)
    fleet.link(connection.live, connection.told.loaded)
    alerts.link(connection.live, connection.told.loaded, now())
    if (document.hidden) return
    fleet.second(now())
    if (++ticks % 10 === 0) { alerts.draw(now()); budgets.draw(now()) }
    if (!coloured) colour()
  }, 1000)
  const seen = () => { if (!document.hidden) { paintedAt = Date.now(); ask({painted: sequence}) } }
  document.addEventListener("visibilitychange", seen)
  model.on("remove", () => { clearInterval(clockwork); document.removeEventListener("visibilitychange", seen) })

  document.getElementById("boot")?.remove()
  const style = make("link", {rel: "stylesheet", href: `${model.assets}/page.css`})
  // Being able to listen is said first: what the server sent before would be lost.
  ask({painted: 0})
  const root = make("div", {}, style, app)
  return root
}
