"""New inventories, and the keys of their servers."""
