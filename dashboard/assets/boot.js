// Watches over the page until it is drawn: says what is happening, and begins anew where it cannot go on.
(() => {
  const SLOW_MS = 5000            // until then "Opening the fleet…" says enough
  const STUCK_MS = 30000          // everything has arrived that long ago, and still nothing is drawn
  const PAUSES_S = [1, 5, 15, 30, 60] // before the first, second … reload in a row
  const AGAIN_S = 5               // the server did not answer
  const KEY = "agentops-boot"     // how many reloads in a row; this tab's alone
  const WHY = {
    refused: "The dashboard no longer knows this page.",
    part: "Part of the page did not arrive.",
    stuck: "The page does not open.",
    silent: "The dashboard does not answer.",
  }
  const began = Date.now()
  let arrived = null, why = null, due = 0, asking = false

  // Without storage nothing can be counted: then as slowly as it gets.
  const reloads = () => { try { return Number(sessionStorage.getItem(KEY) || 0) } catch { return PAUSES_S.length } }
  const count = n => { try { if (n) sessionStorage.setItem(KEY, String(n)); else sessionStorage.removeItem(KEY) } catch { /* storage may be forbidden */ } }

  function fail(how) {
    if (why !== null) return
    why = how
    due = Date.now() + 1000 * PAUSES_S[Math.min(reloads(), PAUSES_S.length - 1)]
    look()
  }

  async function anew() {
    if (asking) return
    asking = true
    try {
      if (!(await fetch("healthz", {cache: "no-store", signal: AbortSignal.timeout(4000)})).ok) throw new Error("not well")
      count(reloads() + 1)
      location.reload()
    } catch {
      why = "silent"
      due = Date.now() + 1000 * AGAIN_S
      asking = false
    }
  }

  function look() {
    const boot = document.getElementById("boot"), now = Date.now()
    if (!boot) {
      if (document.readyState !== "loading") end()
      return
    }
    if (why === null && arrived !== null && now - arrived > STUCK_MS) { fail("stuck"); return }
    const left = Math.ceil((due - now) / 1000), passed = Math.round((now - began) / 1000)
    const log = why === "refused" && reloads() > 1 ? "Its log says why (tab.refused). " : ""
    const text = why !== null ? `${WHY[why]} ${log}${left > 0 ? `Opening it anew in ${left} s…` : "Opening it anew…"}`
      : now - began > SLOW_MS ? `Opening the fleet… ${passed} s. The first visit has much to fetch, later ones do not.` : null
    const line = boot.querySelector("p")
    if (text !== null && line.textContent !== text) line.textContent = text
    if (why !== null && left <= 0) anew()
  }

  // A page that is drawn looks after itself (connection.js).
  function end() {
    clearInterval(clockwork)
    removeEventListener("error", broke, true)
    window.WebSocket = Plain
    count(0)
  }

  // Bokeh tells nobody that its websocket was refused.
  const Plain = window.WebSocket
  window.WebSocket = class extends Plain {
    constructor(...given) {
      super(...given)
      this.addEventListener("close", () => fail("refused"))
    }
  }
  const broke = event => { if (event.target instanceof HTMLScriptElement || event.target.rel === "modulepreload") fail("part") }
  addEventListener("error", broke, true)
  addEventListener("load", () => { arrived = Date.now() })
  const clockwork = setInterval(look, 500)
})()
