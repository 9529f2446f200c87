"""The live page: one hub reads NATS for everybody, a page model without Panel decides what is shown, Panel carries it to the tabs."""
