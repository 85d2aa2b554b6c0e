"""What every other package stands on: errors, files, processes, locks, clocks."""
