import {compact, count, countdown, flag, make, megabytes, ms, percent, put, rate, seconds, share, span, usd} from "./text.js"

const SHAPE = `
<header><div class="who"><span class="name"></span><span class="ids"></span></div>
<div><span class="chip"></span><div class="status"></div></div></header>
<div class="reason"></div>
<div class="live"><div class="big"><b class="num"></b><span>latency</span></div>
<svg class="spark" viewBox="0 0 100 44" preserveAspectRatio="none" aria-hidden="true"><path class="area"/><path class="stroke"/></svg></div>
<div class="measures num">
<div><b data-m="p95"></b><span>p95</span></div><div><b data-m="errors"></b><span>errors</span></div><div><b data-m="rps"></b><span>req/s</span></div>
<div><b data-m="cpu"></b><span>CPU</span></div><div><b data-m="memory"></b><span>memory</span></div><div><b data-m="cost"></b><span>spend 24 h</span></div></div>
<div class="notes"></div><span class="grow"></span>
<div class="buttons" role="group" aria-label="Faults">
<button class="act harm" data-action="inject-latency">Inject latency</button><button class="act harm" data-action="inject-error">Inject error</button><button class="act" data-action="clear">Clear</button></div>
<div class="buttons" role="group" aria-label="Control">
<button class="act cure" data-action="recover">Recover</button><button class="act" data-action="start">Start</button><button class="act" data-action="stop">Stop</button><button class="act" data-action="restart">Restart</button>
<button class="switch" role="switch" data-action="healing"><span>Self-healing</span><i></i></button></div>`

const NEEDS = {"inject-latency": "inject", "inject-error": "inject", "clear": "clear", "recover": "recover", "start": "start", "stop": "stop", "restart": "restart", "healing": "healing"}
const HINTS = {
  "inject-latency": "Every request takes 2,500 ms longer, for 5 minutes", "inject-error": "Every request fails, for 5 minutes", "clear": "End all injected faults",
  "recover": "Clear faults, restart, and verify that it is healthy", "start": "Start the agent", "stop": "Stop the agent", "restart": "Restart the agent",
  "healing": "Restart by itself when unhealthy",
}
const SLOW_MS = 2000

export class Card {
  constructor(view) {
    this.key = view.key
    this.node = make("article", {class: "card", role: "listitem", "data-testid": `card-${view.id}`})
    this.node.innerHTML = SHAPE
    const find = selector => this.node.querySelector(selector)
    const name = (node, suffix) => { node.dataset.testid = `${view.id}-${suffix}`; return node }
    this.name = find(".name"); this.ids = find(".ids"); this.status = name(find(".status"), "status")
    this.chip = name(find(".chip"), "health"); this.reason = name(find(".reason"), "reason")
    this.big = find(".big"); this.latency = name(find(".big b"), "latency"); this.ofWhat = name(find(".big span"), "latency-of")
    this.measures = Object.fromEntries([...this.node.querySelectorAll("[data-m]")].map(b => [b.dataset.m, name(b, b.dataset.m)]))
    this.stroke = find(".stroke"); this.area = find(".area"); this.notes = name(find(".notes"), "notes")
    this.buttons = [...this.node.querySelectorAll("button")]
    for (const button of this.buttons) name(button, button.dataset.action).title = HINTS[button.dataset.action]
    this.healing = find(".switch")
    this.history = null
  }

