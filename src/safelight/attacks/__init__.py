"""Ways in which attackers get around guardrails, to measure how well these hold."""
