// Runs before anything is painted, so that a dark page never flashes white.
(() => {
  let kept = null
  try { kept = localStorage.getItem("agentops-theme") } catch { /* storage may be forbidden */ }
  const dark = kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches
  document.documentElement.dataset.theme = dark ? "dark" : "light"
})()
