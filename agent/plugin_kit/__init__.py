"""For those who write experts: a package to begin with (`new.py`) and a test of any expert (`check.py`)."""
