"""The rig of `studies/faults.py`: a small world of files, every command over it, and a launcher that starts commands quickly."""
