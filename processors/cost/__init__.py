"""Prices every model call once: one ledger entry for each, computed from a versioned price book."""
