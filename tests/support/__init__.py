"""What the tests stand on: the watchdog, the leak census, process listings."""
