"""From an fp32 graph to a smaller, faster one that gives the same labels."""
