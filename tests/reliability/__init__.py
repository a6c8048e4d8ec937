"""What must hold when machines, files and users misbehave. Faults come from outside; nothing of ours is patched."""
