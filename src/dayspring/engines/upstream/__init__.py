"""Models behind an OpenAI-compatible service: targets in order, failover, circuit breakers, plain errors."""
