"""What the tests stand on: the watchdog, the leak census, process listings."""

START_METHODS = ["fork", "spawn", "forkserver"]
