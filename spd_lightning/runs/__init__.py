"""What a run leaves on disk: its checkpoints, record and verdict, and which runs are still to be made."""
