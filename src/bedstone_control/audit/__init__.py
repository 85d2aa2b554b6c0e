"""Compare what servers answer on the network with what the inventory says."""
