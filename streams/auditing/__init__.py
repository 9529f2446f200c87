"""The audit's parts: what is to be audited, the ranges that makes, what the streams say, what the warehouse says, and the sums."""
