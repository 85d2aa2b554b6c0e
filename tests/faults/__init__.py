"""What happens when an operation dies at any place: killed, cut from power, or failing."""
