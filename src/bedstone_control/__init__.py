"""What runs on the operator's machine: settings, checks, new inventories, certificates."""
