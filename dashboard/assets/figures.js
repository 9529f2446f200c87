import {compact, count, flag, make, ms, percent, put, rate, usd} from "./text.js"

const HEADS = [["healthy", "healthy", "good"], ["unhealthy", "unhealthy", "bad"], ["recovering", "recovering", "warn"]]
const TILES = [
  ["events", "Events per second", f => rate(f.events_per_s), () => "last minute"],
  ["runs", "Runs, 24 h", f => compact(f.runs), f => f.failures === null ? "" : `${count(f.failures)} failures`],
  ["errors", "Error rate", f => percent(f.error_rate), f => f.error_rate === null ? "no requests now" : `of ${rate(f.requests_per_s)} requests/s`],
  ["p95", "Latency p95", f => ms(f.p95_ms), f => f.mean_ms === null ? "no requests now" : `mean ${ms(f.mean_ms)}`],
  ["tokens", "Tokens, 24 h", f => compact(f.tokens), () => "input and output"],
  ["spend", "Spend, 24 h", f => usd(f.cost), () => "from the ledger"],
  ["alerts", "Alerts firing", f => count(f.firing), f => f.firing ? "not acknowledged" : "all quiet", true],
]

export class Figures {
  constructor() {
    this.heads = {}; this.tiles = {}
    const heads = make("div", {class: "heads num"})
    for (const [key, label, tone] of HEADS) {
      const number = make("b", {"data-testid": `kpi-${key}`}, "–")
      this.heads[key] = make("div", {"data-tone": tone, "data-zero": "true"}, number, make("span", {}, label))
      heads.append(this.heads[key])
    }
    this.bar = make("div", {class: "bar", "aria-hidden": "true"})
    for (const tone of ["good", "warn", "bad", "idle"]) this.bar.append(make("i", {"data-tone": tone, style: "flex-grow:0"}))
    this.node = make("section", {class: "figures", "aria-label": "Key figures"}, make("div", {class: "panel figure heads-tile"}, heads, this.bar))
    for (const [key, label] of TILES) {
      const value = make("dd", {class: "num", "data-testid": `kpi-${key}`}, "–"), foot = make("div", {class: "foot"})
      this.tiles[key] = {tile: make("dl", {class: "panel figure", style: "margin:0"}, make("dt", {}, label), value, foot), value, foot}
      this.node.append(this.tiles[key].tile)
    }
  }

  // Before the buckets have been read a nought would be a guess.
  take(f, loaded) {
    for (const [key] of HEADS) { put(this.heads[key].firstChild, loaded ? count(f[key]) : "–"); flag(this.heads[key], "zero", !f[key]) }
    const parts = [f.healthy, f.recovering, f.unhealthy, f.stopped + f.other]
    parts.forEach((n, k) => { this.bar.children[k].style.flexGrow = n })
    for (const [key, , value, foot, live] of TILES) {
      const known = loaded || !live
      put(this.tiles[key].value, known ? value(f) : "–"); put(this.tiles[key].foot, known ? foot(f) : "")
    }
    this.tiles.alerts.tile.classList.toggle("alarm", f.firing > 0)
    this.tiles.errors.tile.classList.toggle("alarm", f.error_rate >= 0.05)
  }
}
