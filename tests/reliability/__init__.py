"""What must hold when machines, files and users misbehave; faults come from outside, never by patching functions."""
