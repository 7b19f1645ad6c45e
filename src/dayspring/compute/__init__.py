"""Where models run: devices, worker processes, placement, fair metering."""
