"""Large libraries: `make libs` installs them, for itself, and runs these."""
