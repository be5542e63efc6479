"""What a server tells OpenTelemetry: traces of calls, and its metrics; nothing of it is imported without the wish."""
