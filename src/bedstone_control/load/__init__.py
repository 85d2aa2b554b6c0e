"""Send requests to an app of an inventory at a fixed rate, and tell how it answered."""
