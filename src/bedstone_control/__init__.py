"""Check settings, make inventories and sign certificates on the controller."""
