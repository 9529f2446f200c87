// Numbers and times as people read them. Everything goes to the page as text, never as markup.
const whole = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0})
const one = new Intl.NumberFormat("en-US", {maximumFractionDigits: 1})
const few = new Intl.NumberFormat("en-US", {notation: "compact", maximumFractionDigits: 1})
const none = "–"
const is = v => v !== null && v !== undefined && Number.isFinite(Number(v))

export const count = v => is(v) ? whole.format(v) : none
export const compact = v => is(v) ? (Math.abs(v) < 10000 ? whole.format(v) : few.format(v)) : none
export const rate = v => is(v) ? (v < 100 ? one.format(v) : whole.format(v)) : none
export const ms = v => is(v) ? (v > 0 && v < 0.5 ? "<1 ms" : `${whole.format(v)} ms`) : none
export const percent = v => is(v) ? `${one.format(v * 100)} %` : none
export const share = v => is(v) ? `${one.format(v)} %` : none
export const megabytes = v => is(v) ? `${whole.format(v / 1048576)} MB` : none
export const seconds = v => is(v) ? (v < 100 ? `${one.format(v)} s` : span(v * 1000)) : none

export function usd(v) {
  if (!is(v)) return none
  const n = Number(v), size = Math.abs(n)
  return "$" + n.toLocaleString("en-US", size === 0 || size >= 1 ? {minimumFractionDigits: 2, maximumFractionDigits: 2}
    : {minimumFractionDigits: 2, maximumFractionDigits: size < 0.001 ? 6 : 4})
}

export function span(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min` : `${Math.floor(s / 86400)} d`
}

export const countdown = milliseconds => {
  const s = Math.max(0, Math.ceil(milliseconds / 1000))
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`
}

export const clock = at => is(at) ? new Date(at).toLocaleTimeString("en-GB") : none
export const moment = at => {
  if (!is(at)) return none
  const when = new Date(at)
  return when.toDateString() === new Date().toDateString() ? clock(at) : `${when.toLocaleDateString("en-GB", {day: "numeric", month: "short"})} ${clock(at).slice(0, 5)}`
}

// Writes only what differs: a browser lays out again even for the same text.
export const put = (node, text) => { if (node.textContent !== text) node.textContent = text }
export const flag = (node, name, value) => { const text = String(value); if (node.dataset[name] !== text) node.dataset[name] = text }

// An element from a tag, attributes and children; strings become text.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value)
  node.append(...children)
  return node
}
