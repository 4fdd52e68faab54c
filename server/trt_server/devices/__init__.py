"""The devices that engines compute on: readings, peak rates, and the cores and memory a process may use."""
