"""Price books and what a call costs by them: values, matching rules and sums. Pure; who keeps and changes them is elsewhere."""
