"""The metering proxy under load: a provider that costs little, callers that cost little, and what stands between them."""
