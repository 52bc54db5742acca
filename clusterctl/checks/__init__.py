"""Rules that judge what the hosts told: each a code, a severity, a symptom and a fix. Pure."""