  // asked: what was clicked here and not yet confirmed by the server.
  paint(view, now, live, asked) {
    this.view = view
    flag(this.node, "tone", view.tone)
    flag(this.node, "health", view.health)
    this.node.setAttribute("aria-label", `${view.name}: ${view.health}`)
    put(this.name, view.name)
    put(this.ids, [view.id !== view.name ? view.id : null, view.version ? (/^\d/.test(view.version) ? `v${view.version}` : view.version) : null, view.kind, view.tenant].filter(Boolean).join(" · "))
    put(this.chip, view.health)
    put(this.status, view.status)
    put(this.latency, ms(view.latency)); put(this.ofWhat, view.error_rate >= 1 ? "until it fails" : "latency")
    flag(this.big, "slow", view.latency >= SLOW_MS)
    const m = this.measures
    put(m.p95, ms(view.p95)); put(m.errors, percent(view.error_rate)); put(m.rps, rate(view.rps))
    put(m.cpu, share(view.cpu)); put(m.memory, megabytes(view.memory)); put(m.cost, usd(view.cost))
    flag(m.errors.parentNode, "bad", view.error_rate >= 0.05)
    m.cost.parentNode.title = view.runs === null ? "" : `${count(view.runs)} runs, ${compact(view.tokens)} tokens in 24 h`
    const failing = view.failing.filter(check => !view.reason?.includes(check.name)).map(check => `${check.name}: ${check.error}`)
    const why = [view.gave_up ? "Gave up restarting: a person is needed" : null, view.reason, ...failing].filter(Boolean).join("; ")
    put(this.reason, why); this.reason.hidden = !why; this.reason.title = why
    this.draw(view.history)
    this.press(live, asked)
    this.time(now)
  }

  press(live, asked) {
    const view = this.view, busy = Boolean(view.busy || asked)
    for (const button of this.buttons) {
      const action = button.dataset.action
      button.disabled = !live || busy || !view.actions[NEEDS[action]]
      if (!view.managed) button.title = "The agent manager does not know this agent"
    }
    this.healing.setAttribute("aria-checked", String(Boolean(view.healing)))
    this.node.setAttribute("aria-busy", String(busy))
  }

  // What passes with time alone: faults running out, ages.
  time(now) {
    const view = this.view, parts = []
    if (view.busy) parts.push(make("span", {class: "busy", "data-testid": `${view.id}-busy`}, `${view.busy}…`))
    for (const fault of view.faults) {
      if (fault.until !== null && fault.until <= now) continue
      const left = fault.until === null ? "ending" : countdown(fault.until - now)
      parts.push(make("span", {class: "fault", "data-testid": `${view.id}-fault-${fault.kind}`, title: fault.applied ? "in force" : "asked for, not yet confirmed by the sidecar"},
        fault.label, make("time", {}, fault.applied || fault.until === null ? left : `${left} …`)))
    }
    if (view.dropped) parts.push(make("span", {class: "lost", "data-testid": `${view.id}-dropped`}, `${count(view.dropped)} ${view.dropped === 1 ? "event" : "events"} given up: the sidecar's spool was full`))
    const incident = view.incident
    if (incident) {
      const line = make("span", {class: "times", title: incident.reason})
      line.append("Last incident: detected ", make("b", {"data-testid": `${view.id}-ttd`}, seconds(incident.ttd)), " · recovered ",
        make("b", {"data-testid": `${view.id}-ttr`}, incident.ttr === null && incident.recovered === null ? "not yet" : seconds(incident.ttr)))
      parts.push(line)
    } else if (!parts.length) {
      const quiet = view.beat === null ? "No heartbeat yet" : now - view.beat > 3000 * (view.interval || 5) ? `Last heartbeat ${span(now - view.beat)} ago` : `No incident so far`
      parts.push(make("span", {}, quiet))
    }
    const shown = parts.map(part => part.outerHTML).join("")
    if (shown !== this.shown) { this.shown = shown; this.notes.replaceChildren(...parts) }
  }

  draw(history) {
    const signature = history.join()
    if (signature === this.history) return
    this.history = signature
    if (history.length < 2) { this.stroke.removeAttribute("d"); this.area.removeAttribute("d"); return }
    const most = Math.max(...history), least = Math.min(...history)
    const range = Math.max(most - least, most * 0.4, 1), floor = Math.max(0, most - range)
    const step = 100 / (history.length - 1)
    const line = history.map((v, k) => `${(k * step).toFixed(1)} ${(41 - 37 * (v - floor) / range).toFixed(1)}`).join("L")
    this.stroke.setAttribute("d", "M" + line)
    this.area.setAttribute("d", `M${line}L100 44L0 44Z`)
  }
}
