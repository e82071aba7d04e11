"""Which models are in memory: what each needs, what a node has, who makes room, who waits."""
