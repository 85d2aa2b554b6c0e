"""Events and alarms, and their delivery by mail and webhook."""
