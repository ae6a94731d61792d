"""Questions about the world, each a folder with `study.yaml` and, where cells need more than a grid, `cells.py`.

`python -m studies.questions NAME` runs what is missing and writes the page. Nothing here is in the wheel.
"""
